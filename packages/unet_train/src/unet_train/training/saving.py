"""What of a run a checkpoint keeps, and how the run takes it back."""

from __future__ import annotations

import collections
import contextlib
import logging
import pathlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

from unet_train.runs.checkpoint import Checkpoints, step_of
from unet_train.runs.folder import CHECKPOINTS, MODEL
from unet_train.runs.snapshot import Snapshot
from unet_train.training.callback import Callback
from unet_train.training.devices import Place
from unet_train.training.run import Run, require_finite_weights

_LOG = logging.getLogger("unet_train")
_WITHOUT_IT = "%s Training goes on without it."

_STATE = {
    "step": int, "evaluated_step": int, "seconds": float, "seconds_a_step": float,
    "task": dict, "callbacks": dict,
}  # fmt: skip


class Saver:
    """Saves and restores a run with its task and callbacks."""

    def __init__(
        self,
        run_dir: pathlib.Path,
        *,
        keep: int,
        callbacks: Sequence[Callback],
        place: Place,
    ) -> None:
        """Reads nothing yet.

        Args:
          run_dir: The run folder.
          keep: How many of the newest checkpoints stay.
          callbacks: Whose state is kept as well.
          place: Says which machine writes.
        """
        self._run_dir = run_dir
        self._checkpoints = Checkpoints(run_dir / CHECKPOINTS, keep=keep)
        self._callbacks = _named(callbacks)
        self._place = place
        self._begun: collections.deque[Future[pathlib.Path]] = collections.deque()

    def refuse_to_overwrite(self, address: str, *, resume: bool) -> None:
        """Has nobody train over what lies in the run folder.

        Args:
          address: Where it was copied from; empty if it was not.
          resume: Whether a run that lies there is to go on.

        Raises:
          ValueError: A run that is not to be resumed, or that cannot be.
        """
        name, latest = address or self._run_dir, self._checkpoints.latest()
        if latest is not None and not resume:
            raise ValueError(
                f"{name} holds a run already, at step {step_of(latest)}. Go on"
                " with it (--resume), or give another --run_dir."
            )
        if latest is None and (self._run_dir / MODEL).exists():
            raise ValueError(
                f"{name} holds a trained {MODEL} but no checkpoint to go on"
                " from. Give another --run_dir."
            )

    @property
    def is_new(self) -> bool:
        """Whether there is no checkpoint to go on from."""
        return self._checkpoints.latest() is None

    def unwritten(self) -> Unwritten:
        """Takes note of what cannot be written at the end."""
        return Unwritten(self._run_dir, self._checkpoints)

    def begin(self, run: Run) -> None:
        """Has a thread write a checkpoint. If it cannot, the run goes on without.

        Raises:
          FloatingPointError: A weight is no number.
          TypeError: The task tracks something else than variables.
        """
        self._begun.extend(self._begin(run))

    def save(self, run: Run) -> None:
        """Writes a checkpoint that is complete when this returns.

        Raises:
          FloatingPointError: A weight is no number.
          OSError: It cannot be written.
          TypeError: The task tracks something else than variables.
        """
        written = self._begin(run)
        for each in written:
            each.result()
        self._begun.extend(written)

    def completed(self) -> Iterator[pathlib.Path]:
        """The folders of the checkpoints that were completed since this was asked."""
        while self._begun and self._begun[0].done():
            try:
                yield self._begun.popleft().result()
            except OSError as error:
                _LOG.warning(_WITHOUT_IT, error)

    def close(self) -> None:
        """Waits for a checkpoint that was begun."""
        self._checkpoints.wait()
        list(self.completed())  # Who would be told is gone, but for a warning.

    def _begin(self, run: Run) -> list[Future[pathlib.Path]]:
        """The checkpoint that was begun; none on machines that do not write."""
        require_finite_weights(run)
        state = {
            "step": run.step,
            "evaluated_step": run.evaluated_step,
            "seconds": run.seconds,
            "seconds_a_step": run.seconds_a_step,
            "task": run.task.state_dict(),
            "callbacks": {
                name: callback.state_dict()
                for name, callback in self._callbacks.items()
            },
        }
        tracked = run.task.tracked()
        if self._place.is_chief:
            return [self._checkpoints.begin(run.step, tracked, state)]
        Snapshot(tracked)  # Reading asks every device: all machines take part.
        return []

    def restore(self, run: Run) -> None:
        """Goes on from the newest checkpoint that is not damaged, if there is one.

        Raises:
          OSError: A checkpoint cannot be read for now.
          ValueError: All are damaged, or one does not fit model, task or callbacks.
        """

        def warn(path: pathlib.Path, error: ValueError) -> None:
            damaged.append(path)
            _LOG.warning("%s", error)

        damaged: list[pathlib.Path] = []
        state = self._checkpoints.restore_newest(
            run.task.tracked(), _STATE, on_damaged=warn
        )
        if state is None:
            return
        run.step, run.seconds = state["step"], state["seconds"]
        run.seconds_a_step = state["seconds_a_step"]
        run.evaluated_step = state["evaluated_step"]
        _hand_back("the task", run.task.load_state_dict, state["task"])
        for name, callback in self._callbacks.items():
            if (saved := state["callbacks"].get(name)) is not None:
                _hand_back(f"the callback {name}", callback.load_state_dict, saved)
        if self._place.is_chief:
            for path in damaged:
                aside = self._checkpoints.set_aside(path)
                _LOG.warning("it is now %s.", aside)


def _hand_back(whose: str, load: Callable[[Any], None], state: Any) -> None:
    """Gives an object the state that it had; another version's may not fit.

    Raises:
      ValueError: It does not.
    """
    try:
        load(state)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"The state of {whose} in the checkpoint does not fit it ({error!r}):"
            f" {state!r:.200}. Resume with the version that wrote it; a callback may"
            " also be left out of the configuration."
        ) from error


class Unwritten:
    """Files that a full disk kept from being written: the rest may fit."""

    def __init__(self, run_dir: pathlib.Path, checkpoints: Checkpoints) -> None:
        self._run_dir = run_dir
        self._checkpoints = checkpoints
        self._written: list[str] = []
        self._reasons: dict[str, OSError] = {}

    @contextlib.contextmanager
    def noting(self, what: str) -> Iterator[None]:
        """Goes on where a file cannot be written, and remembers which."""
        try:
            yield
            self._written.append(what)
        except OSError as error:
            self._reasons[what] = error

    def raise_if_any(self) -> None:
        """Tells what is missing.

        Raises:
          OSError: Something is; the text says what there is, and how to go on.
        """
        if not self._reasons:
            return
        written = ", ".join(self._written)
        raise OSError(
            f"{self._run_dir} lacks {' and '.join(self._reasons)}."
            + "".join(f" {error}" for error in self._reasons.values())
            + (f" Written: {written}." if written else "")
            + f" If there is room, {self._how_to_go_on()}"
        )

    def _how_to_go_on(self) -> str:
        latest = self._checkpoints.latest()
        if latest is None:
            return "there is no checkpoint to go on from; give another --run_dir."
        return f"--resume goes on from step {step_of(latest)}."


def _named(callbacks: Sequence[Callback]) -> dict[str, Callback]:
    """Callbacks by class path; a second one of its class has "#2" behind it."""
    named: dict[str, Callback] = {}
    for callback in callbacks:
        path = f"{type(callback).__module__}.{type(callback).__qualname__}"
        name, number = path, 1
        while name in named:
            number += 1
            name = f"{path}#{number}"
        named[name] = callback
    return named
