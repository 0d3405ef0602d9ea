"""Checkpoints that are complete or absent.

```python
checkpoints = Checkpoints(run_dir / "checkpoints", keep=3)
checkpoints.save(1000, {"model": model, "optimizer": optimizer}, {"seconds": 61.5})
state = checkpoints.restore_newest({"model": model, "optimizer": optimizer})
```

Each is a folder `step_00001000` with TensorFlow's own tensor files and `state.json`. It
is written under another name, from copies, for which training need not wait (`begin`),
and renamed when everything is on the disk. A checksum in `state.json` is of all else in
it and of the index, where TensorFlow keeps those of the tensors.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import hashlib
import json
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf

from unet_train.runs.folder import STATE, TENSORS, write_text
from unet_train.runs.snapshot import Snapshot

# What TensorFlow raises for files that are torn or missing. Others of its errors, and
# the system's, are of the machine: out of memory, no right to read, a broken disk.
_TORN = (
    tf.errors.DataLossError, tf.errors.NotFoundError, tf.errors.OutOfRangeError,
    IndexError,
)  # fmt: skip
_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR}
_SYSTEM_SAYS = {f"; {os.strerror(number)}": number for number in errno.errorcode}

FORMAT = 2
"""Of a checkpoint's content; another one is refused.

The checksum is looked at before: one that is made in another way needs another name.
"""

_NAME = re.compile(r"step_(\d+)")


class DamagedError(ValueError):
    """A checkpoint is torn, changed or not all there; reading again would not help."""


class Checkpoints:
    """The checkpoints of one run.

    Attributes:
      directory: Where they lie.
      keep: How many of the newest stay.
    """

    def __init__(self, directory: pathlib.Path, *, keep: int) -> None:
        self.directory = directory
        self.keep = keep
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._begun: concurrent.futures.Future[Any] = self._thread.submit(lambda: None)

    def all(self) -> list[pathlib.Path]:
        """Complete checkpoints, oldest first."""
        try:
            paths = list(self.directory.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(
            (path for path in paths if _NAME.fullmatch(path.name)), key=step_of
        )

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
        return self.begin(step, objects, state).result()

    def begin(
        self, step: int, objects: dict[str, Any], state: dict[str, Any]
    ) -> concurrent.futures.Future[pathlib.Path]:
        """Copies what a checkpoint keeps, and has a thread write it.

        Objects and state may change when this returns. It waits for the one begun
        before, and takes what `save` takes; the future gives what `save` gives.

        Raises:
          TypeError: One of the objects keeps something else than variables.
        """
        self.wait()
        copies, text = Snapshot(objects), json.dumps({"format": FORMAT, **state})
        final = self.directory / f"step_{step:08d}"
        self._begun = self._thread.submit(self._write, copies, text, final)
        return self._begun

    def _write(self, copies: Snapshot, text: str, final: pathlib.Path) -> pathlib.Path:
        if final.exists():
            return final
        # What a kill left half written, or half removed, takes room only.
        for leftover in self.directory.glob(".step_*"):
            shutil.rmtree(leftover, ignore_errors=True)
        partial = self.directory / f".{final.name}.partial"
        with _whole_or_gone(partial, final):
            partial.mkdir(parents=True)
            copies.write(str(partial / TENSORS))
            state = json.loads(text)
            sealed = {"checksum": _checksum(state, partial), **state}
            write_text(partial / STATE, json.dumps(sealed, indent=1) + "\n")
            for path in (*partial.iterdir(), partial):
                _sync(path)
            partial.rename(final)
            _sync(self.directory)
        for old in self.all()[: -self.keep]:
            # Under another name first: half a checkpoint must not look like one.
            shutil.rmtree(old.rename(old.with_name(f".{old.name}.old")))
        return final

    def wait(self) -> None:
        """Until the checkpoint that was begun is complete, or cannot be written."""
        with contextlib.suppress(OSError):  # The future tells of that.
            self._begun.result()

    def restore_newest(
        self,
        objects: dict[str, Any],
        fields: Mapping[str, type] | None = None,
        *,
        on_damaged: Callable[[pathlib.Path, DamagedError], None] = lambda *_: None,
    ) -> dict[str, Any] | None:
        """Reads the newest checkpoint that is not damaged.

        Args:
          objects: As for `restore`.
          fields: As for `restore`.
          on_damaged: Told of each newer one that is damaged.

        Returns:
          The state, or None if there is no checkpoint.

        Raises:
          OSError: One cannot be read for now; older ones are not tried.
          ValueError: All are damaged, or one is of another model.
        """
        error = None
        for path in reversed(self.all()):
            try:
                return self.restore(path, objects, fields)
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

    def restore(
        self,
        path: pathlib.Path,
        objects: dict[str, Any],
        fields: Mapping[str, type] | None = None,
    ) -> dict[str, Any]:
        """Reads a checkpoint into objects that are built already.

        Args:
          path: From `all` or `latest`.
          objects: Under the names they were saved with; others in it are left alone.
          fields: What the state must hold, and of which type; float takes an int too.

        Returns:
          The state.

        Raises:
          DamagedError: It is not what was written.
          OSError: It cannot be read for now: memory, rights, the disk.
          ValueError: It is of another model, or of another version.
        """
        with _naming_the_fault(path):
            state = _read_state(path, fields or {})
            try:
                status = tf.train.Checkpoint(**objects).read(str(path / TENSORS))
                status.assert_existing_objects_matched()
            except (
                AssertionError,
                ValueError,
                tf.errors.InvalidArgumentError,
            ) as error:
                raise ValueError(
                    f"The checkpoint {path} does not fit the model: {_reason(error)}."
                    " Resume with the configuration that it was trained with"
                    " (config.yaml beside it)."
                ) from error
        status.expect_partial()
        return state


@contextlib.contextmanager
def _whole_or_gone(partial: pathlib.Path, final: pathlib.Path) -> Iterator[None]:
    """Leaves nothing of a checkpoint that cannot be written."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise OSError(
            f"The checkpoint {final} cannot be written: {_reason(error)}. Make"
            " room, or correct the rights of the folder."
        ) from error


@contextlib.contextmanager
def _naming_the_fault(path: pathlib.Path) -> Iterator[None]:
    """Tells a checkpoint that is damaged from one that cannot be read for now."""
    try:
        yield
    except (OSError, MemoryError, IndexError, tf.errors.OpError) as error:
        if _is_damage(error):
            raise _damaged(path, _reason(error)) from error
        raise OSError(
            f"The checkpoint {path} cannot be read: {_reason(error)}. It may well be"
            " whole, so it is left as it is. See to the memory, the disk or the rights"
            " of the folder, and try again."
        ) from error


def _is_damage(error: Exception) -> bool:
    number = getattr(error, "errno", None)
    if not isinstance(error, OSError):
        # TensorFlow gives what the system said as text, and its reader no more.
        said = (each for text, each in _SYSTEM_SAYS.items() if text in str(error))
        number = next(said, None)
    if number is not None:
        return number in _MISSING
    return isinstance(error, _TORN) or type(error) is tf.errors.OpError


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        file = f"{error.filename}: " if error.filename else ""
        return f"{file}{error.strerror}"
    return getattr(error, "message", str(error)) or type(error).__name__


def _damaged(path: pathlib.Path, reason: str) -> DamagedError:
    return DamagedError(
        f"The checkpoint {path} is damaged: {reason}. Delete this folder; a run goes on"
        " from the checkpoint before it."
    )


def _read_state(path: pathlib.Path, fields: Mapping[str, type]) -> dict[str, Any]:
    """What `state.json` holds, if that is what was written."""
    try:
        state = json.loads((path / STATE).read_bytes())
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"state.json is no JSON ({error})") from error
    if not isinstance(state, dict):
        raise _damaged(path, f"state.json holds no object but {state!r:.80}")
    # Version 0.1.0 wrote none.
    checksum = state.pop("checksum", None)
    if checksum is not None and checksum != _checksum(state, path):
        raise _damaged(path, "state.json or tensors.index is not what was written")
    if (found := state.pop("format", None)) != FORMAT:
        raise ValueError(
            f"The checkpoint {path} has the format {found}, and this"
            f" version of unet_train reads {FORMAT}. Use the version that trained"
            " the run, or its model.keras, which any version reads."
        )
    for name, kind in fields.items():
        if name not in state:
            raise _damaged(path, f"state.json lacks {name!r}")
        if type(state[name]) not in ((int, float) if kind is float else (kind,)):
            raise _damaged(
                path,
                f"in state.json {name!r} is {state[name]!r:.80}, which is no"
                f" {kind.__name__}",
            )
    if (step := state.get("step", step_of(path))) != step_of(path):
        raise _damaged(path, f"state.json is of step {step}")
    return state


def _checksum(state: dict[str, Any], path: pathlib.Path) -> str:
    """Of a state and of the index of the tensors beside it."""
    index = (path / f"{TENSORS}.index").read_bytes()
    return hashlib.sha256(json.dumps(state).encode() + index).hexdigest()


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
