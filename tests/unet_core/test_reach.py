"""Any network of stock layers: reach against gradients, tiles against one pass."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from unet_core import TiledPredictor, UNetConfig, build_unet, read_geometry
from unet_core.tile_plan import TilePlanner

layers = keras.layers
LINEAR = {"padding": "same", "use_bias": True}


@dataclasses.dataclass(frozen=True)
class Part:
    """Something that a random network is made of.

    Attributes:
      make: The layer, without arguments.
      halves: How often it halves the size; doubles it below 0.
    """

    make: Callable[[], Any]
    halves: int = 0


def convolution(kernel: int, strides: int = 1, dilation: int = 1) -> Part:
    options = {"strides": strides, "dilation_rate": dilation, **LINEAR}
    return Part(lambda: layers.Conv2D(3, kernel, **options), strides.bit_length() - 1)


def depthwise(kernel: int, strides: int = 1, dilation: int = 1) -> Part:
    options = {"strides": strides, "dilation_rate": dilation, **LINEAR}
    return Part(
        lambda: layers.DepthwiseConv2D(kernel, **options), strides.bit_length() - 1
    )


def pooling(kind: Any, size: int, strides: int) -> Part:
    return Part(
        lambda: kind(size, strides, padding="same"), halves=strides.bit_length() - 1
    )


SAME_SIZE = [
    *(convolution(kernel) for kernel in (1, 2, 3, 4, 5)),
    *(convolution(3, dilation=dilation) for dilation in (2, 3)),
    *(depthwise(kernel) for kernel in (3, 4, 5)),
    depthwise(3, dilation=2),
    Part(lambda: layers.SeparableConv2D(3, 3, **LINEAR)),
    Part(lambda: layers.Conv2DTranspose(3, 3, **LINEAR)),
    *(pooling(layers.MaxPooling2D, size, 1) for size in (2, 3)),
    *(pooling(layers.AveragePooling2D, size, 1) for size in (2, 3)),
    Part(lambda: layers.Activation("gelu")),
    Part(layers.LayerNormalization),
    Part(layers.BatchNormalization),
]
DOWN = [
    *(convolution(kernel, 2) for kernel in (1, 2, 3, 4, 5)),
    *(depthwise(kernel, 2) for kernel in (2, 3, 5)),
    *(pooling(layers.MaxPooling2D, size, 2) for size in (2, 3)),
    *(pooling(layers.AveragePooling2D, size, 2) for size in (2, 3)),
    Part(lambda: layers.SeparableConv2D(3, 3, strides=2, **LINEAR), 1),
    convolution(5, 4),
]
UP = [
    Part(lambda: layers.UpSampling2D(2), -1),
    Part(lambda: layers.UpSampling2D(2, interpolation="bilinear"), -1),
    *(
        Part(lambda k=kernel: layers.Conv2DTranspose(3, k, strides=2, **LINEAR), -1)
        for kernel in (2, 3, 4, 5)
    ),
]
JOINS = [layers.Add, layers.Concatenate, layers.Average, layers.Maximum]


def network(draw: Any) -> keras.Model:
    """Down and up again, with skips and bypasses, to logits of every pixel."""

    def path(x: Any) -> Any:
        for part in draw(st.lists(st.sampled_from(SAME_SIZE), max_size=2)):
            x = part.make()(x)
        return x

    image = keras.Input((None, None, 3))
    x = path(layers.Rescaling(1 / 127.5, -1.0)(image))
    skips: dict[int, Any] = {}
    level = 0
    for _ in range(draw(st.integers(0, 2))):
        skips[level] = x
        part = draw(st.sampled_from(DOWN))
        x, level = path(part.make()(x)), level + part.halves
        if draw(st.booleans()):
            x = layers.Add()([x, layers.Conv2D(x.shape[-1], 1)(path(x))])
    while level:
        x, level = path(draw(st.sampled_from(UP)).make()(x)), level - 1
        if level in skips and draw(st.booleans()):
            skip = layers.Conv2D(x.shape[-1], 1)(skips[level])
            x = draw(st.sampled_from(JOINS))()([skip, x])
    # A mean of three, so that what rounds off in one is seen in another.
    logits = layers.Conv2D(1, draw(st.sampled_from([1, 3])), padding="same")(x)
    return shaken(keras.Model(image, logits), draw(st.integers(0, 99)))


def shaken(model: keras.Model, seed: int) -> keras.Model:
    """Weights that let every path through: none is 0, and sums do not fade."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        values = rng.uniform(0.2, 1, variable.shape)
        if "kernel" in variable.path:
            values *= rng.choice([-1, 1], variable.shape)
            fan = max(1, np.prod(variable.shape[:-1]))
            values *= 2 / np.sqrt(fan)
        variable.assign(values)
    return model


def pixels_of(height: int, width: int, seed: int = 2) -> np.ndarray:
    shape = (height, width, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


# Without shrinking, which takes minutes; networks are small as they are.
QUIET = {
    "deadline": None,
    "phases": [Phase.reuse, Phase.generate],
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}


@settings(max_examples=40, **QUIET)
@given(st.data(), st.integers(0, 40), st.integers(0, 40))
def test_tiles_of_random_networks_equal_the_whole_pass(data, more_rows, more_columns):
    model = network(data.draw)
    geometry = read_geometry(model)
    smallest = TilePlanner(geometry).smallest_tile
    assume(smallest <= 160)
    image = pixels_of(smallest + 1 + more_rows, smallest + more_columns)
    whole = TiledPredictor(model, tile_size=None)(image)
    counts = set()
    tiles = TiledPredictor(model, tile_size=smallest)(
        image, progress=lambda done, total: counts.add(total)
    )
    assert min(counts) > 1
    described = [(each.layer, each.options) for each in geometry._operations]
    np.testing.assert_allclose(tiles, whole, atol=1e-5, rtol=0, err_msg=described)


def assert_reach(
    model: keras.Model, pixel_of_cell: int, largest: int | None = None
) -> None:
    """No gradient lies outside of what counts; the first and last are a cell inside."""
    geometry = read_geometry(model)
    step, cells = geometry.step, -(-geometry.halo // geometry.step) + 1
    size = (2 * cells + 1) * step
    size = geometry.nearest_valid_sizes(size)[1]
    if largest is not None:
        assume(size <= largest)
    pixel = cells * step + pixel_of_cell % step
    field = geometry.receptive_field(pixel)
    seen = np.zeros(size, bool)

    @tf.function  # Which leaves out the gradients of weights.
    def gradient_of(image: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(image)
            logit = model(image)[0, pixel, pixel, 0]
        return tape.gradient(logit, image)[0]

    described = [(each.layer, each.options) for each in geometry._operations]
    for seed in range(100):  # A maximum passes one gradient on; another image, another.
        image = pixels_of(size, size, seed).astype(np.float32)[np.newaxis]
        gradient = np.abs(gradient_of(tf.constant(image)))
        seen |= gradient.any(axis=(1, 2)) | gradient.any(axis=(0, 2))
        places = np.flatnonzero(seen)
        if not len(places):
            continue
        found = range(places[0], places[-1] + 1)
        assert field.start <= found.start, (found, field, described)
        assert found.stop <= field.stop, (found, field, described)
        if found.start <= field.start + step and field.stop - step <= found.stop:
            return
    pytest.fail(f"Gradients only at {places} of {field}: {described}")


@settings(max_examples=25, **QUIET)
@given(st.data(), st.integers(0, 7))
def test_reach_of_random_networks_against_gradients(data, place):
    assert_reach(network(data.draw), place, largest=200)


@pytest.mark.parametrize(("depth", "place"), [(2, 0), (2, 3), (3, 0), (3, 7)])
def test_reach_of_an_encoder_against_gradients(depth, place):
    """What lies at its ends is too faint to be seen in a tile."""
    config = UNetConfig(encoder="efficientnet_lite0", decoder_filters=(8,) * depth)
    assert_reach(shaken(build_unet(config), 0), place)


@pytest.mark.parametrize("depth", [2, 3])
def test_tiles_on_an_encoder_equal_the_whole_pass(depth):
    config = UNetConfig(encoder="efficientnet_lite0", decoder_filters=(8,) * depth)
    model = build_unet(config)
    smallest = TilePlanner(read_geometry(model)).smallest_tile
    image = pixels_of(smallest + 20, smallest + 40)
    whole = TiledPredictor(model, tile_size=None)(image)
    assert whole.std() > 1e-3
    for side in (smallest, smallest + 2**depth):
        tiles = TiledPredictor(model, tile_size=side)(image)
        np.testing.assert_allclose(tiles, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "layer",
    [
        Part(lambda: layers.GlobalAveragePooling2D(keepdims=True, name="pooled")),
        Part(lambda: layers.GlobalMaxPooling2D(keepdims=True, name="pooled")),
        Part(lambda: layers.GroupNormalization(1, name="pooled")),
        Part(lambda: layers.UpSampling2D(1, interpolation="bicubic", name="pooled")),
    ],
)
def test_networks_that_see_all_are_never_tiled(layer):
    image = keras.Input((32, 32, 3))
    x = layers.Conv2D(4, 3, padding="same")(image)
    x = layers.Multiply()([x, layer.make()(x)])
    model = keras.Model(image, layers.Conv2D(1, 1)(x))
    photo = pixels_of(32, 32)
    whole = TiledPredictor(model, tile_size=None)(photo)
    np.testing.assert_array_equal(TiledPredictor(model)(photo), whole)
    for options in ({"tile_size": 8}, {"memory_budget": 10_000}):
        with pytest.raises(ValueError, match=r"layer pooled \(.*sees the whole image"):
            TiledPredictor(model, **options)(photo)


def test_squeeze_and_excite_is_never_tiled():
    config = UNetConfig(encoder="mobilenetv3small", decoder_filters=(4, 4))
    model = build_unet(config)
    predictor = TiledPredictor(model, tile_size=64)
    assert predictor.largest_tile is None
    with pytest.raises(ValueError, match=r"\(GlobalAveragePooling2D\) sees the whole"):
        predictor(pixels_of(90, 70))
    assert predictor(pixels_of(60, 50)).shape == (60, 50, 1)
