"""What lies in a run folder: `config.yaml`, checkpoints, `model.keras` and so on.

A published model is such a folder with `model.keras`, `config.yaml` and `metrics.json`.

```python
config = read_config("runs/cats")
```
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from unet_train.options import DataOptions, TaskOptions

if TYPE_CHECKING:
    import keras

CONFIG, MODEL, ARCHITECTURE = "config.yaml", "model.keras", "architecture.json"
CHECKPOINTS, METRICS, BEST = "checkpoints", "metrics.json", "best"

STATE, TENSORS = "state.json", "tensors"
"""In a checkpoint: what it tells, and how the names of TensorFlow's files begin."""


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a file whole or not at all."""
    partial = path.with_name(f"partial.{path.name}")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_model(path: pathlib.Path, model: keras.Model) -> None:
    """Saves a model whole or not at all."""
    save_aside(path, model).replace(path)


def save_aside(path: pathlib.Path, model: keras.Model) -> pathlib.Path:
    """Saves a model beside where it is to go; returns where that is.

    Raises:
      OSError: It cannot be written; nothing is left of it.
    """
    partial = path.with_name(f"partial.{path.name}")
    try:
        model.save(partial)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return partial


def write_config(
    run_dir: pathlib.Path, more: Mapping[str, Any] | None, **options: Any
) -> None:
    """Saves the options of a run, dataclasses by their group's name, as YAML."""
    resolved = {name: dataclasses.asdict(group) for name, group in options.items()}
    text = yaml.safe_dump({**(more or {}), **resolved}, sort_keys=False)
    write_text(run_dir / CONFIG, text)


def is_address(path: str | os.PathLike[str]) -> bool:
    """Whether it is no path of the file system, but such as `gs://bucket/run`.

    Raises:
      ValueError: It was one, and `pathlib` has taken a slash out of it.
    """
    text = os.fspath(path)
    if isinstance(path, pathlib.PurePath) and re.match(r"[a-z][a-z0-9]+:/[^/]", text):
        raise ValueError(
            f"{text} was an address, of which `pathlib` makes a folder named"
            f" {text.partition('/')[0]}. Give it as text."
        )
    return "://" in text


def local(path: str | os.PathLike[str]) -> pathlib.Path:
    """A path of the file system.

    Raises:
      ValueError: It is an address. As a path it would be a folder named `gs:`.
    """
    if is_address(path):
        raise ValueError(
            f"{path} is an address, where only runs may lie; results are written to a"
            " folder of the file system. Give one with --output."
        )
    return pathlib.Path(path)


def folder_of(run_dir: str | os.PathLike[str]) -> pathlib.Path:
    """The folder of a run or of a published model, also of one given by its file.

    Of an address it is a copy, to read.
    """
    from unet_train.runs.remote import to_read

    path = to_read(run_dir)
    return path.parent if path.is_file() else path


def origin_of(run_dir: str | os.PathLike[str]) -> str | None:
    """The `init_from` of a run: whose weights it began with, as far as it tells."""
    with contextlib.suppress(ValueError):
        return read_config(run_dir).get("init_from")  # type: ignore[return-value]
    return None


def precision_of(run_dir: str | os.PathLike[str]) -> str | None:
    """What a run computes in, as far as it tells."""
    with contextlib.suppress(ValueError):
        return (read_config(run_dir).get("trainer") or {}).get("precision")
    return None


def read_config(run_dir: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """The configuration that a run was started with.

    ```python
    from unet_train.runs.folder import read_config

    read_config("runs/cats")["data"]["tile_size"]  # 92
    ```

    Args:
      run_dir: The run, or a published model: its folder or its `model.keras`.

    Raises:
      ValueError: The folder holds no run.
    """
    path = folder_of(run_dir) / CONFIG
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        missing = {"data", "task"} - set(config)
    except (OSError, ValueError, yaml.YAMLError, TypeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"{run_dir} is not the folder of a run: cannot read {path} ({reason}). Give"
            " the --run_dir of `unet-train fit`, or a published model with the"
            f" {CONFIG} and the {METRICS} of its run."
        ) from error
    if missing:
        raise ValueError(
            f"{run_dir} is not the folder of a run: {path} lacks {sorted(missing)}."
            " Give the --run_dir of `unet-train fit`."
        )
    for name, kind in (("data", DataOptions), ("task", TaskOptions)):
        defaults = dataclasses.asdict(kind())
        strange = set(config[name] or ()) - set(defaults)
        if strange:
            raise ValueError(
                f"{path} is of a later version of unet_train, or was changed: nothing"
                f" is known of its options {sorted(strange)} under `{name}`. Use the"
                " version that trained the run."
            )
        # An option that the run did not know yet is as if not given.
        config[name] = {**defaults, **(config[name] or {})}
    return dict(config)
