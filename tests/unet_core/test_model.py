"""What the graph does beside the figure: scaling, geometry read off its layers."""

import copy
import pickle
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from unet_core import Geometry, UNetConfig, build_unet, read_geometry


def test_scales_pixels_itself():
    model = build_unet(UNetConfig(depth=1, base_filters=2))
    scaled = keras.Model(model.input, model.get_layer("rescale").output)
    image = np.array([0, 127.5, 255], np.float32).reshape(1, 1, 3, 1).repeat(3, -1)
    np.testing.assert_allclose(scaled(image)[0, 0, :, 0], [-1, 0, 1], atol=1e-6)


def test_uint8_and_float_images_agree():
    model = build_unet(UNetConfig(depth=1, base_filters=4))
    image = np.random.default_rng(0).integers(0, 256, (1, 30, 30, 3), np.uint8)
    np.testing.assert_array_equal(model(image), model(image.astype(np.float32)))


def test_the_default_is_the_blog_post():
    names = [layer.name for layer in build_unet().layers]
    assert names == [layer.name for layer in build_unet("blog_2018").layers]


def test_geometry_is_read_off_any_network_of_the_table(light_config):
    config = light_config
    expected = Geometry.of(config)
    assert read_geometry(build_unet(config)) == expected


def convolutional(*layers):
    image = keras.Input((None, None, 3))
    return keras.Model(image, keras.Sequential(layers)(image)).layers[-1]


def test_what_is_no_unet():
    with pytest.raises(TypeError, match="must be a Keras model.*Received: 'x.keras'"):
        read_geometry("x.keras")
    conv, pool = keras.layers.Conv2D, keras.layers.MaxPooling2D
    same = {"padding": "same"}
    for layers, fault in (
        ([conv(2, 3, **same), pool()], "makes 0 pixels of 1|makes 1 pixels of 2"),
        ([conv(2, 2)], "makes 1 pixels of 2, which do not lie in the middle"),
        ([keras.layers.GlobalAveragePooling2D()], r"returns \(None, 3\), which is no"),
        ([keras.layers.Resizing(8, 8)], r"makes \(8, 8\) pixels of \(2, 2\)"),
    ):
        with pytest.raises(ValueError, match=fault):
            read_geometry(convolutional(*layers))
    with pytest.raises(ValueError, match="in place of one batch of images"):
        read_geometry(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))
    unknown = "not known before it is called|has no defined inputs yet"  # Keras 3.5.
    with pytest.raises(ValueError, match=unknown):
        read_geometry(keras.Sequential([conv(2, 3)]))


def test_models_within_models_are_read():
    inner = build_unet("tiny")
    outer = keras.Sequential([keras.Input((None, None, 3)), inner])
    assert read_geometry(outer) == read_geometry(inner)


@pytest.mark.parametrize(
    ("padding", "width", "nearest"),
    [("valid", 108, "100 and 108"), ("same", 104, "96 and 104")],
)
def test_an_invalid_size_is_refused_with_the_nearest(padding, width, nearest):
    model = build_unet(UNetConfig(depth=3, base_filters=2, padding=padding))
    image = np.zeros((1, 102, width, 3), np.uint8)
    for call in (model, model.predict_on_batch, tf.function(model)):
        with pytest.raises(ValueError, match=f"height 102. Nearest valid: {nearest}"):
            call(image)
    with pytest.raises(ValueError, match="height 102"):
        keras.Sequential([model])(image)
    unknown = tf.function(model, input_signature=[tf.TensorSpec((None, None, None, 3))])
    square = np.zeros((1, width, width, 3), np.float32)
    assert unknown(square).shape[0] == 1


@pytest.mark.parametrize("shape", [(60, 60, 3), (1, 60, 60), (2, 60, 60, 1)])
def test_what_is_no_batch_of_images(shape):
    model = build_unet(UNetConfig(depth=2, base_filters=2))
    fault = rf"\[N, H, W, 3\]. Received the shape {re.escape(str(shape))}.*batch axis"
    for call in (model, tf.function(model)):
        with pytest.raises(ValueError, match=fault):
            call(np.zeros(shape))


def test_the_checks_leave_a_stock_model():
    model = build_unet(UNetConfig(depth=1, base_filters=2))
    image = np.random.default_rng(0).integers(0, 256, (1, 30, 30, 3), np.uint8)
    expected = model(image)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(twin(image), expected)
        assert type(twin) is type(model)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone(image), expected)
    assert model.get_config() == clone.get_config()
