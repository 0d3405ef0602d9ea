"""Encoders of `keras.applications`, against the networks as Keras has them."""

import itertools
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from unet_core import Geometry, Summary, UNetConfig, build_unet, read_geometry
from unet_core.encoders import add_encoder, applications
from unet_core.operations import Operation, sizes

NAMES = [name for name, each in vars(keras.applications).items() if callable(each)]
# How often a network halves at once to begin with, where that is not once.
FIRST = {"ConvNeXt": 2, "VGG": 0}
# The smallest of each family whose feature maps Keras makes exactly half as large, and
# the mode of `preprocess_input`; None where the network begins with it.
EXACT = {
    "ConvNeXtTiny": None,
    "DenseNet121": "torch",
    "EfficientNetB0": None,
    "EfficientNetV2B0": None,
    "MobileNet": "tf",
    "MobileNetV2": "tf",
    "MobileNetV3Small": None,
    "ResNet50": "caffe",
    "ResNet50V2": "tf",
    "VGG16": "caffe",
}
# And one of each kind whose graph is another: these are trained and saved.
BUILT = [
    *("ConvNeXtTiny", "EfficientNetB0", "MobileNetV3Small", "NASNetMobile"),
    *("InceptionResNetV2", "VGG16", "Xception"),
]
MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def config_of(name, depth=5, **options):
    return UNetConfig(encoder=name, decoder_filters=(4,) * depth, **options)


def images(count=1, side=64):
    shape = (count, side, side, 3)
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_every_network_has_a_tap_of_each_size(name):
    first = next((at for key, at in FIRST.items() if name.startswith(key)), 1)
    operations = []
    end, skips = add_encoder(config_of(name), operations)
    taps = [*skips, end]
    assert [bool(tap) for tap in taps] == [place >= first for place in range(6)]
    found = sizes(operations, 96)
    for place, tap in enumerate(taps):
        if tap:
            assert found[tap] * 2**place == 96
            assert not tap.of_image
    names = [each.name for each in operations]
    assert len(set(names)) == len(names)
    assert names[0] == "rescale"
    assert all(each.startswith("encoder_") for each in names[1:])


def shaken(model):
    """Statistics and offsets of its own, so that no layer passes for another one."""
    rng = np.random.default_rng(1)
    for variable in model.variables:
        if "kernel" not in variable.path and "normalization/" not in variable.path:
            variable.assign(variable + rng.uniform(0, 0.2, variable.shape))
    return model


def normalise(layer, variances):
    layer.set_weights([np.array(MEAN), np.array(variances), np.array(0)])
    layer.finalize_state()


def original(name):
    function = getattr(keras.applications, name)
    model = function(include_top=False, weights=None, input_shape=(None, None, 3))
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.weights:
            normalise(layer, np.square(DEVIATION))
    return shaken(model)


@pytest.mark.parametrize("name", EXACT)
def test_features_are_those_of_keras(name, tmp_path):
    """Of pixel values here and of preprocessed ones there, from a file of weights."""
    keras_model, path = original(name), tmp_path / "x.weights.h5"
    keras_model.save_weights(path)
    config = config_of(name, encoder_weights=str(path))
    model = build_unet(config)
    _, skips = add_encoder(config, [])
    pixels = images()
    prepared = pixels.copy()
    if EXACT[name]:
        preprocess = keras.applications.imagenet_utils.preprocess_input
        prepared = preprocess(prepared, mode=EXACT[name])
    expected = np.asarray(keras_model(prepared))
    concatenated = model.get_layer("decoder_4_up").input
    found = np.asarray(keras.Model(model.input, concatenated)(pixels))
    assert expected.std() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * expected.max())
    assert [skip.channels for skip in skips if skip] == [
        model.get_layer(skip.name).output.shape[-1] for skip in skips if skip
    ]


def test_the_weights_that_keras_fetches(monkeypatch, tmp_path):
    """EfficientNet's graph is another with these, and its variances are no squares."""
    keras_model = original("EfficientNetB0")
    normalise(keras_model.get_layer(index=2), DEVIATION)
    keras_model.save_weights(tmp_path / "x.weights.h5")
    from keras.src.utils import file_utils

    file = str(tmp_path / "x.weights.h5")
    monkeypatch.setattr(file_utils, "get_file", lambda *_, **__: file)
    fetched = keras.applications.EfficientNetB0(include_top=False)
    model = build_unet(config_of("efficientnetb0", encoder_weights="imagenet"))
    end = keras.Model(model.input, model.get_layer("encoder_top_activation").output)
    expected = np.asarray(fetched(images(side=224)))
    np.testing.assert_allclose(end(images(side=224)), expected, rtol=1e-3, atol=1e-4)


LOAD = """
import sys
sys.modules["unet_core"] = None  # Importing it would raise.
import keras, numpy as np
for name in sys.argv[1:]:
    np.save(name, keras.saving.load_model(f"{name}.keras")(np.load("images.npy")))
"""


def test_they_train_and_load_without_this_package(tmp_path):
    expected = {}
    np.save(tmp_path / "images.npy", images(2))
    for name in BUILT:
        config = config_of(name.lower())
        model = build_unet(config)
        assert read_geometry(model) == Geometry.of(config), name
        summary = Summary.of(config, 64)
        assert summary.parameters == model.count_params(), name
        trained = sum(np.prod(each.shape) for each in model.trainable_weights)
        assert summary.trainable == trained, name
        step(model, name)
        expected[name] = np.asarray(model(images(2)))
        assert expected[name].shape == (2, 64, 64, 1)
        model.save(tmp_path / f"{name}.keras")
    subprocess.run([sys.executable, "-c", LOAD, *BUILT], cwd=tmp_path, check=True)
    for name, logits in expected.items():
        found = np.load(tmp_path / f"{name}.npy")
        np.testing.assert_allclose(found, logits, rtol=1e-5, atol=1e-5, err_msg=name)


def step(model, name):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(images(2), training=True) - 1))
    gradients = tape.gradient(loss, model.trainable_variables)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, (name, variable.path)
        assert np.isfinite(gradient).all(), (name, variable.path)
    keras.optimizers.SGD(1e-4).apply(gradients, model.trainable_variables)


def test_names_in_any_case_and_the_nearest_of_others():
    names = {
        tuple(layer.name for layer in build_unet(config_of(name)).layers)
        for name in ("mobilenetv2", "MobileNetV2", "MOBILENETV2")
    }
    assert len(names) == 1
    with pytest.raises(
        ValueError, match=r"no encoder 'resnet_50'. The nearest names are \['resnet50'"
    ):
        build_unet(config_of("resnet_50"))
    with pytest.raises(ValueError, match=r"nearest names are \['efficientnet_lite"):
        Geometry.of(config_of("efficientnet-lite0"))


@pytest.mark.parametrize(
    ("name", "depth", "fault"),
    [
        ("mobilenetv2", 6, "5 times, the first 1 at once, and there are 6 `decoder_fi"),
        ("convnexttiny", 1, "the first 2 at once, .* 1 .*Give 2 to 5 of them"),
        ("efficientnet_lite0", 6, "5 times, and there are 6 `decoder_filters`"),
    ],
)
def test_depths_that_there_are_not(name, depth, fault):
    with pytest.raises(ValueError, match=fault):
        build_unet(config_of(name, depth))


def test_less_depth_leaves_the_rest_of_the_encoder_out():
    shallow, deep = (
        Summary.of(config_of("mobilenetv2", depth), 64).parameters for depth in (2, 5)
    )
    assert shallow < deep / 50
    assert Geometry.of(config_of("mobilenetv2", 2)).step == 4
    assert build_unet(config_of("vgg16", 1))(images()).shape == (1, 64, 64, 1)


def test_weights_that_are_anothers(tmp_path):
    path = tmp_path / "x.weights.h5"
    original("MobileNet").save_weights(path)
    fault = r"x.weights.h5' cannot be read as those of `keras.applications.VGG16`"
    with pytest.raises(ValueError, match=fault):
        build_unet(config_of("vgg16", encoder_weights=str(path)))
    fault = "'no.h5' cannot be read as those of .*VGG16"
    with pytest.raises(ValueError, match=fault):
        build_unet(config_of("vgg16", encoder_weights="no.h5"))


def test_squeeze_and_excite_is_told_from_what_can_be_tiled():
    for name, layer in {
        **dict.fromkeys(["resnet50v2", "vgg16", "mobilenetv2", "xception"]),
        **dict.fromkeys(["densenet121", "inceptionv3", "convnexttiny", "nasnetmobile"]),
        "efficientnetb0": "encoder_block1a_se_squeeze (GlobalAveragePooling2D)",
        "mobilenetv3small": "GlobalAveragePooling2D",
    }.items():
        found = Geometry.of(config_of(name)).sees_all
        assert (found is None) if layer is None else (layer in found), name


def test_what_is_global_counts_once():
    small, large = (Summary.of(config_of("efficientnetb0"), side) for side in (64, 128))
    ratio = large.forward_gflop / small.forward_gflop
    assert 3.9 < ratio < 4
    assert 3.9 < large.activation_mb / small.activation_mb < 4


def test_pixels_are_scaled_in_float32():
    model = build_unet(config_of("mobilenetv3small", 2), dtype="mixed_float16")
    assert model.get_layer("rescale").compute_dtype == "float32"
    assert model.get_layer("encoder_conv").compute_dtype == "float16"
    logits = model(images())
    assert logits.dtype == tf.float32
    assert np.isfinite(logits).all()


def test_keras_is_left_as_it_was():
    """Its counters of names, and no variables that wait for values."""
    keras.layers.Conv2D(1, 1)
    before = keras.layers.Conv2D(1, 1).name
    applications._blueprint.cache_clear()
    Geometry.of(config_of("xception"))
    after = keras.layers.Conv2D(1, 1).name
    assert int(after.rpartition("_")[2]) - int(before.rpartition("_")[2]) == 1
    from keras.src.backend.common import global_state

    assert not global_state.get_global_attribute("uninitialized_variables")


def test_taps_by_hand():
    """A bypass on the way, and a tensor beside the main path."""
    operations = []

    def add(name, *sources, layer="ReLU", **options):
        operations.append(Operation(layer, name, sources, 1, options))
        return operations[-1]

    stem = add("stem", layer="MaxPooling2D", pool_size=2)
    joined = add("joined", stem, add("bypassed", stem), layer="Add")
    inner = add("inner", joined)  # The last of its size, and not on all paths.
    padded = add("padded", inner, layer="ZeroPadding2D", padding=(0, 1))
    conv = {"layer": "Conv2D", "kernel_size": 3, "strides": 2}
    main = add("main", padded, **conv)
    beside = add("beside", joined, layer="MaxPooling2D", pool_size=2)
    end = add("end", main, beside, layer="Add")
    last = applications._last_before
    assert last(operations, end, 2) is joined
    assert last(operations, end, 4) is end
    assert last(operations, end, 1) is None
    assert [each.pixel for each in itertools.islice(operations, 3)] == [2, 2, 2]
