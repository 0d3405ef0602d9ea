"""Impossible options are refused with the cure."""

import pytest

from unet_core import UNetConfig


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"depth": 0}, "`depth` must be a whole number of at least 1. Received: 0"),
        ({"depth": 9}, "the paper has 4. Received: 9"),
        ({"base_filters": 1.5}, "`base_filters` must be a whole number"),
        ({"classes": True}, "`classes` must be a whole number"),
        ({"norm": "spectral"}, r"`norm` must be one of \['none', 'batch'\]"),
        ({"padding": "reflect"}, r"`padding` must be one of \['valid', 'same'\]"),
        ({"norm_momentum": 1.0}, "`norm_momentum` must be at least 0 and below 1"),
    ],
)
def test_impossible_options(fields, fault):
    with pytest.raises(ValueError, match=fault):
        UNetConfig(**fields)
