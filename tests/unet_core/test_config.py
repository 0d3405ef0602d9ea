"""Impossible options are refused with the cure."""

import dataclasses
import json

import numpy as np
import pytest

from unet_core import Geometry, Summary, UNetConfig, build_unet, presets


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"depth": 0}, "`depth` must be a whole number of at least 1. Received: 0"),
        ({"depth": 9}, "the paper has 4. Received: 9"),
        ({"base_filters": 1.5}, "`base_filters` must be a whole number"),
        ({"classes": True}, "`classes` must be a whole number"),
        ({"norm": "spectral"}, r"`norm` must be one of \['none', 'batch', 'sync_batch"),
        ({"padding": "reflect"}, r"`padding` must be one of \['valid', 'same'\]"),
        ({"upsampling": "bilinear"}, r"one of \['transposed', 'resize', 'nearest'\]"),
        ({"norm_momentum": 1.0}, "`norm_momentum` must be at least 0 and below 1"),
        ({"dropout": -0.1}, "`dropout` must be at least 0 and below 1. Received: -0.1"),
        ({"dropout": float("nan")}, "`dropout` must be at least 0 and below 1"),
        ({"stochastic_depth": 1}, "`stochastic_depth` must be at least 0 and below 1"),
        ({"stochastic_depth": False}, "`stochastic_depth` must be at least 0"),
        ({"deep_supervision": -1}, "`deep_supervision` must be a whole number of at"),
        ({"deep_supervision": 4}, "a depth of 4 has 3. Use fewer heads or more depth"),
        (
            {"norm": "group", "groups": 24},
            r"64 channels .* 24 `groups`. Use groups=8, ",
        ),
        (
            {"norm": "group", "encoder": "vgg16", "decoder_filters": (32, 12)},
            r"12 channels of `decoder_filters` .* 8 `groups`. Use groups=4, ",
        ),
        ({"activation": ""}, "`activation` must be a name that Keras knows"),
        ({"activation": "softmax"}, "belongs after the logits"),
        ({"activation": "log_softmax"}, "belongs after the logits"),
        ({"norm": "layer", "base_filters": 1}, "Use base_filters=2 or more"),
    ],
)
def test_impossible_options(fields, fault):
    with pytest.raises(ValueError, match=fault):
        UNetConfig(**fields)


def test_numbers_of_numpy_become_pythons_own():
    config = UNetConfig(depth=np.int64(3), dropout=np.float32(0.5), classes=np.uint8(2))
    assert config == UNetConfig(depth=3, dropout=0.5, classes=2)
    assert json.loads(json.dumps(dataclasses.asdict(config)))["depth"] == 3
    assert Geometry(np.int32(3)).output_size(np.int64(140)) == 52


def test_the_cure_for_groups_cures():
    UNetConfig(norm="group", groups=8)
    UNetConfig(norm="group", groups=24, base_filters=72)
    UNetConfig(norm="group", groups=4, encoder="vgg16", decoder_filters=(32, 12))
    UNetConfig(norm="group", base_filters=3, encoder="vgg16")


def test_an_activation_that_keras_does_not_know():
    with pytest.raises(ValueError, match="squash"):
        build_unet(UNetConfig(activation="squash"))


def test_presets_by_name():
    assert presets.find_preset("blog_2018") == UNetConfig()
    with pytest.raises(ValueError, match=r"No preset is named 'big'. .*'paper'"):
        build_unet("big")
    for other in (presets.small, {"depth": 3}, 4):
        with pytest.raises(TypeError, match="a UNetConfig or the name of a preset"):
            build_unet(other)
    assert all(presets.PRESETS[name].__doc__ for name in presets.PRESETS)


def test_a_former_name_still_finds_its_preset():
    assert "original" not in presets.PRESETS
    renamed = "'original' is now 'blog_2018'.*\"paper\". Use the new name"
    for find in (presets.find_preset, lambda name: Summary.of(name, 572)):
        with pytest.warns(FutureWarning, match=renamed):
            found = find("original")
        assert found == find("blog_2018")
    with pytest.warns(FutureWarning, match=renamed):
        build_unet("original")
