"""The quicker layers compute what Keras's own do."""

import os
import platform
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from unet_core import UNetConfig, build_unet
from unet_train.task import layers
from unet_train.task.layers import speed_up


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch):
    monkeypatch.setattr(layers, "MANY_CHANNELS", 8)
    monkeypatch.setattr(layers, "MANY_CHANNELS_OF_MANY_PIXELS", 4)
    monkeypatch.setattr(layers, "MANY_PIXELS", 12 * 12)
    monkeypatch.setattr(layers, "FEW_PRODUCTS", 0)


@pytest.fixture(params=[True, False], ids=["onednn", "eigen"])
def onednn(monkeypatch, request):
    """A test in both ways to convolve."""
    monkeypatch.setattr(layers, "uses_onednn", lambda: request.param)
    return request.param


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
def test_equal_kerass_own(padding, jit_compile, onednn):
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
    convolutions = sum("convolution_op" in vars(layer) for layer in twin.layers)
    assert convolutions == 10
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


def test_prediction_is_not_touched(onednn):
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


def test_twice_changes_nothing_and_the_file_is_keras_own(tmp_path, onednn):
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
def test_low_precision_keeps_its_statistics_in_float32(precision, onednn):
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


def trained_alike(make, shape):
    """Trains a model in Keras's way and in ours; the latter's layers."""
    outcomes = []
    inputs = tf.Variable(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    for is_fast in (False, True):
        keras.utils.set_random_seed(0)
        model = make()
        if is_fast:
            speed_up(model, on_cpu=True)
        with tf.GradientTape() as tape:
            outputs = tf.reduce_mean(tf.sin(model(inputs, training=True)))
        outcomes.append([tape.gradient(outputs, inputs), *model.weights])
    for one, other in zip(*outcomes, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    return model.layers


@pytest.mark.parametrize("shape", [(5,), (6, 5), (4, 4, 4, 5)])
def test_batch_norm_of_another_rank_is_left_alone(shape):
    def make():
        inputs = keras.Input(shape)
        x = keras.layers.Dense(5)(inputs)
        return keras.Model(inputs, keras.layers.BatchNormalization()(x))

    *_, norm = trained_alike(make, (8, *shape))
    assert "call" not in vars(norm)


def test_cropping_of_channels_that_come_first_is_left_alone():
    def make():
        inputs = keras.Input((5, 8, 9))
        crop = keras.layers.Cropping2D(((1, 2), (0, 3)), data_format="channels_first")
        return keras.Model(inputs, crop(inputs))

    *_, crop = trained_alike(make, (2, 5, 8, 9))
    assert "call" not in vars(crop)


def test_convolutions_of_channels_that_come_first_are_left_alone():
    """Not every processor has them, so none is run."""
    inputs = keras.Input((5, 8, 9))
    conv = keras.layers.Conv2D(4, 3, data_format="channels_first")
    model = keras.Model(inputs, conv(inputs))
    speed_up(model, on_cpu=True)
    assert "convolution_op" not in vars(conv)


def test_batch_norm_of_channels_that_come_first_is_left_alone():
    def make():
        inputs = keras.Input((5, 8, 9))
        return keras.Model(inputs, keras.layers.BatchNormalization(axis=1)(inputs))

    *_, norm = trained_alike(make, (2, 5, 8, 9))
    assert "call" not in vars(norm)


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_gradients_repeat_to_the_bit(padding, onednn):
    rng = np.random.default_rng(0)
    image, kernel = rng.normal(size=(4, 80, 80, 16)), rng.normal(size=(3, 3, 16, 16))
    image, kernel = tf.constant(image, tf.float32), tf.constant(kernel, tf.float32)

    @tf.function
    def gradients():
        with tf.GradientTape() as tape:
            tape.watch([image, kernel])
            way = layers.quicker_way(16, 16, use_bias=True)
            outputs = way(padding)(image, kernel)
        return tape.gradient(outputs, [image, kernel], outputs)

    first = gradients()
    for _ in range(10):
        for one, other in zip(gradients(), first, strict=True):
            np.testing.assert_array_equal(one, other)


def test_large_filters_are_left_to_tensorflow_without_onednn(onednn):
    by_products = layers.convolve_by_products
    large = layers.quicker_way(512, 1024, use_bias=True)
    assert large is (by_products if onednn else None)
    assert layers.quicker_way(512, 512, use_bias=True) is not None


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
@pytest.mark.parametrize(
    ("channels", "side", "use_bias", "in_float32", "in_16_bits"),
    [
        (3, 12, False, "Conv2DBackpropFilter", "Conv2DBackpropFilter"),
        (3, 12, True, "EnsureShape", "Conv2DBackpropFilter"),
        (4, 12, True, "MatMul", "Conv2DBackpropFilter"),
        (4, 11, True, "EnsureShape", "Conv2DBackpropFilter"),
        (8, 11, True, "MatMul", "MatMul"),
    ],
)
def test_with_onednn_what_is_quicker_goes_by_size_and_precision(
    monkeypatch, dtype, channels, side, use_bias, in_float32, in_16_bits
):
    monkeypatch.setattr(layers, "uses_onednn", lambda: True)
    inputs = keras.Input((side, side, channels))
    precision = "float32" if dtype == tf.float32 else "mixed_bfloat16"
    conv = keras.layers.Conv2D(4, 3, use_bias=use_bias, dtype=precision)
    model = keras.Model(inputs, conv(inputs))
    speed_up(model, on_cpu=True)

    @tf.function
    def gradient():
        image = tf.ones([2, side, side, channels])
        with tf.GradientTape() as tape:
            outputs = model(image, training=True)
        return tape.gradient(outputs, conv.kernel.value)

    operations = gradient.get_concrete_function().graph.get_operations()
    found = {each.type for each in operations} - {"Cast"}
    expected = in_float32 if dtype == tf.float32 else in_16_bits
    assert expected in found
    for other in {"MatMul", "EnsureShape"} - {expected}:
        assert other not in found


def test_small_convolutions_are_left_to_tensorflow(monkeypatch):
    monkeypatch.setattr(layers, "FEW_PRODUCTS", 2 * 8 * 8 * 16 * 16)
    convolve = layers.convolve_by_convolutions("SAME")
    kernel = tf.ones([3, 3, 16, 16])

    def operations(side, dtype=tf.float32):
        @tf.function
        def gradient():
            image = tf.ones([2, side, side, 16], dtype)
            with tf.GradientTape() as tape:
                tape.watch(image)
                outputs = convolve(image, kernel)
            return tape.gradient(outputs, image)

        graph = gradient.get_concrete_function().graph
        return {each.type for each in graph.get_operations()}

    assert "Conv2DBackpropInput" in operations(7)
    assert "Conv2DBackpropInput" not in operations(8)
    assert "Conv2DBackpropInput" in operations(8, tf.bfloat16)


@pytest.mark.parametrize(("asked", "expected"), [("0", "False"), ("1", "True")])
@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="built without"
)
def test_tensorflow_says_whether_it_uses_onednn(asked, expected):
    program = "from unet_train.task import layers; print(layers.uses_onednn())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": asked},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split()[-1] == expected
