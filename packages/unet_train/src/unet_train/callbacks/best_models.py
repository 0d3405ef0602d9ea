"""Keeps the models that scored best."""

from __future__ import annotations

import json
import pathlib
import shutil
from typing import Any

from unet_train.runs.folder import BEST, METRICS, MODEL, write_model, write_text
from unet_train.scoring.accumulator import Mode, Monitor
from unet_train.training.callback import Callback
from unet_train.training.run import Run


class BestModels(Callback):
    """Saves the model of each validation that is among the best so far.

    `best/step_00001000/` holds `model.keras`, with the weights that were validated, and
    `metrics.json`. `unet-train predict --weights best` uses the best of them. All are
    compared on the same images, the first `limit_eval`.

    ```python
    from unet_train.callbacks import BestModels

    Trainer("runs/new", max_steps=2, callbacks=[BestModels("iou", keep=3)])
    ```

    Attributes:
      monitor: The score, such as "iou" or "loss"; None takes the task's own.
      keep: How many to keep.
      mode: Whether the largest is best ("max") or the least ("min"); None knows it of
        the task's score, of a loss and of "false_area", and takes the largest of any
        other.
    """

    def __init__(
        self, monitor: str | None = None, keep: int = 1, mode: Mode | None = None
    ) -> None:
        if keep < 1:
            raise ValueError(f"`keep` must be at least 1. Received: {keep}")
        self.monitor = monitor
        self.keep = keep
        self.mode = mode

    def on_fit_start(self, run: Run) -> None:
        """Drops what a run that was killed saved after the step it goes on from."""
        for path, record in _saved(run):
            if record["step"] > run.step:
                shutil.rmtree(path)

    def on_eval_end(self, run: Run, scores: dict[str, float]) -> None:
        """Saves the model if it is among the best; removes what no longer is."""
        monitor = Monitor.choose(self.monitor, self.mode, run.task.monitor)
        ranked = [(monitor.of(record), path) for path, record in _saved(run)]
        score = monitor.of(scores)
        better = [each for each in ranked if each[0] >= score]
        path = run.directory / BEST / f"step_{run.step:08d}"
        if len(better) >= self.keep or path.exists():
            return
        partial = path.with_name(f".{path.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write_model(partial / MODEL, run.predictor.model)
        record = {
            **scores,
            **run.predictor.settings,
            "images": run.evaluated_images,
            "monitor": monitor.name,
            "mode": monitor.mode,
            "step": run.step,
        }
        write_text(partial / METRICS, json.dumps(record, indent=1) + "\n")
        partial.rename(path)
        for _, old in sorted(ranked, reverse=True)[self.keep - 1 :]:
            shutil.rmtree(old)


def _saved(run: Run) -> list[tuple[pathlib.Path, dict[str, Any]]]:
    return [
        (path.parent, json.loads(path.read_text()))
        for path in sorted((run.directory / BEST).glob(f"step_*/{METRICS}"))
    ]
