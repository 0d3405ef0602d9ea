"""A published model: `model.keras` with what a run's folder tells of it, and small.

The folder works as a run does, `Predictor.load("models/cats")`, and tells nothing of
the machine that it was trained on.
"""

from __future__ import annotations

import json
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import yaml

from unet_train.runs.folder import CONFIG, METRICS, write_text

# What of a configuration makes the network and its use.
_TOLD = ("model", "network", "data", "task", "trainer")


def told(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a run's configuration is of use elsewhere: no folder of its machine."""
    found = {key: config[key] for key in _TOLD if config.get(key)}
    also = [_without_folder(each) for each in found["data"].get("also", [])]
    found["data"] = {**_without_folder(found["data"]), "also": also}
    if weights := found.get("model", {}).get("encoder_weights"):
        # "imagenet", or the path of a file.
        name = pathlib.PurePath(weights).name
        found["model"] = {**found["model"], "encoder_weights": name}
    return found


def _without_folder(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != "data_dir"}


def publish(
    folder: pathlib.Path, config: Mapping[str, Any], metrics: Mapping[str, Any]
) -> None:
    """Writes what a run folder has beside its model.

    Args:
      folder: Holds `model.keras`.
      config: Of the run.
      metrics: Threshold, step, and scores if there are any.
    """
    write_text(folder / CONFIG, yaml.safe_dump(told(config), sort_keys=False))
    write_text(folder / METRICS, json.dumps(dict(metrics), indent=1) + "\n")


def round_weights(model: keras.Model) -> None:
    """Rounds the weights to what float16 holds; they stay float32, half of it zeros."""
    largest = np.finfo(np.float16).max
    model.set_weights(
        [
            np.clip(weight, -largest, largest).astype(np.float16).astype(weight.dtype)
            for weight in model.get_weights()
        ]
    )


def compress(path: pathlib.Path) -> None:
    """Packs a `.keras` file tighter, which Keras writes without compression."""
    packed = path.with_name(f"packed.{path.name}")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(packed, "w") as target:
        for name in source.namelist():
            # Without the time of day: the same model gives the same file.
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(entry, source.read(name), compresslevel=9)
    packed.replace(path)
