"""What a run folder says of the run, read without calling what it names.

A run folder may be of someone else. Its configuration names classes by path, and a
path may lead to anything that Python can import: only losses, optimizers and schedules
are taken from it, and a network of one's own is made from what Keras saved of it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from typing import Any

import keras

from unet_train.registry import find_object
from unet_train.runs.folder import CONFIG, read_config
from unet_train.runs.load import load_architecture
from unet_train.runs.remote import to_read
from unet_train.task.loss import Loss

PARTS = ("loss", "optimizer", "schedule")
"""The options of a task that may name a class."""

_GROUPS = ("data", "model", "task", "trainer")
_BASES = (
    Loss,
    keras.losses.Loss,
    keras.Optimizer,
    keras.optimizers.schedules.LearningRateSchedule,
)


def is_run(run_dir: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a run, rather than being there for one to come."""
    with contextlib.suppress(FileNotFoundError):
        return (to_read(run_dir) / CONFIG).exists()
    return False  # Nothing lies at an address.


def options_of_run(
    run_dir: str | os.PathLike[str], replaced: Collection[str] = ()
) -> dict[str, Any]:
    """The options that a run was started with, as "task.loss" and so on.

    Args:
      run_dir: The folder that `fit` wrote.
      replaced: Which of `PARTS` somebody gives in place of the run's.

    Raises:
      ValueError: The folder holds no run, or names something that is no such part.
    """
    config = read_config(run_dir)
    for option in set(PARTS) - set(replaced):
        part = config["task"][option]
        if not isinstance(part, dict):
            continue
        path = str(part.get("class_path"))
        found = find_object(path)
        if not (isinstance(found, type) and issubclass(found, _BASES)):
            raise ValueError(
                f"{run_dir} names {path} as its `task.{option}`, which is none. If you"
                f" trust it, give --task.{option} on the command line as well."
            )
    return {
        f"{group}.{name}": value
        for group in _GROUPS
        for name, value in config.get(group, {}).items()
    }


def network_of_run(run_dir: str | os.PathLike[str]) -> keras.Model | None:
    """A run's own network, untrained; None where the options `model` describe it.

    Raises:
      ValueError: It cannot be read.
    """
    is_own = read_config(run_dir).get("network") is not None
    return load_architecture(run_dir) if is_own else None
