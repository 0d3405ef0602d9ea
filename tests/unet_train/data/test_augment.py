"""Image and mask together."""

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_train.data import augment, cut


def place_image(height, width):
    """An image that tells of each pixel where it was: row, column, 0."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows, columns, 0 * rows], -1).astype(np.uint8)
    mask = ((rows + columns) % 2).astype(np.uint8)[..., None]
    return image, mask


@given(st.integers(-300, 300), st.integers(1, 40))
def test_mirrored_index_is_numpys_reflect(index, size):
    axis = np.pad(np.arange(size), 300, mode="reflect")
    assert cut.mirrored_index(tf.constant(index), size) == axis[index + 300]


@settings(max_examples=60)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 1000))
def test_window_is_the_middle_of_the_tile_and_outside_is_ignored(height, width, seed):
    image, mask = place_image(height, width)
    tile, target = cut.random_tile(
        image, mask, tile_size=30, margin=8, seed=tf.constant([seed, 1])
    )
    assert tile.shape == (30, 30, 3)
    assert target.shape == (30, 30, 1)
    tile, target = tile.numpy(), target.numpy()[8:22, 8:22]
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
        tile, _ = cut.random_tile(
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


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.7])
def test_an_aspect_keeps_the_area(factor):
    height, width = augment.scaled_size(tf.constant([300, 400]), 800.0, factor).numpy()
    assert width / height == pytest.approx(factor * 4 / 3, rel=0.01)
    assert width * height == pytest.approx(800 * 600, rel=0.01)


def test_color_varies_within_its_strength_and_repeats():
    image = np.full((8, 8, 3), 100, np.uint8)
    seed = tf.constant([3, 4])
    varied = augment.random_color(image, 0.3, seed).numpy()
    assert 65 <= varied.mean() <= 135
    assert varied.mean() != 100
    np.testing.assert_array_equal(varied, augment.random_color(image, 0.3, seed))


def test_color_is_brightness_then_contrast_then_saturation():
    image = np.random.default_rng(0).integers(60, 190, (9, 8, 3)).astype(np.uint8)
    seed = tf.constant([3, 4])
    bright, contrast, saturation = tf.random.stateless_uniform([3], seed, 0.8, 1.2)
    expected = image * float(bright)
    expected = expected.mean() + (expected - expected.mean()) * float(contrast)
    grey = expected.mean(-1, keepdims=True)
    expected = grey + (expected - grey) * float(saturation)
    varied = augment.random_color(image, 0.2, seed).numpy()
    np.testing.assert_allclose(varied, expected.clip(0, 255), atol=0.51)


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
        tile, _ = cut.random_tile(
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


def draw_blob(height=60, width=70):
    """A blob that image and mask agree on, far from symmetric."""
    rows, columns = np.mgrid[:height, :width]
    blob = ((rows - 20) ** 2 / 9 + (columns - 40) ** 2 < 60) | (rows > 50)
    mask = blob.astype(np.uint8)[..., None]
    return np.repeat(mask * 200, 3, -1), mask


def warp(image, mask, seed=0, **options):
    options = {"tile_size": 44, "margin": 4, "rotation": 0.0, "elastic": 0.0, **options}
    tile, labels = cut.random_warped_tile(
        image, mask, seed=tf.constant([seed, 5]), **options
    )
    return tile.numpy(), labels.numpy()


def test_bilinear_samples_are_scipys():
    image = np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)
    places = np.random.default_rng(1).uniform(-7, 20, (50, 2)).astype(np.float32)
    found = cut.sample_bilinear(image, places).numpy()
    for channel in range(3):
        expected = scipy.ndimage.map_coordinates(
            image[..., channel].astype(float), places.T, order=1, mode="mirror"
        )
        np.testing.assert_allclose(found[:, channel], expected, atol=0.51)


def test_a_warp_by_nothing_is_a_plain_tile():
    image, mask = place_image(60, 70)
    seed = tf.constant([0, 5])
    tile, labels = warp(image, mask)
    start = tf.random.split(seed, 3)[0]
    plain = cut.random_tile(image, mask, tile_size=44, margin=4, seed=start)
    np.testing.assert_array_equal(tile, plain[0])
    np.testing.assert_array_equal(labels, plain[1])


@pytest.mark.parametrize("options", [{"rotation": 180.0}, {"elastic": 4.0}])
@pytest.mark.parametrize("seed", range(8))
def test_image_and_mask_are_warped_alike(options, seed):
    image, mask = draw_blob()
    tile, labels = warp(image, mask, seed, **options)
    assert set(np.unique(labels)) <= {0, 1, 255}
    inside = labels != 255
    disagree = ((tile[..., :1] > 100) != (labels == 1)) & inside
    assert disagree.mean() < 0.02
    plain = warp(image, mask, seed)
    assert (tile != plain[0]).any()


def test_a_turned_tile_is_the_image_turned():
    """Against scipy, about the middle of the tile."""
    rows, columns = np.mgrid[:61, :61]
    image = np.stack([2 * rows, 2 * columns, 0 * rows], -1).astype(np.uint8)
    mask = np.zeros((61, 61, 1), np.uint8)
    tile, labels = warp(image, mask, 3, tile_size=61, margin=0, rotation=90.0)
    middle = tile[30, 30, :2] / 2  # The tile is as large as the image: not shifted.
    np.testing.assert_allclose(middle, [30, 30], atol=0.5)
    right = tile[30, 45, :2] / 2.0 - middle
    assert np.hypot(*right) == pytest.approx(15, abs=0.5)
    down = tile[45, 30, :2] / 2.0 - middle
    assert down @ right == pytest.approx(0, abs=8)
    assert right[1] * down[0] - right[0] * down[1] == pytest.approx(225, rel=0.05)
    places = np.stack(np.mgrid[:61, :61], -1) - 30
    # A place u is taken from R u: its columns are where down and right point.
    source = places @ np.array([down, right]) / 15 + 30
    margin = np.abs(source - 30).max(-1)
    outside = labels[..., 0] == 255
    assert outside[margin > 31.5].all()
    assert not outside[margin < 29.5].any()


def test_elastic_displacements_have_the_papers_size():
    """Standard deviation 10 at the nodes of a grid of 3 x 3; read off the image."""
    rows, columns = np.mgrid[:250, :250]
    image = np.stack([rows, columns, 0 * rows], -1).astype(np.uint8)
    mask = np.zeros((250, 250, 1), np.uint8)
    moves = []
    for seed in range(60):
        bent, _ = warp(image, mask, seed, tile_size=124, elastic=10.0)
        plain, _ = warp(image, mask, seed, tile_size=124)
        moves.append(bent[62, 62, :2].astype(int) - plain[62, 62, :2])
    assert np.std(moves) == pytest.approx(10, rel=0.25)
    assert abs(np.mean(moves)) < 3


def test_paste_takes_foreground_only():
    image, mask = draw_blob()
    other = np.full_like(image, 90)
    other_mask = np.zeros_like(mask)
    other_mask[:10, :10] = 1
    other_mask[10:20] = 255
    pasted, labels = augment.paste(image, mask, other, other_mask)
    assert (pasted.numpy()[:10, :10] == 90).all()
    assert (labels.numpy()[:10, :10] == 1).all()
    np.testing.assert_array_equal(pasted[10:], image[10:])
    np.testing.assert_array_equal(labels[10:], mask[10:])


def test_cutout_greys_and_ignores_one_rectangle():
    image, mask = draw_blob(50, 50)
    sizes = []
    for seed in range(40):
        cut, labels = (
            each.numpy()
            for each in augment.random_cutout(
                tf.constant(image), tf.constant(mask), 0.6, tf.constant([seed, 1])
            )
        )
        gone = labels[..., 0] == 255
        np.testing.assert_array_equal(gone, (cut == 127).all(-1))
        rows, columns = gone.any(1).sum(), gone.any(0).sum()
        assert gone.sum() == rows * columns
        sizes.append(max(rows, columns))
    assert 20 < max(sizes) <= 31
    assert min(sizes) < 20


def test_blur_is_a_gaussian():
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    # One that draws a strong blur, of which a kernel that is too short would be seen.
    seed = next(
        tf.constant([4, each])
        for each in range(99)
        if tf.random.stateless_uniform([], (4, each), 1e-3, 2.0) > 1.9
    )
    sigma = float(tf.random.stateless_uniform([], seed, 1e-3, 2.0))
    blurred = augment.random_blur(tf.constant(image), 2.0, seed).numpy()
    expected = scipy.ndimage.gaussian_filter(
        image.astype(float), (sigma, sigma, 0), mode="mirror", truncate=6 / sigma
    )
    np.testing.assert_allclose(blurred, expected, atol=1.01)


def test_upside_down():
    image, mask = place_image(4, 6)
    rows = set()
    for seed in range(20):
        turned, labels = augment.random_mirror(
            tf.constant(image), tf.constant(mask), tf.constant([seed, 0]), axis=0
        )
        order = turned.numpy()[:, 0, 0].tolist()
        rows.add(tuple(order))
        np.testing.assert_array_equal(labels, mask[order])
    assert rows == {(0, 1, 2, 3), (3, 2, 1, 0)}
