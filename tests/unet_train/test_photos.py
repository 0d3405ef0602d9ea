"""Photos as a person sees them."""

import pathlib

import numpy as np
import PIL.Image
import pytest

from unet_train import photos


def test_exif_orientation_is_applied(tmp_path):
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :20] = 255  # Bright on the left as stored.
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # Stored lying on its side: turn by 90 degrees clockwise.
    PIL.Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=95)
    photo = photos.read_photo(tmp_path / "a.jpg")
    assert photo.shape == (40, 20, 3)
    assert photo[:18].min() > 200
    assert photo[22:].max() < 50


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    PIL.Image.new("RGB", (5, 4), (200, 200, 200)).convert(mode).save(path)
    photo = photos.read_photo(path)
    assert photo.shape == (4, 5, 3)
    assert abs(photo.astype(int) - 200).max() <= 4


def test_sixteen_bits_are_scaled_to_eight(tmp_path):
    deep = np.linspace(0, 65535, 256).astype(np.uint16).reshape(1, 256)
    PIL.Image.fromarray(deep).save(tmp_path / "deep.png")
    photo = photos.read_photo(tmp_path / "deep.png")
    np.testing.assert_array_equal(photo[0, :, 0], deep[0] >> 8)


@pytest.mark.parametrize("content", [b"", b"not a picture"])
def test_unreadable_photo_is_named(tmp_path, content):
    (tmp_path / "bad.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.jpg is not a readable photo"):
        photos.read_photo(tmp_path / "bad.jpg")


def test_overlay_tints_the_mask_and_outlines_it():
    photo = np.full((30, 30, 3), 100, np.uint8)
    mask = np.zeros((30, 30), bool)
    mask[10:20, 10:20] = True
    drawn = photos.overlay(photo, mask)
    assert (drawn[~mask] == 100).all()
    assert (drawn[10, 10:20] == drawn[10, 10]).all()
    assert (drawn[15, 15] != drawn[10, 15]).any()
    assert (drawn[15, 15] != 100).any()


def test_overlay_of_nothing_is_the_photo():
    photo = np.full((9, 9, 3), 7, np.uint8)
    np.testing.assert_array_equal(photos.overlay(photo, np.zeros((9, 9), bool)), photo)


def paths(*names):
    return [pathlib.Path(name) for name in names]


def test_outputs_are_named_after_the_stem():
    targets = photos.output_paths(paths("in/a.jpg"), pathlib.Path("out"))
    assert list(targets.values()) == [
        tuple(paths("out/a_mask.png", "out/a_overlay.png"))
    ]


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (("a/x.jpg", "b/x.jpg"), "would both be written to"),
        (("out/x_mask.png", "y/x.jpg"), "would replace a photo"),
    ],
)
def test_nothing_is_written_twice_or_over_an_input(names, fault):
    with pytest.raises(ValueError, match=fault):
        photos.output_paths(paths(*names), pathlib.Path("out"))
