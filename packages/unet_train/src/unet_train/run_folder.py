"""What lies in a run folder: `config.yaml`, checkpoints, `model.keras` and so on.

```python
config = read_config("runs/cats")
model = load_model("runs/cats")  # Also while the run is under way.
```
"""

from __future__ import annotations

import json
import math
import os
import pathlib
from typing import Any

import keras
import yaml

from unet_train.checkpoint import Checkpoints, step_of

CONFIG, MODEL, ARCHITECTURE = "config.yaml", "model.keras", "architecture.json"
CHECKPOINTS, METRICS = "checkpoints", "metrics.json"


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a file whole or not at all."""
    partial = path.with_name(f"partial.{path.name}")
    partial.write_text(text)
    partial.replace(path)


def write_model(path: pathlib.Path, model: keras.Model) -> None:
    """Saves a model whole or not at all."""
    partial = path.with_name(f"partial.{path.name}")
    model.save(partial)
    partial.replace(path)


def read_config(run_dir: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """The configuration that a run was started with.

    Raises:
      ValueError: The folder holds no run.
    """
    path = pathlib.Path(run_dir) / CONFIG
    try:
        config = yaml.safe_load(path.read_text())
        missing = {"data", "task"} - set(config)
    except (OSError, yaml.YAMLError, TypeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"{run_dir} is not the folder of a run: cannot read {path} ({reason}). Give"
            " the --run_dir of `unet-train fit`."
        ) from error
    if missing:
        raise ValueError(
            f"{run_dir} is not the folder of a run: {path} lacks {sorted(missing)}."
            " Give the --run_dir of `unet-train fit`."
        )
    return dict(config)


def load_model(run_dir: str | os.PathLike[str]) -> keras.Model:
    """The model of a run in float32: of its last checkpoint or of its end, if later.

    Raises:
      ValueError: The run has written no weights yet, or they are damaged.
    """
    run_dir = pathlib.Path(run_dir)
    checkpoints = Checkpoints(run_dir / CHECKPOINTS, keep=1)
    latest = checkpoints.latest()
    if (run_dir / MODEL).exists() and (
        latest is None or step_of(latest) <= _finished_step(run_dir)
    ):
        return keras.saving.load_model(run_dir / MODEL, compile=False)
    if latest is None:
        raise ValueError(
            f"The run {run_dir} has neither {MODEL} nor a checkpoint yet. Let it train"
            " on, or resume it with `unet-train fit ... --resume`."
        )
    model = keras.models.model_from_json((run_dir / ARCHITECTURE).read_text())
    checkpoints.restore(latest, {"model": model})
    return model


def _finished_step(run_dir: pathlib.Path) -> float:
    """The step that the finished model is from; infinite if nothing tells."""
    try:
        return float(json.loads((run_dir / METRICS).read_text())["step"])
    except (OSError, ValueError, KeyError):
        return math.inf
