"""The quicker layers compute what Keras's own do."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from unet_core import UNetConfig, build_unet
from unet_train.task import layers
from unet_train.task.layers import speed_up


@pytest.fixture(autouse=True)
def few_channels_are_many(monkeypatch):
    monkeypatch.setattr(layers, "_MANY_CHANNELS", 4)


def draw(side, batch=2):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (batch, side, side, 3)).astype(np.float32)


def outcome(model, images):
    """Logits, gradients of everything, and statistics after one pass of training."""
    images = tf.Variable(images)
    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        cost = tf.reduce_mean(tf.sin(logits))
    variables = [images, *(weight.value for weight in model.trainable_variables)]
    gradients = tape.gradient(cost, variables)
    return [logits, *gradients, *model.non_trainable_variables]


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_equal_kerass_own(padding, jit_compile):
    # A smooth activation: rounding must not move a value over an edge.
    config = UNetConfig(
        depth=2, base_filters=4, padding=padding, norm_momentum=0.7, activation="silu"
    )
    keras.utils.set_random_seed(0)
    model = build_unet(config)
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    speed_up(twin, on_cpu=True)
    changed = [layer.name for layer in twin.layers if "call" in vars(layer)]
    assert len([name for name in changed if "crop" not in name]) == 12
    assert sum("convolution_op" in vars(layer) for layer in twin.layers) == 9
    images = draw(60)
    expected = outcome(model, images)
    run = tf.function(lambda: outcome_in_graph(twin, images), jit_compile=jit_compile)
    found = [*run(), *twin.non_trainable_variables]
    assert len(found) == len(expected) > 40
    for one, other in zip(found, expected, strict=True):
        scale = np.abs(np.asarray(other)).max() + 1e-3
        np.testing.assert_allclose(
            np.asarray(one) / scale, np.asarray(other) / scale, atol=1e-3
        )


def outcome_in_graph(model, images):
    images = tf.constant(images)
    variables = [weight.value for weight in model.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = model(images, training=True)
        cost = tf.reduce_mean(tf.sin(logits))
    return [logits, *tape.gradient(cost, [images, *variables])]


def test_prediction_is_not_touched():
    model = build_unet(UNetConfig(depth=1, base_filters=4))
    images = draw(30)
    before = model(images, training=False)
    speed_up(model, on_cpu=True)
    np.testing.assert_array_equal(model(images, training=False), before)


def test_what_is_left_alone():
    model = build_unet(UNetConfig(depth=1, base_filters=2, norm="sync_batch"))
    speed_up(model, on_cpu=False)
    own = [layer.name for layer in model.layers if "call" in vars(layer)]
    assert own == ["decoder_0_crop"]
    assert not any("convolution_op" in vars(layer) for layer in model.layers)


def test_twice_changes_nothing_and_the_file_is_keras_own(tmp_path):
    model = build_unet(UNetConfig(depth=1, base_filters=4))
    speed_up(model, on_cpu=True)
    calls = [vars(layer).get("call") for layer in model.layers]
    speed_up(model, on_cpu=True)
    assert calls == [vars(layer).get("call") for layer in model.layers]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    images = draw(30)
    np.testing.assert_allclose(
        loaded(images, training=False), model(images, training=False), atol=1e-6
    )
    assert not any("call" in vars(layer) for layer in loaded.layers)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_low_precision_keeps_its_statistics_in_float32(precision):
    model = build_unet(UNetConfig(depth=1, base_filters=4), dtype=precision)
    keras.utils.set_random_seed(0)
    twin = build_unet(UNetConfig(depth=1, base_filters=4))
    twin.set_weights(model.get_weights())
    speed_up(model, on_cpu=True)
    images = draw(30)
    model(images, training=True)
    twin(images, training=True)
    for one, other in zip(
        model.non_trainable_variables, twin.non_trainable_variables, strict=True
    ):
        assert one.dtype == "float32"
        np.testing.assert_allclose(one, other, rtol=0.02, atol=0.02)
