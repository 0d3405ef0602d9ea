"""Ends a run that gets no better."""

from __future__ import annotations

import math
from typing import Any

from unet_train.callbacks.base import Callback, Run, score_of


class EarlyStopping(Callback):
    """Stops when a score of the validation has not risen for a while.

    Attributes:
      monitor: The score, such as "iou"; larger is better.
      patience: How many validations in a row may bring no better one.
      min_delta: By how much a better one must be better.
    """

    def __init__(
        self, monitor: str = "iou", patience: int = 5, min_delta: float = 0.0
    ) -> None:
        if patience < 1 or min_delta < 0:
            raise ValueError(
                "`patience` must be at least 1 and `min_delta` at least 0. Received:"
                f" {patience} and {min_delta}"
            )
        self.monitor = monitor
        self.patience = patience
        self.min_delta = min_delta
        self._best = -math.inf
        self._waited = 0

    def on_fit_start(self, run: Run) -> None:
        """Stops again at once when a stopped run is resumed."""
        self._stop_if_due(run)

    def on_eval_end(self, run: Run, metrics: dict[str, float]) -> None:
        """Compares."""
        score = score_of(metrics, self.monitor)
        if score > self._best + self.min_delta:
            self._best, self._waited = score, 0
        else:
            self._waited += 1
        self._stop_if_due(run)

    def _stop_if_due(self, run: Run) -> None:
        if self._waited >= self.patience:
            run.stop(
                f"{self.monitor} has not risen above {self._best:.4f} in"
                f" {self._waited} validations"
            )

    def state_dict(self) -> dict[str, Any]:
        """The best score so far, and for how long."""
        best = self._best if math.isfinite(self._best) else None
        return {"best": best, "waited": self._waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes them back."""
        self._best = -math.inf if state["best"] is None else state["best"]
        self._waited = state["waited"]
