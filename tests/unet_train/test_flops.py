"""Work counted on TensorFlow's graph against the formula from the options."""

import types

import keras
import pytest

from unet_core import Summary, UNetConfig, build_unet
from unet_train.flops import matrix_product_gflops, train_gflop


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (UNetConfig(depth=1, base_filters=4), 30),
        (UNetConfig(depth=3, base_filters=8), 108),
        (UNetConfig(depth=3, base_filters=8, norm="group"), 108),
        (UNetConfig(depth=2, base_filters=4, padding="same"), 64),
        (UNetConfig(depth=2, base_filters=4, upsampling="resize"), 60),
        (UNetConfig(depth=2, base_filters=4, upsampling="resize", padding="same"), 32),
        (UNetConfig(depth=2, base_filters=4, input_channels=1, classes=3), 60),
        (UNetConfig(depth=2, base_filters=4, stochastic_depth=0.1), 60),
    ],
)
def test_counts_what_the_formula_says(config, size):
    expected = Summary.of(config, size).train_gflop
    assert expected > 0
    assert train_gflop(build_unet(config), size) == pytest.approx(expected, rel=1e-12)


def test_the_papers_network():
    """The number that docstring and documentation of unet_core give."""
    assert train_gflop(build_unet(), 572) == pytest.approx(903.6, abs=0.05)


def test_any_network_counts():
    """The images' own gradient is not needed, however many convolutions see them."""
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, padding="same")(image)
    y = keras.layers.Conv2D(4, 1)(keras.layers.Rescaling(0.1)(image))
    x = keras.layers.Add()([x, y])
    x = keras.layers.DepthwiseConv2D(3, padding="same")(x)
    x = keras.layers.Conv2DTranspose(2, 2, strides=2)(x)
    model = keras.Model(image, x)
    pixels = 10 * 10
    first = pixels * 9 * 3 * 4 + pixels * 3 * 4
    others = pixels * 9 * 4 + pixels * 4 * 4 * 2
    operations = 2 * (2 * first + 3 * others)
    assert train_gflop(model, 10) == pytest.approx(operations / 1e9, rel=1e-12)


def test_mixed_precision_is_the_same_work():
    config = UNetConfig(depth=1, base_filters=4)
    plain = train_gflop(build_unet(config), 30)
    assert train_gflop(build_unet(config, dtype="mixed_bfloat16"), 30) == plain


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_matrix_product_has_some_speed(precision):
    gflops = matrix_product_gflops(precision)
    assert type(gflops) is float
    # Far apart, since machines are: what is off by a thousand, or a unit, is seen.
    assert 1 < gflops < 1e6


def test_the_speed_is_the_work_by_the_time(monkeypatch):
    """By the fastest of the products, 2 n^3 operations, once one takes long enough."""
    too_quick = [0.0, 9.0, 10.0, 10.01, 20.0, 21.0]
    enough = [30.0, 32.0, 40.0, 40.5, 50.0, 51.0]
    clock = iter(too_quick + enough)
    # Of this module alone: others may ask for the time meanwhile.
    watch = types.SimpleNamespace(perf_counter=lambda: next(clock))
    monkeypatch.setattr("unet_train.flops.time", watch)
    assert matrix_product_gflops("float32") == pytest.approx(2 * 1024**3 / 1e9 / 0.5)
