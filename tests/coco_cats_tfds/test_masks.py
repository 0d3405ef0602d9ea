"""Masks against pycocotools, and what it would do wrong with bad input."""

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from coco_cats_tfds import CocoDataError
from coco_cats_tfds.annotations import Annotation
from coco_cats_tfds.masks import decode_segmentation, decompress_counts, draw_mask

HEIGHT, WIDTH = 24, 32


def make(segmentation, *, iscrowd=0, id=5):
    raw = msgspec.Raw(json.dumps(segmentation).encode())
    return Annotation(id, 1, 17, raw, iscrowd)


def decode(segmentation):
    return decode_segmentation(make(segmentation), height=HEIGHT, width=WIDTH)


def pycocotools_mask(segmentation):
    """`COCO.annToMask`, the peer."""
    coco = COCO()
    coco.imgs = {1: {"height": HEIGHT, "width": WIDTH}}
    return coco.annToMask({"image_id": 1, "segmentation": segmentation}).astype(bool)


coordinate = st.floats(-10, 50, width=32)
polygon = st.integers(3, 12).flatmap(
    lambda points: st.lists(coordinate, min_size=2 * points, max_size=2 * points)
)
mask = hnp.arrays(np.bool_, (HEIGHT, WIDTH))


@given(st.lists(polygon, min_size=1, max_size=4))
def test_polygons_equal_pycocotools(polygons):
    np.testing.assert_array_equal(decode(polygons), pycocotools_mask(polygons))


@given(mask)
def test_both_kinds_of_rle_equal_the_mask_they_encode(expected):
    rle = coco_mask.encode(np.asfortranarray(expected.astype(np.uint8)))
    compressed = {"size": rle["size"], "counts": rle["counts"].decode()}
    counts = decompress_counts(compressed["counts"])
    np.testing.assert_array_equal(decode(compressed), expected)
    uncompressed = {"size": [HEIGHT, WIDTH], "counts": counts}
    np.testing.assert_array_equal(decode(uncompressed), expected)
    np.testing.assert_array_equal(pycocotools_mask(uncompressed), expected)


SQUARE = [[4.0, 4.0, 12.0, 4.0, 12.0, 12.0, 4.0, 12.0]]
WIDE = [[2.0, 6.0, 28.0, 6.0, 28.0, 10.0, 2.0, 10.0]]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_crowds_are_ignored_where_no_single_instance_covers_them(order):
    both = [make(SQUARE), make(WIDE, iscrowd=1)]
    drawn = draw_mask([both[i] for i in order], height=HEIGHT, width=WIDTH).mask
    single, crowd = decode(SQUARE), decode(WIDE)
    assert drawn.shape == (HEIGHT, WIDTH, 1)
    assert drawn.dtype == np.uint8
    np.testing.assert_array_equal(drawn[..., 0] == 1, single)
    np.testing.assert_array_equal(drawn[..., 0] == 255, crowd & ~single)


def test_crowds_as_foreground():
    annotations = [make(SQUARE), make(WIDE, iscrowd=1)]
    options = {"height": HEIGHT, "width": WIDTH}
    drawn = draw_mask(annotations, **options, crowd="foreground").mask
    np.testing.assert_array_equal(drawn[..., 0], decode(SQUARE) | decode(WIDE))
    drawn = draw_mask(annotations, **options, crowd="background").mask
    np.testing.assert_array_equal(drawn[..., 0], decode(SQUARE))


@pytest.mark.parametrize("crowd", ["ignore", "foreground", "background"])
def test_ignored_annotations_lie_under_all_others(crowd):
    size = {"height": HEIGHT, "width": WIDTH}
    drawn = draw_mask([make(SQUARE)], **size, crowd=crowd, ignored=[make(WIDE)]).mask
    expected = np.where(decode(WIDE), 255, 0)
    expected[decode(SQUARE)] = 1
    np.testing.assert_array_equal(drawn[..., 0], expected)


def test_what_covers_no_pixel_is_named():
    outside = [[100.0, 100.0, 120.0, 100.0, 120.0, 120.0]]
    annotations = [make(SQUARE, id=1), make(outside, id=2)]
    drawing = draw_mask(annotations, height=HEIGHT, width=WIDTH)
    assert drawing.unseen == (2,)
    np.testing.assert_array_equal(drawing.mask[..., 0], decode(SQUARE))


@pytest.mark.parametrize(
    ("segmentation", "fault"),
    [
        ([], "no polygons"),
        ([[1, 1, 5, 5]], "4 numbers"),  # pycocotools would draw a box.
        ([[1, 1, 5, 5, 9]], "5 numbers"),
        ([[1, 1, 5, 5, 9, 9, 3]], "7 numbers"),
        ([[1, 1, 5, 5, 9, "9"]], r"Expected `float`, got `str` - at `\$\[0\]\[5\]"),
        ([[1, 1, 5, 5, 9, True]], "Expected `float`, got `bool`"),
        ([[1, 1, 5, 5, 9, None]], "Expected `float`, got `null`"),
        ([1, 2, 3, 4, 5, 6], "Expected `array`, got `int`"),
        ([[1, 1, 5, 5, 1e300, 9]], "coordinate 1e\\+300"),
        ([[1, 1, 5, 5, float("nan"), 9]], "malformed"),
        ([[1, 1, 5, 5, float("-inf"), 9]], "malformed"),
        ([[0, 0, 9e4, 9e4] * 100], "outline of 35820000 pixels"),
        ("abc", "Expected `object \\| array`, got `str`"),
        (None, "Expected `object \\| array`, got `null`"),
        ({"size": [HEIGHT, WIDTH], "counts": [10, 5]}, "covers 15 of 768"),
        ({"size": [HEIGHT, WIDTH], "counts": [760, 500]}, "covers 1260 of 768"),
        ({"size": [HEIGHT, WIDTH], "counts": [-5, 773]}, "Expected `float` >= 0"),
        ({"size": [HEIGHT, WIDTH], "counts": [10.5, 757.5]}, "hold 10.5, which"),
        ({"size": [WIDTH, HEIGHT], "counts": [768]}, r"\[32, 24\] is not"),
        ({"size": [HEIGHT, WIDTH], "counts": "0\u00e4"}, "character"),
        ({"size": [HEIGHT, WIDTH], "counts": "o"}, "middle of a number"),
        ({"size": [HEIGHT, WIDTH], "counts": "o" * 99}, "more than 64 bits"),
        ({"size": [HEIGHT, WIDTH], "counts": [1e300]}, "covers"),
        ({"size": [HEIGHT, WIDTH], "counts": [2**70]}, "covers"),
        ({"size": [HEIGHT], "counts": [768]}, "length 2"),
        ({"size": [HEIGHT, WIDTH]}, "required field `counts`"),
    ],
)
def test_what_does_not_decode_is_named(segmentation, fault):
    with pytest.raises(CocoDataError, match=rf"Annotation 5 of image 1 .*{fault}"):
        decode(segmentation)


@given(st.text(max_size=40))
def test_any_string_of_counts_decodes_or_is_refused(text):
    try:
        drawn = decode({"size": [HEIGHT, WIDTH], "counts": text})
    except CocoDataError:
        return
    assert drawn.shape == (HEIGHT, WIDTH)


def runs(total):
    """Run lengths, zeros among them, that cover `total` pixels."""

    def cover(lengths):
        counts, left = [], total
        for length in lengths:
            counts.append(min(length, left))
            left -= counts[-1]
        return [*counts, left]

    return st.lists(st.integers(0, 60) | st.just(0), max_size=30).map(cover)


def plain_mask(counts):
    """Run lengths by numpy, column by column."""
    values = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return values.reshape(WIDTH, HEIGHT).T


@given(st.lists(runs(HEIGHT * WIDTH), min_size=1, max_size=4))
def test_unions_of_rles_with_empty_runs(lists):
    """pycocotools' own merging of these reads memory that is not its own."""
    annotations = [make({"size": [HEIGHT, WIDTH], "counts": each}) for each in lists]
    found = draw_mask(annotations, height=HEIGHT, width=WIDTH).mask[..., 0]
    expected = np.any([plain_mask(each) for each in lists], axis=0)
    np.testing.assert_array_equal(found, expected)
    for annotation, counts in zip(annotations, lists, strict=True):
        alone = decode_segmentation(annotation, height=HEIGHT, width=WIDTH)
        np.testing.assert_array_equal(alone, plain_mask(counts))
