"""Tiles that are cut where there is something to find."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unet_train.data import cut
from unet_train.data.tiles import make_tile
from unet_train.options import DataOptions

TILE, MARGIN = 30, 8
WINDOW = slice(MARGIN, TILE - MARGIN)
PLACE = {"tile_size": TILE, "margin": MARGIN}
WARPS = [
    {"rotation": 180.0, "elastic": 0.0},
    {"rotation": 0.0, "elastic": 4.0},
    {"rotation": 45.0, "elastic": 2.0},
]


def image_of_places(height, width):
    """Each pixel tells its row and its column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, 0 * rows], -1).astype(np.uint8)


map_fn = tf.function(tf.map_fn)  # Eagerly each of a thousand calls would take its time.


def aims(mask, share, count):
    seeds = tf.stack([tf.range(count), tf.fill([count], 3)], 1)
    return map_fn(lambda seed: cut.random_aim(mask, share, seed), seeds).numpy()


def test_an_aim_is_any_pixel_of_the_foreground():
    mask = np.zeros((5, 7), np.uint8)
    mask[0, 6] = mask[2, 1:5] = mask[4, 0] = mask[4, 6] = 1
    mask[3] = 255
    seen = np.zeros((5, 7), int)
    np.add.at(seen, tuple(aims(mask, 1.0, 700).T), 1)
    np.testing.assert_array_equal(seen > 0, mask == 1)
    assert seen[seen > 0].min() > 65  # 100 each, standard deviation 9.
    assert seen.max() < 135


def test_there_is_one_as_often_as_asked_for():
    mask = np.ones((4, 4), np.uint8)
    found = aims(mask, 0.3, 600)
    assert ((found >= 0).all(1) | (found == -1).all(1)).all()
    assert (found >= 0).all(1).mean() == pytest.approx(0.3, abs=0.06)
    assert (aims(mask * 0, 1.0, 20) == -1).all()
    assert (aims(mask * 255, 1.0, 20) == -1).all()


@st.composite
def aimed(draw):
    """An image, a pixel of it, and a seed."""
    height, width = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    aim = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    return image_of_places(height, width), aim, draw(st.integers(0, 1000))


def mask_of_aim(image, aim):
    mask = np.zeros_like(image[..., :1])
    mask[aim] = 1
    return mask


@settings(max_examples=60, deadline=None)
@given(aimed())
def test_the_window_shows_it_and_lies_within_the_image(tile_of, drawn):
    image, aim, seed = drawn
    mask = mask_of_aim(image, aim)
    tile, labels = tile_of(image, mask, seed, foreground_share=1.0, **PLACE)
    (place,) = np.argwhere(labels[..., 0] == 1)
    assert tuple(tile[WINDOW, WINDOW][tuple(place)][:2]) == aim
    side = TILE - 2 * MARGIN
    known = min(len(image), side) * min(len(image[0]), side)
    assert (labels != 255).sum() == known


@settings(max_examples=60, deadline=None)
@given(aimed(), st.sampled_from(WARPS), st.booleans())
# Where pixel and weight were once from either side of a place.
@example((image_of_places(9, 1), (0, 0), 123), WARPS[0], False)
def test_a_warped_window_shows_it(tile_of, drawn, warp, flip):
    """Turned upside down as well, or not: both occur among the seeds."""
    image, aim, seed = drawn
    mask = mask_of_aim(image, aim)
    options = {**PLACE, **warp, "foreground_share": 1.0, "flip": flip}
    tile, labels = tile_of(image, mask, seed, **options)
    shown = tile[WINDOW, WINDOW][labels[..., 0] == 1][:, :2]
    assert (shown == aim).all(1).any()


def test_it_may_be_anywhere_in_the_window():
    """The window has 14 x 14 places, one as likely as the other."""
    aim = tf.constant([40, 45])

    def place(seed):
        start = cut.random_start(tf.constant([80, 90]), window=14, seed=seed, aim=aim)
        return aim - start

    seeds = tf.stack([tf.range(1400), tf.zeros(1400, tf.int32)], 1)
    found = map_fn(place, seeds).numpy()
    for axis in (0, 1):
        counts = np.bincount(found[:, axis], minlength=14)
        assert len(counts) == 14
        assert counts.min() > 60  # 100 each, standard deviation 10.


def test_an_image_smaller_than_the_window_may_be_anywhere_in_it(tile_of):
    image = image_of_places(6, 6)
    mask = mask_of_aim(image, (2, 5))
    corners = set()
    for seed in range(60):
        _, labels = tile_of(image, mask, seed, foreground_share=1.0, **PLACE)
        corners.add(tuple(np.argwhere(labels != 255)[0, :2]))
    for axis in (0, 1):
        assert {corner[axis] for corner in corners} == set(range(9))


@pytest.mark.parametrize("warp", [{}, *WARPS])
def test_without_an_aim_the_tile_is_the_plain_one(tile_of, warp):
    image = image_of_places(50, 60)
    mask = np.zeros_like(image[..., :1])
    plain = tile_of(image, mask, 4, **PLACE, **warp)
    found = tile_of(image, mask, 4, foreground_share=1.0, **PLACE, **warp)
    for one, other in zip(plain, found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "options", [{}, {"rotation": 30.0, "elastic": 2.0}, {"image_size": 300}]
)
def test_a_small_object_on_a_large_photo_is_seen(options):
    """It has a ten-thousandth of the pixels, and a window a two-hundredth."""
    mask = np.zeros((200, 200, 1), np.uint8)
    mask[150:152, 20:22] = 1
    record = {
        "image": tf.io.encode_png(mask.repeat(3, -1) * 200),
        "segmentation_mask": tf.io.encode_png(mask),
    }

    def seen(share):
        data = DataOptions(tile_size=TILE, foreground_share=share, **options)
        make = tf.function(
            lambda seed: make_tile([record], data, margin=MARGIN, seed=seed)[1]
        )
        return [(make(tf.constant([seed, 0])).numpy() == 1).any() for seed in range(80)]

    assert np.mean(seen(0.0)) < 0.1
    assert np.mean(seen(0.6)) == pytest.approx(0.6, abs=0.15)
    assert all(seen(1.0))
