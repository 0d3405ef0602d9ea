"""Image and mask together."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_train import augment


def place_image(height, width):
    """An image that tells of each pixel where it was: row, column, 0."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows, columns, 0 * rows], -1).astype(np.uint8)
    mask = ((rows + columns) % 2).astype(np.uint8)[..., None]
    return image, mask


@given(st.integers(-300, 300), st.integers(1, 40))
def test_mirrored_index_is_numpys_reflect(index, size):
    axis = np.pad(np.arange(size), 300, mode="reflect")
    assert augment.mirrored_index(tf.constant(index), size) == axis[index + 300]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 1000))
def test_window_is_the_middle_of_the_tile_and_outside_is_ignored(height, width, seed):
    image, mask = place_image(height, width)
    tile, target = augment.random_tile(
        image, mask, tile_size=30, margin=8, seed=tf.constant([seed, 1])
    )
    assert tile.shape == (30, 30, 3)
    assert target.shape == (14, 14, 1)
    tile, target = tile.numpy(), target.numpy()
    window = tile[8:22, 8:22]
    valid = target[..., 0] != 255
    rows, columns = window[..., 0].astype(int), window[..., 1].astype(int)
    # Pixels of the window carry the label of the very place that the image shows.
    np.testing.assert_array_equal(target[valid, 0], ((rows + columns) % 2)[valid])
    assert valid.sum() == min(height, 14) * min(width, 14)
    # Within the valid part, neighbours are neighbours of the image, in its order.
    inner = rows[np.ix_(valid.any(1), valid.any(0))]
    assert (np.diff(inner, axis=0) == 1).all()


def test_every_pixel_is_seen_and_the_border_as_well_as_the_middle():
    image, mask = place_image(40, 50)
    seen = np.zeros((40, 50), int)
    for seed in range(400):
        tile, _ = augment.random_tile(
            image, mask, tile_size=30, margin=8, seed=tf.constant([seed, 0])
        )
        window = tile.numpy()[8:22, 8:22]
        seen[window[..., 0], window[..., 1]] += 1
    assert seen.min() > 0
    middle = seen[14:26, 14:36].mean()
    border = np.concatenate([seen[0], seen[-1], seen[:, 0], seen[:, -1]]).mean()
    assert border > middle / 3


def test_mirror_keeps_image_and_mask_together():
    image, mask = place_image(4, 6)
    outcomes = set()
    for seed in range(20):
        mirrored, labels = augment.random_mirror(
            tf.constant(image), tf.constant(mask), tf.constant([seed, 0])
        )
        columns = mirrored.numpy()[0, :, 1].tolist()
        outcomes.add(tuple(columns))
        np.testing.assert_array_equal(labels, mask[:, columns])
    assert outcomes == {(0, 1, 2, 3, 4, 5), (5, 4, 3, 2, 1, 0)}


def test_masks_are_never_mixed():
    mask = np.random.default_rng(0).choice([0, 1, 255], (37, 41, 1)).astype(np.uint8)
    resized = augment.resize_mask(mask, (19, 64)).numpy()
    assert resized.shape == (19, 64, 1)
    assert set(np.unique(resized)) <= {0, 1, 255}


@pytest.mark.parametrize(
    ("shape", "longer", "expected"),
    [((480, 640), 320, (240, 320)), ((640, 3), 64, (64, 1)), ((10, 10), 25, (25, 25))],
)
def test_scaled_size(shape, longer, expected):
    assert tuple(augment.scaled_size(tf.constant(shape), longer).numpy()) == expected


def test_color_varies_within_its_strength_and_repeats():
    image = np.full((8, 8, 3), 100, np.uint8)
    seed = tf.constant([3, 4])
    varied = augment.random_color(image, 0.3, seed).numpy()
    assert 65 <= varied.mean() <= 135
    assert varied.mean() != 100
    np.testing.assert_array_equal(varied, augment.random_color(image, 0.3, seed))


def test_scale_is_symmetric_about_one():
    factors = np.array(
        [augment.random_scale(0.5, tf.constant([seed, 0])) for seed in range(500)]
    )
    assert factors.min() >= 1 / 1.5 - 1e-6
    assert factors.max() <= 1.5 + 1e-6
    assert abs((factors < 1).mean() - 0.5) < 0.1


def test_surroundings_of_the_window_are_the_images_mirrored():
    image, mask = place_image(40, 50)
    padded = np.pad(image, ((8, 8), (8, 8), (0, 0)), mode="reflect")
    for seed in range(20):
        tile, _ = augment.random_tile(
            image, mask, tile_size=30, margin=8, seed=tf.constant([seed, 2])
        )
        row, column = tile.numpy()[8, 8, :2].astype(int)
        np.testing.assert_array_equal(
            tile, padded[row : row + 30, column : column + 30]
        )


def test_image_and_mask_are_scaled_alike():
    mask = np.zeros((60, 80, 1), np.uint8)
    mask[10:30, 20:60] = 1
    image = np.repeat(mask * 200, 3, -1)
    size = augment.scaled_size(tf.constant(mask.shape), 33.0)
    small, labels = augment.resize_image(image, size), augment.resize_mask(mask, size)
    assert small.shape[:2] == labels.shape[:2] == (25, 33)
    disagree = (small.numpy()[..., 0] > 100) != (labels.numpy()[..., 0] == 1)
    assert disagree.mean() < 0.02


def test_shrinking_is_antialiased():
    checkerboard = place_image(40, 40)[1].repeat(3, -1) * 255
    small = augment.resize_image(checkerboard, (10, 10)).numpy()
    assert abs(small.astype(int) - 128).max() < 40
