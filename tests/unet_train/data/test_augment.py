"""Image and mask together."""

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_train.data import augment, cut, scale
from unet_train.data.pixels import IGNORED, pack, planes_of, unpack
from unet_train.data.warp import Warp, warp


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
def test_window_is_the_middle_of_the_tile_and_outside_is_ignored(
    tile_of, height, width, seed
):
    image, mask = place_image(height, width)
    tile, target = tile_of(image, mask, seed, tile_size=30, margin=8)
    assert tile.shape == (30, 30, 3)
    assert target.shape == (14, 14, 1)
    window = tile[8:22, 8:22]
    valid = target[..., 0] != 255
    rows, columns = window[..., 0].astype(int), window[..., 1].astype(int)
    # Pixels of the window carry the label of the very place that the image shows.
    np.testing.assert_array_equal(target[valid, 0], ((rows + columns) % 2)[valid])
    assert valid.sum() == min(height, 14) * min(width, 14)
    # Within the valid part, neighbours are neighbours of the image, in its order.
    inner = rows[np.ix_(valid.any(1), valid.any(0))]
    assert (np.diff(inner, axis=0) == 1).all()


def test_every_pixel_is_seen_and_the_border_as_well_as_the_middle(tile_of):
    image, mask = place_image(40, 50)
    seen = np.zeros((40, 50), int)
    for seed in range(400):
        tile, _ = tile_of(image, mask, seed, tile_size=30, margin=8)
        window = tile[8:22, 8:22]
        seen[window[..., 0], window[..., 1]] += 1
    assert seen.min() > 0
    middle = seen[14:26, 14:36].mean()
    border = np.concatenate([seen[0], seen[-1], seen[:, 0], seen[:, -1]]).mean()
    assert border > middle / 3


@pytest.mark.parametrize("axis", [0, 1])
def test_mirror_keeps_image_and_mask_together(tile_of, axis):
    image, mask = place_image(6, 6)
    options = {"mirror": axis == 1, "flip": axis == 0, "tile_size": 6, "margin": 0}
    outcomes = set()
    for seed in range(20):
        mirrored, labels = tile_of(image, mask, seed, **options)
        line = mirrored[0, :, 1] if axis else mirrored[:, 0, 0]
        outcomes.add(tuple(line.tolist()))
        np.testing.assert_array_equal(labels, mask.take(line, axis))
        np.testing.assert_array_equal(mirrored, image.take(line, axis))
    assert outcomes == {(0, 1, 2, 3, 4, 5), (5, 4, 3, 2, 1, 0)}


def test_masks_are_never_mixed():
    mask = np.random.default_rng(0).choice([0, 1, 255], (37, 41, 1)).astype(np.uint8)
    resized = scale.resize_mask(mask, (19, 64)).numpy()
    assert resized.shape == (19, 64, 1)
    assert set(np.unique(resized)) <= {0, 1, 255}


@pytest.mark.parametrize(
    ("shape", "longer", "expected"),
    [((480, 640), 320, (240, 320)), ((640, 3), 64, (64, 1)), ((10, 10), 25, (25, 25))],
)
def test_scaled_size(shape, longer, expected):
    assert tuple(scale.scaled_size(tf.constant(shape), longer).numpy()) == expected


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.7])
def test_an_aspect_keeps_the_area(factor):
    height, width = scale.scaled_size(tf.constant([300, 400]), 800.0, factor).numpy()
    assert width / height == pytest.approx(factor * 4 / 3, rel=0.01)
    assert width * height == pytest.approx(800 * 600, rel=0.01)


def planes(image):
    """A batch of one, as `augment` takes it."""
    return tf.constant(np.moveaxis(image, -1, 0)[None], tf.float32)


def image_of(found):
    return np.moveaxis(found.numpy()[0], 0, -1)


def test_color_varies_within_its_strength_and_repeats(tile_of):
    image, mask = np.full((8, 8, 3), 100, np.uint8), np.zeros((8, 8, 1), np.uint8)
    options = {"tile_size": 8, "margin": 0, "color_jitter": 0.3}
    varied = [tile_of(image, mask, seed, **options)[0] for seed in range(12)]
    means = [each.mean() for each in varied]
    assert all(69 <= mean <= 131 for mean in means)
    assert min(means) < 90
    assert max(means) > 110
    np.testing.assert_array_equal(varied[3], tile_of(image, mask, 3, **options)[0])


def test_color_is_brightness_then_contrast_then_saturation():
    image = np.random.default_rng(0).integers(60, 190, (9, 8, 3)).astype(np.uint8)
    bright, contrast, saturation = 0.9, 1.2, 0.8
    expected = image * bright
    expected = expected.mean() + (expected - expected.mean()) * contrast
    grey = expected.mean(-1, keepdims=True)
    expected = grey + (expected - grey) * saturation
    factors = tf.constant([[bright, contrast, saturation]])
    varied = image_of(augment.vary_color(planes(image), factors))
    np.testing.assert_allclose(varied, expected, atol=0.01)


def test_each_tile_of_a_batch_is_varied_by_its_own_and_as_if_alone():
    rng = np.random.default_rng(0)
    batch = tf.constant(rng.uniform(0, 255, (3, 3, 20, 24)), tf.float32)
    factors = tf.constant(rng.uniform(0.7, 1.3, (3, 3)), tf.float32)
    sigma = tf.constant([0.2, 1.0, 2.0])

    def vary(batch, factors, sigma):
        varied = augment.vary_color(batch, factors)
        return augment.blur(varied, sigma, 2.0).numpy()

    together = vary(batch, factors, sigma)
    for i in range(3):
        which = slice(i, i + 1)
        alone = vary(batch[which], factors[which], sigma[which])
        np.testing.assert_array_equal(together[which], alone)


def test_scale_is_symmetric_about_one():
    factors = np.array(
        [scale.random_scale(0.5, tf.constant([seed, 0])) for seed in range(500)]
    )
    assert factors.min() >= 1 / 1.5 - 1e-6
    assert factors.max() <= 1.5 + 1e-6
    assert abs((factors < 1).mean() - 0.5) < 0.1


def test_surroundings_of_the_window_are_the_images_mirrored(tile_of):
    image, mask = place_image(40, 50)
    padded = np.pad(image, ((8, 8), (8, 8), (0, 0)), mode="reflect")
    for seed in range(20):
        tile, _ = tile_of(image, mask, seed, tile_size=30, margin=8)
        row, column = tile[8, 8, :2].astype(int)
        np.testing.assert_array_equal(
            tile, padded[row : row + 30, column : column + 30]
        )


def test_image_and_mask_are_scaled_alike():
    mask = np.zeros((60, 80, 1), np.uint8)
    mask[10:30, 20:60] = 1
    image = np.repeat(mask * 200, 3, -1)
    size = scale.scaled_size(tf.constant(mask.shape), 33.0)
    small, labels = scale.resize_image(image, size), scale.resize_mask(mask, size)
    assert small.shape[:2] == labels.shape[:2] == (25, 33)
    disagree = (small.numpy()[..., 0] > 100) != (labels.numpy()[..., 0] == 1)
    assert disagree.mean() < 0.02


def test_shrinking_is_antialiased():
    checkerboard = place_image(40, 40)[1].repeat(3, -1) * 255
    small = scale.resize_image(checkerboard, (10, 10)).numpy()
    assert abs(small.astype(int) - 128).max() < 40


def draw_blob(height=60, width=70):
    """A blob that image and mask agree on, far from symmetric."""
    rows, columns = np.mgrid[:height, :width]
    blob = ((rows - 20) ** 2 / 9 + (columns - 40) ** 2 < 60) | (rows > 50)
    mask = blob.astype(np.uint8)[..., None]
    return np.repeat(mask * 200, 3, -1), mask


WARPED = {"tile_size": 44, "margin": 0}


def test_bilinear_samples_are_scipys():
    """Turned and bent: the places are computed anew, in numpy."""
    rng = np.random.default_rng(0)
    warped = Warp(tile_size=21, rotation=30.0, elastic=2.0)
    side = 21 + 2 * warped.reach
    image = rng.integers(0, 256, (2, side, side, 3), np.uint8)
    mask = rng.integers(0, 256, (2, side, side, 1), np.uint8)
    drawn = {
        "turn": np.float32([[3500, 2048], [4000, -800]]) / 4096,
        "bend": rng.normal(0, 2, (2, 3, 3, 2)).clip(-6, 6).astype(np.float32),
        "centre": np.float32([[side / 2, side / 2 - 1], [side / 2 - 0.5] * 2]),
    }
    given = {name: tf.constant(each) for name, each in drawn.items()}
    found, (pixels,) = warp([pack(image, mask)], given, 21)
    found_labels = unpack(pixels)[1].numpy()[..., 0]
    for i in range(2):
        cosine, sine = drawn["turn"][i]
        turn = [[cosine, -sine], [sine, cosine]]
        offsets = np.stack(np.meshgrid(*2 * [np.arange(21) - 10], indexing="ij"))
        bend = tf.image.resize(drawn["bend"][i], (21, 21), method="bicubic").numpy()
        places = np.einsum("ab,brc->arc", turn, offsets) + np.moveaxis(bend, -1, 0)
        places += drawn["centre"][i][:, None, None]
        for channel in range(3):
            plane = image[i, ..., channel].astype(float)
            expected = scipy.ndimage.map_coordinates(plane, places, order=1)
            np.testing.assert_allclose(found[i, channel], expected, atol=0.05)
        labels = mask[i, ..., 0][tuple(np.rint(places).astype(int))]
        same = found_labels[i] == labels
        assert same.mean() > 0.99  # Halves may be rounded either way.


@pytest.mark.parametrize(
    ("tile_size", "rotation", "elastic"),
    [(44, 180.0, 0.0), (45, 20.0, 0.0), (60, 0.0, 10.0), (61, 45.0, 4.0)],
)
def test_a_warp_does_not_leave_its_piece(tile_size, rotation, elastic):
    """However it is turned and bent; and a piece is not far too large."""
    reach = Warp(tile_size, rotation, elastic).reach
    side = tile_size + 2 * reach
    signs = tf.constant([[1.0, -1, 1], [-1, 1, -1], [1, -1, 1]])[..., None]
    bends = [tf.ones((3, 3, 2)), signs * tf.ones(2), signs * [1.0, -1.0]]
    bends = [3 * elastic * sign * each for each in bends for sign in (1, -1)]
    angles = np.radians(np.linspace(-rotation, rotation, 9))
    angles = np.append(angles, np.radians([min(rotation, 45), -min(rotation, 45)]))
    ends = []
    for bend in bends:
        for shift in (-0.5, 0.5):
            drawn = {
                "turn": tf.constant(
                    np.stack([np.cos(angles), np.sin(angles)], 1), tf.float32
                ),
                "bend": tf.stack([bend] * len(angles)),
                "centre": tf.fill([len(angles), 2], (side - 1) / 2 + shift),
            }
            places = tf.reshape(tf.range(side**2), [1, side, side])
            layers = [tf.repeat(places, len(angles), 0)]
            _, (nearest,) = warp(layers, drawn, tile_size)
            rows, columns = np.divmod(nearest.numpy(), side)
            for each in (rows, columns):
                ends += [each.min(), side - 1 - each.max()]
    # What left it would be at the other end of the row before or after.
    assert 1 <= min(ends) <= 3 + elastic


def test_a_warp_by_next_to_nothing_is_a_plain_tile(tile_of):
    image, mask = place_image(60, 70)
    tile, labels = tile_of(image, mask, 5, **WARPED, rotation=1e-4)
    plain = tile_of(image, mask, 5, **WARPED)
    np.testing.assert_array_equal(tile, plain[0])
    np.testing.assert_array_equal(labels, plain[1])


@pytest.mark.parametrize("options", [{"rotation": 180.0}, {"elastic": 4.0}])
@pytest.mark.parametrize("seed", range(8))
def test_image_and_mask_are_warped_alike(tile_of, options, seed):
    image, mask = draw_blob()
    tile, labels = tile_of(image, mask, seed, **WARPED, **options)
    assert set(np.unique(labels)) <= {0, 1, 255}
    inside = labels != 255
    disagree = ((tile[..., :1] > 100) != (labels == 1)) & inside
    assert disagree.mean() < 0.02
    plain = tile_of(image, mask, seed, **WARPED)
    assert (tile != plain[0]).any()


def test_a_turned_tile_is_the_image_turned(tile_of):
    """Against scipy, about the middle of the tile."""
    rows, columns = np.mgrid[:61, :61]
    image = np.stack([2 * rows, 2 * columns, 0 * rows], -1).astype(np.uint8)
    mask = np.zeros((61, 61, 1), np.uint8)
    tile, labels = tile_of(image, mask, 3, tile_size=61, margin=0, rotation=90.0)
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


def test_elastic_displacements_have_the_papers_size(tile_of):
    """Standard deviation 10 at the nodes of a grid of 3 x 3; read off the image."""
    rows, columns = np.mgrid[:250, :250]
    image = np.stack([rows, columns, 0 * rows], -1).astype(np.uint8)
    mask = np.zeros((250, 250, 1), np.uint8)
    moves = []
    for seed in range(60):
        options = {"tile_size": 124, "margin": 0}
        bent, _ = tile_of(image, mask, seed, **options, elastic=10.0)
        plain, _ = tile_of(image, mask, seed, **options)
        moves.append(bent[62, 62, :2].astype(int) - plain[62, 62, :2])
    assert np.std(moves) == pytest.approx(10, rel=0.25)
    assert abs(np.mean(moves)) < 3


def test_paste_takes_foreground_only():
    image, mask = draw_blob()
    other = np.full_like(image, 90)
    other_mask = np.zeros_like(mask)
    other_mask[:10, :10] = 1
    other_mask[10:20] = 255
    pixels, others = pack(image, mask), pack(other, other_mask)
    pasted, labels = unpack(cut.paste(pixels, others, other_mask[..., 0]))
    assert (pasted.numpy()[:10, :10] == 90).all()
    assert (labels.numpy()[:10, :10] == 1).all()
    np.testing.assert_array_equal(pasted[10:], image[10:])
    np.testing.assert_array_equal(labels[10:], mask[10:])


def test_pixels_are_image_and_mask_and_nothing_else():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (5, 7, 3), np.uint8)
    mask = rng.integers(0, 256, (5, 7, 1), np.uint8)
    pixels = pack(image, mask)
    assert pixels.shape == (5, 7)
    for found, packed in zip(unpack(pixels), (image, mask), strict=True):
        np.testing.assert_array_equal(found, packed)
    np.testing.assert_array_equal(image_of(planes_of(pixels[None])), image)
    ignored, labels = unpack(tf.bitwise.bitwise_or(pixels, IGNORED))
    np.testing.assert_array_equal(ignored, image)
    assert (labels.numpy() == 255).all()


def test_cutout_greys_and_ignores_one_rectangle(tile_of):
    image, mask = draw_blob(50, 50)
    sizes = []
    for seed in range(40):
        tile, labels = tile_of(image, mask, seed, tile_size=50, margin=0, cutout=0.6)
        gone = labels[..., 0] == 255
        np.testing.assert_array_equal(gone, (tile == 127).all(-1))
        np.testing.assert_array_equal(tile[~gone], image[~gone])
        rows, columns = gone.any(1).sum(), gone.any(0).sum()
        assert gone.sum() == rows * columns
        sizes.append(max(rows, columns))
    assert 20 < max(sizes) <= 31
    assert min(sizes) < 20


def test_blur_is_a_gaussian():
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    # A strong one, of which a kernel that is too short would be seen.
    found = image_of(augment.blur(planes(image), tf.constant([1.95]), 2.0))
    expected = scipy.ndimage.gaussian_filter(
        image.astype(float), (1.95, 1.95, 0), mode="mirror", truncate=6 / 1.95
    )
    np.testing.assert_allclose(found, expected, atol=0.01)
