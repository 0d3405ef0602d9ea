"""The graph against the paper's figure."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from unet_core import UNetConfig, build_unet, read_geometry

PAPER = UNetConfig(input_channels=1, classes=2, norm="none")


def count(variables):
    return sum(int(np.prod(variable.shape)) for variable in variables)


def test_parameters_of_the_paper():
    assert count(build_unet(PAPER).variables) == 31_030_658


def test_parameters_of_the_original():
    model = build_unet(UNetConfig())
    assert count(model.trainable_variables) == 31_045_441
    assert count(model.non_trainable_variables) == 13_696


def test_sides_and_channels_of_the_figure():
    model = build_unet(PAPER)
    names = [
        "encoder_0_conv_2", "encoder_1_conv_2", "encoder_2_conv_2", "encoder_3_conv_2",
        "bottleneck_conv_2", "decoder_3_concat", "decoder_3_conv_2", "decoder_2_concat",
        "decoder_2_conv_2", "decoder_1_concat", "decoder_1_conv_2", "decoder_0_concat",
        "decoder_0_conv_2", "logits",
    ]  # fmt: skip
    stages = keras.Model(model.inputs, [model.get_layer(name).output for name in names])
    shapes = stages.compute_output_shape((1, 572, 572, 1))
    assert [(shape[1], shape[3]) for shape in shapes] == [
        (568, 64), (280, 128), (136, 256), (64, 512),
        (28, 1024), (56, 1024), (52, 512), (104, 512),
        (100, 256), (200, 256), (196, 128), (392, 128),
        (388, 64), (388, 2),
    ]  # fmt: skip


def test_concatenation_puts_the_cropped_skip_first():
    model = build_unet(UNetConfig(depth=1, base_filters=2, norm="none"))
    merge = model.get_layer("decoder_0_concat")
    sources = [tensor._keras_history.operation.name for tensor in merge.input]
    assert sources == ["decoder_0_crop", "decoder_0_up"]


def test_normalisation_follows_each_relu_and_each_up_convolution():
    model = build_unet(UNetConfig(depth=2, base_filters=2))
    before = {
        layer.name: layer.input._keras_history.operation.name
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    }
    assert len(before) == 2 * 5 + 2
    assert before["encoder_0_norm_1"] == "encoder_0_conv_1"
    assert before["decoder_1_up_norm"] == "decoder_1_up"


def test_initial_weights_are_he_normal():
    model = build_unet(UNetConfig())
    for name in ("encoder_2_conv_2", "bottleneck_conv_2", "decoder_1_conv_1"):
        kernel = model.get_layer(name).kernel.numpy()
        expected = np.sqrt(2 / np.prod(kernel.shape[:3]))
        assert abs(kernel.std() / expected - 1) < 0.02


def test_scales_pixels_itself():
    model = build_unet(UNetConfig(depth=1, base_filters=2))
    scaled = keras.Model(model.input, model.get_layer("rescale").output)
    image = np.array([0, 127.5, 255], np.float32).reshape(1, 1, 3, 1).repeat(3, -1)
    np.testing.assert_allclose(scaled(image)[0, 0, :, 0], [-1, 0, 1], atol=1e-6)


def test_uint8_and_float_images_agree():
    model = build_unet(UNetConfig(depth=1, base_filters=4))
    image = np.random.default_rng(0).integers(0, 256, (1, 30, 30, 3), np.uint8)
    np.testing.assert_array_equal(model(image), model(image.astype(np.float32)))


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_logits_are_float32_at_any_precision(dtype):
    model = build_unet(UNetConfig(depth=1, base_filters=4), dtype=dtype)
    assert model(np.zeros((1, 18, 18, 3))).dtype == tf.float32
    assert all(weight.dtype == "float32" for weight in model.weights)
    conv = model.get_layer("bottleneck_conv_1")
    assert conv.compute_dtype == dtype.removeprefix("mixed_")


@pytest.mark.parametrize("config", [UNetConfig(depth=2, base_filters=2), PAPER])
def test_gradient_reaches_every_weight(config):
    model = build_unet(config)
    image = np.random.default_rng(0).integers(0, 256, (1, 188, 188, 3))
    with tf.GradientTape() as tape:
        logits = model(image[..., : config.input_channels], training=True)
        loss = tf.reduce_mean(tf.square(logits))
    gradients = tape.gradient(loss, model.trainable_variables)
    assert all(gradient is not None for gradient in gradients)


def test_batch_statistics_in_training_and_moving_ones_in_prediction():
    model = build_unet(UNetConfig(depth=1, base_filters=2, norm_momentum=0.5))
    images = np.random.default_rng(0).integers(0, 256, (2, 18, 18, 3))
    alone, together = model(images[:1]), model(images)
    np.testing.assert_allclose(alone[0], together[0], rtol=1e-4, atol=1e-6)
    before = model.get_layer("encoder_0_norm_1").moving_mean.numpy()
    trained = model(images, training=True)
    assert not np.allclose(trained, together)
    after = model.get_layer("encoder_0_norm_1").moving_mean.numpy()
    assert not np.allclose(before, after)


def test_saved_model_loads_without_this_package(tmp_path):
    model = build_unet(UNetConfig(depth=2, base_filters=2))
    image = np.random.default_rng(0).integers(0, 256, (1, 60, 60, 3))
    expected = model(image).numpy()
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "image.npy", image)
    program = (
        "import sys, numpy as np\n"
        "sys.modules['unet_core'] = None\n"  # Importing it would raise.
        "import keras\n"
        "model = keras.saving.load_model('model.keras')\n"
        "np.save('out.npy', model(np.load('image.npy')))\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)


def test_geometry_is_read_off_the_model():
    assert read_geometry(build_unet(UNetConfig(depth=3, base_filters=1))) == (
        3,
        "valid",
    )
    same = UNetConfig(depth=2, base_filters=1, padding="same")
    assert read_geometry(build_unet(same)) == (2, "same")
    with pytest.raises(ValueError, match="'dense' has 0 convolutions"):
        read_geometry(keras.Sequential([keras.Input((2,))], name="dense"))
