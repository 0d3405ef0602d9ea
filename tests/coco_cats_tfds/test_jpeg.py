"""What passes as the JPEG of a record, and what TensorFlow makes of it."""

import io

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from coco_cats_tfds import CocoDataError
from coco_cats_tfds.annotations import Image
from coco_cats_tfds.jpeg import MAX_PIXELS, check_jpeg


def encoded(height=20, width=30, kind="JPEG", mode="RGB", **options):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def check(content, height=20, width=30):
    return check_jpeg(content, Image(7, "a.jpg", height, width), origin="x/a.jpg")


def with_orientation(value):
    exif = PIL.Image.Exif()
    exif[0x0112] = value
    return encoded(exif=exif)


@pytest.mark.parametrize(
    "content",
    [
        encoded(),
        encoded(progressive=True),
        encoded(mode="L"),
        encoded(mode="CMYK"),
        encoded(subsampling=0),
        encoded() + b"trailing",
    ],
    ids=["baseline", "progressive", "grey", "cmyk", "444", "trailing"],
)
def test_every_kind_of_jpeg_reads_as_rgb(content):
    assert check(content) is False
    assert tf.io.decode_image(content, channels=3).shape == (20, 30, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_noticed_and_not_applied(orientation):
    content = with_orientation(orientation)
    assert check(content) is (orientation != 1)
    assert tf.io.decode_image(content).shape == (20, 30, 3)


def test_a_size_recorded_as_the_viewer_turns_it():
    with pytest.raises(CocoDataError, match="Its EXIF orientation turns it"):
        check(with_orientation(6), height=30, width=20)


def test_other_size_than_recorded():
    with pytest.raises(CocoDataError, match=r"is 30 x 20 pixels, recorded as 20 x 30"):
        check(encoded(), height=30, width=20)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (encoded(kind="PNG"), "PNG"),
        (encoded(kind="WEBP"), "WEBP"),
        (encoded(kind="PNG", mode="I;16"), "PNG"),
    ],
    ids=["png", "webp", "16-bit"],
)
def test_not_a_jpeg(content, kind):
    with pytest.raises(CocoDataError, match=f"Image 7, .* not a JPEG but {kind}"):
        check(content)


@pytest.mark.parametrize("length", [0, 2, 10, 400, -2])
def test_cut_off_jpeg(length):
    with pytest.raises(
        CocoDataError, match=r"Image 7, x/a\.jpg, is not a JPEG (that|but)"
    ):
        check(encoded()[:length])


def test_a_damaged_segment_that_only_pillow_minds():
    content = encoded()
    assert content[2:4] == b"\xff\xe0"  # JFIF's segment, cut to two bytes.
    assert check(content[:2] + b"\xff\xe0\x00\x04JF" + content[20:]) is False


def test_a_picture_too_large_to_be_one():
    with pytest.raises(CocoDataError, match=rf"more than {MAX_PIXELS:,} are refused"):
        check(encoded(), height=65_535, width=65_535)


def test_a_decompression_bomb():
    """A few bytes that claim 65,000 x 65,000 pixels are never decoded."""
    content = bytearray(encoded())
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = b"\xff\x00\xff\x00"
    with pytest.raises(CocoDataError, match=r"Image 7, x/a\.jpg"):
        check(bytes(content))


BASES = [encoded(), encoded(progressive=True), encoded(mode="L"), encoded(mode="CMYK")]


@given(st.sampled_from(BASES), st.integers(0, 2000), st.binary(min_size=1, max_size=8))
@settings(max_examples=300, deadline=None)
def test_what_passes_can_be_read_back(base, position, damage):
    """Damaged anywhere, a file is refused or TensorFlow reads it, whole."""
    at = position % len(base)
    content = base[:at] + damage + base[at + len(damage) :]
    try:
        check(content)
    except CocoDataError:
        return
    decoded = tf.io.decode_image(content, channels=3, expand_animations=False)
    assert decoded.shape == (20, 30, 3)
