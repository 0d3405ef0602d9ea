"""One table of networks: a preset or option added here is at once checked for all."""

import dataclasses

import keras
import pytest

from unet_core import UNetConfig, presets

LONGEST = ["test_applications", "test_conformance", "test_tiling"]


def pytest_collection_modifyitems(items):
    """The longest files first: no process shall wait for another one at the end."""
    lengths = {stem: length for length, stem in enumerate(LONGEST, 1)}
    items.sort(key=lambda item: -lengths.get(item.path.stem, 0))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same weights in each run of a test."""
    keras.utils.set_random_seed(0)


CONFIGS: dict[str, UNetConfig] = {
    **{name: presets.find_preset(name) for name in presets.PRESETS},
    "resize": UNetConfig(base_filters=8, upsampling="resize"),
    "resize_same": UNetConfig(base_filters=8, upsampling="resize", padding="same"),
    "group": UNetConfig(base_filters=8, norm="group", classes=3),
    "layer": UNetConfig(base_filters=8, norm="layer", depth=2),
    "sync_batch": UNetConfig(base_filters=8, norm="sync_batch"),
    "supervised": UNetConfig(base_filters=8, deep_supervision=3, classes=2),
    "gelu": UNetConfig(base_filters=8, activation="gelu", norm="layer", dropout=0.2),
    "stochastic": UNetConfig(base_filters=8, stochastic_depth=0.1),
    "stochastic_same": UNetConfig(
        base_filters=8, stochastic_depth=0.1, padding="same", upsampling="resize"
    ),
    "encoder": UNetConfig(encoder="efficientnet_lite0", decoder_filters=(8, 8)),
}


@pytest.fixture(params=CONFIGS)
def config(request) -> UNetConfig:
    """Each network of the table, as it is."""
    return CONFIGS[request.param]


def lighter(config: UNetConfig) -> UNetConfig:
    """With few filters and little depth."""
    depth = min(config.depth, 2)
    heads = min(config.deep_supervision, depth - 1)
    return dataclasses.replace(
        config, base_filters=8, depth=depth, deep_supervision=heads
    )


# Presets that differ in width and depth alone are then the same one.
LIGHT: dict[str, UNetConfig] = {}
for _name, _config in CONFIGS.items():
    if lighter(_config) not in LIGHT.values():
        LIGHT[_name] = lighter(_config)


@pytest.fixture(params=LIGHT)
def light_config(request) -> UNetConfig:
    """Each network of the table, with few filters and little depth."""
    return LIGHT[request.param]


@pytest.fixture
def light_configs() -> dict[str, UNetConfig]:
    """All of them, for tests that share a process."""
    return LIGHT
