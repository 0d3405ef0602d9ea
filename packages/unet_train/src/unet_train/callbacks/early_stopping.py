"""Ends a run that gets no better."""

from __future__ import annotations

import math
from typing import Any

from unet_train.scoring.accumulator import Mode, Monitor
from unet_train.training.callback import Callback
from unet_train.training.run import Run


class EarlyStopping(Callback):
    """Stops when a score of the validation has not got better for a while.

    ```python
    from unet_train.callbacks import EarlyStopping

    Trainer("runs/new", max_steps=2, callbacks=[EarlyStopping("iou", patience=5)])
    ```

    Attributes:
      monitor: The score, such as "iou" or "loss"; None takes the task's own.
      patience: How many validations in a row may bring no better one.
      min_delta: By how much a better one must be better.
      mode: Whether the largest is best ("max") or the least ("min"); None knows it of
        the task's score and of a loss, and takes the largest of any other.
    """

    def __init__(
        self,
        monitor: str | None = None,
        patience: int = 5,
        min_delta: float = 0.0,
        mode: Mode | None = None,
    ) -> None:
        if patience < 1 or min_delta < 0:
            raise ValueError(
                "`patience` must be at least 1 and `min_delta` at least 0. Received:"
                f" {patience} and {min_delta}"
            )
        self.monitor = monitor
        self.patience = patience
        self.min_delta = min_delta
        self.mode = mode
        self._best: float | None = None
        self._waited = 0

    def on_fit_start(self, run: Run) -> None:
        """Stops again at once when a stopped run is resumed."""
        self._stop_if_due(run)

    def on_eval_end(self, run: Run, scores: dict[str, float]) -> None:
        """Compares."""
        monitor = Monitor.choose(self.monitor, self.mode, run.task.monitor)
        score = monitor.of(scores)
        best = (
            -math.inf if self._best is None else monitor.of({monitor.name: self._best})
        )
        if score > best + self.min_delta:
            self._best, self._waited = scores[monitor.name], 0
        else:
            self._waited += 1
        self._stop_if_due(run)

    def _stop_if_due(self, run: Run) -> None:
        if self._waited >= self.patience:
            monitor = Monitor.choose(self.monitor, self.mode, run.task.monitor)
            way = "risen above" if monitor.mode == "max" else "fallen below"
            best = "any number" if self._best is None else f"{self._best:.4f}"
            run.stop(
                f"{monitor.name} has not {way} {best} in {self._waited} validations"
            )

    def state_dict(self) -> dict[str, Any]:
        """The best score so far, and for how long."""
        return {"best": self._best, "waited": self._waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes them back."""
        best = state["best"]
        self._best = None if best is None else float(best)
        self._waited = int(state["waited"])
