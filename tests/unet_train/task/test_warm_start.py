"""Weights of another network: which fit, and which sources there are."""

import logging

import keras
import numpy as np
import pytest

from unet_core import UNetConfig, build_unet
from unet_train import SegmentationTask
from unet_train.runs.load import load_network
from unet_train.task.layers import weights_by_place
from unet_train.task.warm_start import start_from, take_weights


def make_net(seed, **options):
    """A net of which every weight is drawn, moving statistics too."""
    config = {"depth": 2, "base_filters": 4, "norm": "batch", **options}
    model = build_unet(UNetConfig(**config))
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(rng.uniform(0.1, 1, weight.shape))
    return model


def values(model):
    return {place: weight.numpy() for place, weight in weights_by_place(model)}


def taken_layers(model, before, source):
    """The layers of which every weight is the source's; the others are as before."""
    layers = set()
    after = values(model)
    for place, value in after.items():
        if np.array_equal(value, source.get(place)):
            layers.add(place[0])
        else:
            np.testing.assert_array_equal(value, before[place])
    return layers


def layers_with_weights(model):
    return {layer.name for layer in model.layers if layer.weights}


def test_the_same_network_takes_all_with_moving_statistics_and_frozen_layers():
    model, other = make_net(0), make_net(1)
    model.get_layer("encoder_0_conv_1").trainable = False
    other.get_layer("encoder_0_norm_1").trainable = False
    taken = take_weights(model, other, source="there")
    assert (
        str(taken) == f"{len(model.weights)} of {len(model.weights)} weights of there"
    )
    assert taken.left == ()
    assert any("moving_variance" in weight.path for weight in model.weights)
    for one, expected in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(one, expected)
    assert not np.shares_memory(model.weights[0].numpy(), other.weights[0].numpy())


def test_of_another_number_of_classes_all_but_the_head():
    model, other = make_net(0), make_net(1, classes=3)
    before, source = values(model), values(other)
    taken = take_weights(model, other, source="there")
    assert taken.left == ("logits",)
    assert taken.count == taken.total - 2
    expected = layers_with_weights(model) - {"logits"}
    assert taken_layers(model, before, source) == expected


@pytest.mark.parametrize(("mine", "theirs"), [(2, 3), (3, 2)])
def test_of_another_depth_what_has_the_same_name_and_shape(mine, theirs):
    model, other = make_net(0, depth=mine), make_net(1, depth=theirs)
    before, source = values(model), values(other)
    taken = take_weights(model, other, source="there")
    layers = taken_layers(model, before, source)
    assert layers >= {"encoder_0_conv_1", "encoder_1_conv_2", "decoder_0_conv_2"}
    assert layers >= {"logits"}
    assert layers == layers_with_weights(model) - set(taken.left)
    assert taken.left


def test_a_model_within_the_model_is_taken_weight_by_weight():
    def nested(seed, filters, ends):
        keras.utils.set_random_seed(seed)
        inner = keras.Sequential(
            [
                keras.layers.Conv2D(filters, 3, name="one"),
                keras.layers.Conv2D(ends, 3, name="two"),
            ],
            name="inner",
        )
        image = keras.Input((None, None, 3))
        outputs = keras.layers.Conv2D(1, 1, name="head")(inner(image))
        return keras.Model(image, outputs)

    model, other = nested(0, 4, 5), nested(1, 4, 6)
    taken = take_weights(model, other, source="there")
    assert (taken.count, taken.total) == (2, 6)  # Half a head is none.
    assert taken.left == ("inner", "head")
    one, expected = (net.get_layer("inner").layers[0].kernel for net in (model, other))
    np.testing.assert_array_equal(one, expected)


def test_nothing_fits():
    """Not the bias of the head alone, either."""
    model, other = make_net(0), make_net(1, base_filters=5)
    before = values(model)
    fault = "No weight of there fits.*same layer and shape.*encoder_0.*Give the options"
    with pytest.raises(ValueError, match=fault):
        take_weights(model, other, source="there")
    assert taken_layers(model, before, {}) == set()


@pytest.fixture
def task():
    return SegmentationTask(make_net(0), ema=0.9)


def test_what_is_left_is_told_in_one_line(task, tmp_path, caplog):
    make_net(1, classes=2).save(tmp_path / "other.keras")
    with caplog.at_level(logging.WARNING, "unet_train"):
        taken = start_from(task, tmp_path / "other.keras")
    assert caplog.messages == [
        f"{taken.count} of {taken.total} weights of {tmp_path / 'other.keras'} taken."
        " At their initial values are left: logits."
    ]
    caplog.clear()
    make_net(1).save(tmp_path / "same.keras")
    start_from(task, tmp_path / "same.keras")
    assert not caplog.messages


def test_many_that_are_left_are_counted(tmp_path, caplog, task):
    keras.Model(
        task.model.inputs, task.model.get_layer("encoder_0_conv_1").output
    ).save(tmp_path / "first.keras")
    start_from(task, tmp_path / "first.keras")
    (message,) = caplog.messages
    count = len(layers_with_weights(task.model)) - 1
    assert message.endswith(f" and {count - 10} more layers.")
    assert message.count(",") == 9


def test_averages_start_from_what_was_taken(task, tmp_path):
    make_net(1, classes=2).save(tmp_path / "other.keras")
    task.build_optimizer()
    start_from(task, tmp_path / "other.keras")
    for average, weight in zip(task.averages, task.model.weights, strict=True):
        np.testing.assert_array_equal(average, weight)


@pytest.mark.parametrize("name", ["nothing", "empty", "text", "other.keras", "x.txt"])
def test_what_has_no_weights(tmp_path, name):
    (tmp_path / "empty").mkdir()
    for file in ("text", "x.txt"):
        (tmp_path / file).write_text("no model")
    with pytest.raises(ValueError, match=rf"{name} is neither the folder.*model.keras"):
        load_network(tmp_path / name)


def test_a_file_that_is_no_model(tmp_path):
    (tmp_path / "model.keras").write_text("no model")
    for path in (tmp_path, tmp_path / "model.keras"):
        with pytest.raises(ValueError, match=r"model.keras cannot be loaded"):
            load_network(path)
