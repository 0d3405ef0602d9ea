"""Checkpoints that are complete or absent.

```python
checkpoints = Checkpoints(run_dir / "checkpoints", keep=3)
checkpoints.save(1000, {"model": model, "optimizer": optimizer}, {"seconds": 61.5})
state = checkpoints.restore_newest({"model": model, "optimizer": optimizer})
```

Each is a folder `step_00001000` with TensorFlow's own tensor files and `state.json`. It
is written under another name and renamed when everything is on the disk.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
from collections.abc import Callable
from typing import Any

import tensorflow as tf

# What TensorFlow and Python raise for files that are torn or missing.
_UNREADABLE = (tf.errors.OpError, OSError, IndexError, json.JSONDecodeError)

FORMAT = 2
"""Of a checkpoint's content; another one is refused."""

_NAME = re.compile(r"step_(\d+)")


class DamagedError(ValueError):
    """A checkpoint cannot be read."""


class Checkpoints:
    """The checkpoints of one run.

    Attributes:
      directory: Where they lie.
      keep: How many of the newest stay.
    """

    def __init__(self, directory: pathlib.Path, *, keep: int) -> None:
        self.directory = directory
        self.keep = keep

    def all(self) -> list[pathlib.Path]:
        """Complete checkpoints, oldest first."""
        if not self.directory.is_dir():
            return []
        found = [
            path for path in self.directory.iterdir() if _NAME.fullmatch(path.name)
        ]
        return sorted(found, key=step_of)

    def latest(self) -> pathlib.Path | None:
        """The newest checkpoint, None if there is none."""
        return next(reversed(self.all()), None)

    def save(
        self, step: int, objects: dict[str, Any], state: dict[str, Any]
    ) -> pathlib.Path:
        """Writes a checkpoint, unless it is there, and removes those that are too old.

        Args:
          step: Steps done.
          objects: Models, optimizers and variables that TensorFlow tracks.
          state: Anything JSON can hold.

        Returns:
          The checkpoint's folder.

        Raises:
          OSError: It cannot be written, such as on a full disk; nothing is left of it,
            and the others are as they were.
        """
        final = self.directory / f"step_{step:08d}"
        if final.exists():
            return final
        # What a kill left half written, or half removed, takes room only.
        for leftover in self.directory.glob(".step_*"):
            shutil.rmtree(leftover, ignore_errors=True)
        partial = self.directory / f".{final.name}.partial"
        try:
            partial.mkdir(parents=True)
            tf.train.Checkpoint(**objects).write(str(partial / "tensors"))
            text = json.dumps({"format": FORMAT, **state}, indent=1)
            (partial / "state.json").write_text(text + "\n")
            for path in (*partial.iterdir(), partial):
                _sync(path)
            partial.rename(final)
            _sync(self.directory)
        except (OSError, tf.errors.OpError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            reason = getattr(error, "strerror", None) or getattr(
                error, "message", error
            )
            raise OSError(
                f"The checkpoint {final} cannot be written: {reason}. Make room, or"
                " correct the rights of the folder."
            ) from error
        for old in self.all()[: -self.keep]:
            # Under another name first: half a checkpoint must not look like one.
            shutil.rmtree(old.rename(old.with_name(f".{old.name}.old")))
        return final

    def restore_newest(
        self,
        objects: dict[str, Any],
        *,
        on_damaged: Callable[[pathlib.Path, DamagedError], None] = lambda *_: None,
    ) -> dict[str, Any] | None:
        """Reads the newest checkpoint that is not damaged.

        Args:
          objects: As for `restore`.
          on_damaged: Told of each newer one that is damaged.

        Returns:
          The state, or None if there is no checkpoint.

        Raises:
          ValueError: All are damaged, or one is of another model.
        """
        error = None
        for path in reversed(self.all()):
            try:
                return self.restore(path, objects)
            except DamagedError as damaged:
                error = damaged
                on_damaged(path, damaged)
        if error is not None:
            raise error
        return None

    def set_aside(self, path: pathlib.Path) -> pathlib.Path:
        """Renames a damaged checkpoint, so that its step can be saved anew."""
        aside = path.with_name(f"damaged_{path.name}")
        shutil.rmtree(aside, ignore_errors=True)
        return path.rename(aside)

    def restore(self, path: pathlib.Path, objects: dict[str, Any]) -> dict[str, Any]:
        """Reads a checkpoint into objects that are built already.

        Args:
          path: From `all` or `latest`.
          objects: Under the names they were saved with; others in it are left alone.

        Returns:
          The state.

        Raises:
          DamagedError: It cannot be read.
          ValueError: It is of another model.
        """
        try:
            status = tf.train.Checkpoint(**objects).read(str(path / "tensors"))
            status.assert_existing_objects_matched()
            state: dict[str, Any] = json.loads((path / "state.json").read_text())
        except _UNREADABLE as error:
            raise DamagedError(_damaged(path, error)) from error
        except (AssertionError, ValueError) as error:
            raise ValueError(
                f"The checkpoint {path} does not fit the model: {error}. Resume with"
                " the configuration that it was trained with (config.yaml beside it)."
            ) from error
        status.expect_partial()
        if (found := state.pop("format", None)) != FORMAT:
            raise ValueError(
                f"The checkpoint {path} has the format {found}, and this"
                f" version of unet_train reads {FORMAT}. Use the version that trained"
                " the run, or its model.keras, which any version reads."
            )
        return state


def _damaged(path: pathlib.Path, error: Exception) -> str:
    return (
        f"The checkpoint {path} is damaged: {getattr(error, 'message', error)}. Delete"
        " this folder; a run goes on from the checkpoint before it."
    )


def step_of(path: pathlib.Path) -> int:
    """The step in a checkpoint's name."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path} is not a checkpoint: expected a name step_<number>.")
    return int(match[1])


def _sync(path: pathlib.Path) -> None:
    """Makes sure that a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
