"""The graph against the paper's figure 1, and `Summary` against the graph."""

import dataclasses

import keras
import numpy as np
import pytest

from unet_core import Geometry, Summary, UNetConfig, build_unet, presets


def count(variables):
    return sum(int(np.prod(variable.shape)) for variable in variables)


def test_parameters_of_the_paper():
    assert count(build_unet("paper").weights) == 31_030_658


def test_parameters_of_the_blog_post():
    model = build_unet("blog_2018")
    assert count(model.trainable_variables) == 31_045_441
    assert count(model.non_trainable_variables) == 13_696


FIGURE = {
    "encoder_0_conv_1": (570, 64), "encoder_0_conv_2": (568, 64),
    "encoder_0_pool": (284, 64),
    "encoder_1_conv_1": (282, 128), "encoder_1_conv_2": (280, 128),
    "encoder_1_pool": (140, 128),
    "encoder_2_conv_1": (138, 256), "encoder_2_conv_2": (136, 256),
    "encoder_2_pool": (68, 256),
    "encoder_3_conv_1": (66, 512), "encoder_3_conv_2": (64, 512),
    "encoder_3_pool": (32, 512),
    "bottleneck_conv_1": (30, 1024), "bottleneck_conv_2": (28, 1024),
    "decoder_3_up": (56, 512), "decoder_3_concat": (56, 1024),
    "decoder_3_conv_1": (54, 512), "decoder_3_conv_2": (52, 512),
    "decoder_2_up": (104, 256), "decoder_2_concat": (104, 512),
    "decoder_2_conv_1": (102, 256), "decoder_2_conv_2": (100, 256),
    "decoder_1_up": (200, 128), "decoder_1_concat": (200, 256),
    "decoder_1_conv_1": (198, 128), "decoder_1_conv_2": (196, 128),
    "decoder_0_up": (392, 64), "decoder_0_concat": (392, 128),
    "decoder_0_conv_1": (390, 64), "decoder_0_conv_2": (388, 64),
    "logits": (388, 2),
}  # fmt: skip
"""Every box of the figure: side and channels after each arrow, for 572 x 572."""


def shapes_of(model, names, input_shape):
    outputs = [model.get_layer(name).output for name in names]
    return keras.Model(model.inputs, outputs).compute_output_shape(input_shape)


def test_every_box_of_the_figure():
    shapes = shapes_of(build_unet("paper"), FIGURE, (1, 572, 572, 1))
    found = {name: (s[1], s[3]) for name, s in zip(FIGURE, shapes, strict=True)}
    assert found == FIGURE


def test_the_order_of_the_figure():
    """Conv, conv, pool on the way down; up, copy, conv, conv on the way up."""
    names = [layer.name for layer in build_unet("paper").layers]
    order = [names.index(name) for name in FIGURE]
    assert order == sorted(order)


def test_concatenation_puts_the_cropped_skip_first():
    model = build_unet(UNetConfig(depth=1, base_filters=2, norm="none"))
    merge = model.get_layer("decoder_0_concat")
    sources = [tensor._keras_history.operation.name for tensor in merge.input]
    assert sources == ["decoder_0_crop", "decoder_0_up"]


def test_crops_take_the_middle():
    """What is copied lies over what was convolved: the same place of the image."""
    crops = Geometry().crop_sizes
    model = build_unet("paper")
    for level in range(4):
        layer = model.get_layer(f"decoder_{level}_crop")
        assert layer.cropping == ((crops[level],) * 2,) * 2


def test_normalisation_follows_each_activation_and_each_up_convolution():
    model = build_unet(UNetConfig(depth=2, base_filters=2))
    before = {
        layer.name: layer.input._keras_history.operation.name
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    }
    assert len(before) == 2 * 5 + 2
    assert before["encoder_0_norm_1"] == "encoder_0_conv_1"
    assert before["decoder_1_up_norm"] == "decoder_1_up"


def test_dropout_ends_the_contracting_path():
    model = build_unet("paper")
    names = [each.name for each in model.layers if "dropout" in each.name]
    assert names == ["encoder_3_dropout", "bottleneck_dropout"]
    skip = model.get_layer("decoder_3_crop").input
    assert skip._keras_history.operation.name == "encoder_3_dropout"


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
def test_initial_weights_have_variance_2_by_n(upsampling):
    """N is the number of values that one value of the output is computed from."""
    model = build_unet(UNetConfig(norm="none", upsampling=upsampling))
    for name, values in (
        ("encoder_0_conv_2", 9 * 64),
        ("encoder_2_conv_2", 9 * 256),
        ("bottleneck_conv_1", 9 * 512),
        ("decoder_1_conv_1", 9 * 256),
        # A transposed convolution of 2x2 with stride 2 lets one tap into each output.
        ("decoder_2_up", 512 if upsampling == "transposed" else 9 * 512),
    ):
        layer = model.get_layer(name)
        kernel = layer.kernel.numpy()
        assert abs(kernel.std() / np.sqrt(2 / values) - 1) < 0.03, name
        assert abs(kernel.mean()) < 0.02 * kernel.std()
        # Of Keras, not of the paper: cut off at two standard deviations, then scaled.
        assert 2.2 < np.abs(kernel).max() / np.sqrt(2 / values) < 2.3
        assert not layer.bias.numpy().any()


def test_signals_keep_their_size_through_the_figure():
    """What the paper wants of the initialisation: about the same size everywhere.

    An up-convolution has no ReLU to halve its output, so sizes grow by sqrt(2) there.
    """
    model = build_unet(UNetConfig(depth=3, base_filters=32, norm="none"))
    names = [name for name in FIGURE if "conv" in name or "_up" in name]
    names = [name for name in names if "_3" not in name]
    stages = keras.Model(model.inputs, [model.get_layer(name).output for name in names])
    image = np.random.default_rng(0).normal(127.5, 127.5, (2, 140, 140, 3))
    for name, value in zip(names, stages(image), strict=True):
        size = float(np.sqrt(np.mean(np.square(value))))
        assert 0.3 < size < 8, (name, size)


def flops_of(model, input_shape):
    """2 x output pixels x kernel, from the shapes of the layers that Keras infers."""
    kinds = ("Conv2D", "DepthwiseConv2D", "Conv2DTranspose")
    layers = [layer for layer in model.layers if type(layer).__name__ in kinds]
    shapes = shapes_of(model, [layer.name for layer in layers], input_shape)
    total = 0
    for layer, shape in zip(layers, shapes, strict=True):
        work = int(np.prod(layer.kernel.shape)) * shape[1] * shape[2]
        if isinstance(layer, keras.layers.Conv2DTranspose):
            work //= 4
        total += 2 * work
    return total


COUNTED = (
    *("Conv2D", "DepthwiseConv2D", "Conv2DTranspose", "BatchNormalization"),
    *("ReLU", "GroupNormalization"),
    *("LayerNormalization", "MaxPooling2D", "UpSampling2D", "Concatenate", "Add"),
)


def test_summary_against_the_graph(config):
    model = build_unet(config)
    geometry = Geometry.of(config)
    sides = [geometry.nearest_valid_sizes(side)[1] for side in (400, 300)]
    shape = (1, *sides, config.input_channels)
    found = Summary.of(config, tuple(sides))
    assert found.parameters == count(model.weights)
    assert found.trainable == count(model.trainable_variables)
    assert found.forward_gflop == pytest.approx(flops_of(model, shape) / 1e9)
    layers = [each.name for each in model.layers if type(each).__name__ in COUNTED]
    values = sum(int(np.prod(each)) for each in shapes_of(model, layers, shape))
    assert found.activation_mb == pytest.approx(4 * values / 1e6)
    assert found.output_shape == (*map(geometry.output_size, sides), config.classes)


def test_summary_of_the_blog_post():
    text = str(Summary.of(UNetConfig(), 572))
    assert "301.6 GFLOP forward, 903.6 GFLOP a training step" in text
    with pytest.raises(ValueError, match="Nearest valid: 588 and 604"):
        Summary.of(UNetConfig(), 600)


def test_summary_takes_what_the_model_takes():
    assert Summary.of("paper", 572) == Summary.of(presets.paper(), (572, 572))
    # Numbers of numpy would overflow.
    size = (np.int32(5724), np.int32(5724))
    assert Summary.of("blog_2018", size).forward_gflop == pytest.approx(46_108, abs=1)
    for no_size in (572.0, "572", (572, 572.0), None):
        with pytest.raises(ValueError, match="`size` must be a whole number"):
            Summary.of("blog_2018", no_size)
    for no_size in ((572, 572, 3), [572]):
        with pytest.raises(ValueError, match="one number, or height and width"):
            Summary.of("blog_2018", no_size)


def test_training_work_is_three_times_the_forward_but_for_the_image():
    config = dataclasses.replace(UNetConfig(), base_filters=8)
    found = Summary.of(config, 572)
    first = 2 * 570 * 570 * 9 * 3 * 8 / 1e9
    assert found.train_gflop == pytest.approx(3 * found.forward_gflop - first)
