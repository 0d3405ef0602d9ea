"""Tiles of one record: what is done to the image is done to its mask, and the same way.

The images are drawn so that their red channel tells the label of each pixel.
"""

import numpy as np
import pytest
import tensorflow as tf

from unet_train.data.tiles import make_tile
from unet_train.options import DataOptions

TILE, MARGIN = 24, 4
SEEDS = range(24)


@pytest.fixture(scope="module")
def record():
    """A square that lies in the upper left of an image as large as the window."""
    side = TILE - 2 * MARGIN
    mask = np.zeros((side, side, 1), np.uint8)
    mask[1:6, 2:6] = 1
    image = np.repeat(mask * 200, 3, axis=-1)
    return {
        "image": tf.io.encode_png(image),
        "segmentation_mask": tf.io.encode_png(mask),
    }


def tiles(records, **options):
    """A tile for each seed: its window of the image, and its mask."""
    options = DataOptions(tile_size=TILE, **{"mirror": False, **options})
    make = tf.function(
        lambda seed: make_tile(records, options, margin=MARGIN, seed=seed)
    )
    for seed in SEEDS:
        image, mask = make(tf.constant([seed, 7]))
        window = image[MARGIN : TILE - MARGIN, MARGIN : TILE - MARGIN]
        assert mask.shape == (*window.shape[:2], 1)
        yield window.numpy(), mask.numpy()[..., 0]


@pytest.mark.parametrize(
    ("options", "corners"),
    [
        ({}, {"upper left"}),
        ({"mirror": True}, {"upper left", "upper right"}),
        ({"flip": True}, {"upper left", "lower left"}),
        (
            {"mirror": True, "flip": True},
            {"upper left", "upper right", "lower left", "lower right"},
        ),
    ],
)
def test_image_and_mask_are_turned_together(record, options, corners):
    seen = set()
    for window, mask in tiles([record], **options):
        np.testing.assert_array_equal(window[..., 0] > 100, mask == 1)
        rows, columns = np.nonzero(mask == 1)
        vertical = "upper" if rows.mean() < len(mask) / 2 else "lower"
        horizontal = "left" if columns.mean() < len(mask) / 2 else "right"
        seen.add(f"{vertical} {horizontal}")
    assert seen == corners


@pytest.mark.parametrize(
    "options",
    [
        {"scale_jitter": 0.5},
        {"aspect_jitter": 0.5},
        {"rotation": 40.0},
        {"elastic": 3.0},
        {"image_size": 40},
    ],
)
def test_they_are_scaled_and_bent_together(record, options):
    """At the edge of the square a pixel may be on either side."""
    for window, mask in tiles([record], mirror=True, flip=True, **options):
        known = mask != 255
        differ = (window[..., 0] > 100) != (mask == 1)
        edge = sum(np.abs(each) for each in np.gradient((mask == 1).astype(float))) > 0
        assert not (differ & known & ~edge).any()


def test_what_is_pasted_brings_its_label(record):
    other = np.zeros((16, 16, 1), np.uint8)
    other[9:14, 9:14] = 1
    pasted = {
        "image": tf.io.encode_png(np.repeat(other * 250, 3, axis=-1)),
        "segmentation_mask": tf.io.encode_png(other),
    }
    counts = set()
    for window, mask in tiles([record, pasted], copy_paste=0.5):
        np.testing.assert_array_equal(window[..., 0] > 100, mask == 1)
        counts.add(int((mask == 1).sum()))
    assert counts == {20, 45}  # One square, or both.


def test_color_and_blur_leave_the_mask_alone(record):
    plain = [mask for _, mask in tiles([record])]
    varied = [mask for _, mask in tiles([record], color_jitter=0.5, blur=2.0)]
    np.testing.assert_array_equal(plain, varied)


def test_jitter_of_the_aspect_squeezes_as_likely_as_it_stretches(record):
    """The image is as large as the window: what it lacks after it is ignored."""
    sizes = [
        ((mask != 255).any(1).sum(), (mask != 255).any(0).sum())
        for _, mask in tiles([record], aspect_jitter=1.0)
    ]
    rows, columns = np.transpose(sizes)
    assert (np.maximum(rows, columns) == 16).all()
    for side in (rows, columns):
        assert side.min() in (11, 12)  # 16 over the root of two, or not much more.
        assert 4 <= (side < 16).sum() <= 20
