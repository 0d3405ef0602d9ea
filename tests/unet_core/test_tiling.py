"""Tiles against one pass over the whole image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_core import TiledPredictor, UNetConfig, build_unet, geometry, predict_image


def random_model(depth=2, padding="valid", **options):
    """Random weights and random moving statistics, so that nothing is symmetric."""
    model = build_unet(
        UNetConfig(depth=depth, base_filters=4, padding=padding, **options)
    )
    rng = np.random.default_rng(1)
    for variable in model.variables:
        if "moving_mean" in variable.path or "bias" in variable.path:
            variable.assign(rng.normal(scale=0.2, size=variable.shape))
    return model


def random_image(height, width, channels=3):
    shape = (height, width, channels)
    return np.random.default_rng(2).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_tiles_equal_the_whole_pass(depth, padding):
    model = random_model(depth, padding)
    image = random_image(300, 417)
    whole = predict_image(model, image, tile_size=None)
    assert whole.std() > 0.01
    for size in (288, 350):
        tile_size = geometry.nearest_valid_sizes(size, depth, padding)[1]
        tiles = predict_image(model, image, tile_size=tile_size)
        np.testing.assert_allclose(tiles, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_every_size_of_image(padding):
    model = random_model(1, padding)
    tiled = TiledPredictor(model, tile_size=38 if padding == "valid" else 36)
    whole = TiledPredictor(model, tile_size=None)

    @settings(max_examples=60, deadline=None)
    @given(st.integers(1, 90), st.integers(1, 90))
    def check(height, width):
        image = random_image(height, width)
        result = tiled(image)
        assert result.shape == (height, width, 1)
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, whole(image), atol=1e-5, rtol=0)

    check()


def test_prediction_is_where_the_pixel_is():
    """The whole pass equals the plain model on a hand-mirrored image."""
    model = random_model(1)
    image = random_image(20, 30)
    padded = np.pad(image, ((8, 8), (8, 8), (0, 0)), mode="reflect")
    size = [geometry.valid_size_for_output(side, 1) for side in (20, 30)]
    assert size == list(padded.shape[:2])
    logits = model(padded[np.newaxis])[0].numpy()
    np.testing.assert_allclose(
        predict_image(model, image), 1 / (1 + np.exp(-logits)), atol=1e-6
    )


def test_classes_sum_to_one():
    model = random_model(1, classes=3)
    probabilities = predict_image(model, random_image(25, 40))
    assert probabilities.shape == (25, 40, 3)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5)


def test_auto_takes_tiles_where_one_pass_is_too_large(monkeypatch):
    monkeypatch.setattr("unet_core.tiling._PIXELS_A_PASS", 100 * 100)
    model = random_model(2)
    predictor = TiledPredictor(model)
    seen = []
    forward = predictor._forward
    predictor._forward = lambda tiles: seen.append(tiles.shape[1:3]) or forward(tiles)
    image = random_image(700, 500)
    result = predictor(image)
    assert len(seen) > 1
    # The budget is counted for 64 filters, the model has 4: 8 times as many at most.
    assert all(height * width <= 8 * 100 * 100 for height, width in seen)
    whole = predict_image(model, image, tile_size=None)
    np.testing.assert_allclose(result, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("shape", [(3, 700), (700, 20)])
def test_auto_on_long_narrow_images(monkeypatch, padding, shape):
    monkeypatch.setattr("unet_core.tiling._PIXELS_A_PASS", 1000)
    model, image = random_model(2, padding), random_image(*shape)
    whole = predict_image(model, image, tile_size=None)
    np.testing.assert_allclose(predict_image(model, image), whole, atol=1e-5, rtol=0)


def test_one_graph_for_photos_of_all_sizes():
    predictor = TiledPredictor(random_model(1))
    for size in ((10, 10), (33, 47), (64, 20)):
        predictor(random_image(*size))
    assert predictor._forward.experimental_get_tracing_count() == 1


@pytest.mark.parametrize(
    ("image", "fault"),
    [
        (np.zeros((8, 8, 1), np.uint8), r"takes images \[H, W, 3\].*\(8, 8, 1\)"),
        (np.zeros((8, 8), np.uint8), r"\(8, 8\)"),
        (np.zeros((0, 8, 3), np.uint8), r"\(0, 8, 3\)"),
        (np.zeros((8, 8, 3), np.float32), "uint8, 0 to 255. Received float32"),
    ],
)
def test_images_that_do_not_fit(image, fault):
    with pytest.raises(ValueError, match=fault):
        predict_image(random_model(1), image)


@pytest.mark.parametrize(
    ("padding", "tile_size", "fault"),
    [
        ("valid", 100, "Nearest valid: 188"),
        ("valid", 188, "all border.*Use 204 or more"),
        ("same", 200, "Nearest valid: 192 and 208"),
        ("same", 224, "all border.*Use 240 or more"),
    ],
)
def test_tile_sizes_that_do_not_fit(padding, tile_size, fault):
    with pytest.raises(ValueError, match=fault):
        TiledPredictor(random_model(4, padding), tile_size=tile_size)
