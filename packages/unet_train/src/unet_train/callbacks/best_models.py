"""Keeps the models that scored best."""

from __future__ import annotations

import json
import pathlib
import shutil

from unet_train.callbacks.base import Callback, Run, score_of


class BestModels(Callback):
    """Saves the model of each validation that is among the best so far.

    `best/step_00001000/` holds `model.keras`, with the weights that were validated, and
    `metrics.json`. `unet-train predict --weights best` uses the best of them.

    Attributes:
      monitor: The score, such as "iou"; larger is better.
      keep: How many to keep.
    """

    def __init__(self, monitor: str = "iou", keep: int = 1) -> None:
        if keep < 1:
            raise ValueError(f"`keep` must be at least 1. Received: {keep}")
        self.monitor = monitor
        self.keep = keep

    def on_fit_start(self, run: Run) -> None:
        """Drops what a run that was killed saved after the step it goes on from."""
        for path, metrics in self._saved(run):
            if metrics["step"] > run.step:
                shutil.rmtree(path)

    def on_eval_end(self, run: Run, metrics: dict[str, float]) -> None:
        """Saves the model if it is among the best; removes what no longer is."""
        from unet_train.run_folder import BEST, write_model, write_text

        score = score_of(metrics, self.monitor)
        ranked = [(record[self.monitor], path) for path, record in self._saved(run)]
        better = [each for each in ranked if each[0] >= score]
        path = run.directory / BEST / f"step_{run.step:08d}"
        if len(better) >= self.keep or path.exists():
            return
        partial = path.with_name(f".{path.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write_model(partial / "model.keras", run.predictor.model)
        record = {**metrics, "monitor": self.monitor, "step": run.step}
        write_text(partial / "metrics.json", json.dumps(record, indent=1) + "\n")
        partial.rename(path)
        for _, old in sorted(ranked, reverse=True)[self.keep - 1 :]:
            shutil.rmtree(old)

    def _saved(self, run: Run) -> list[tuple[pathlib.Path, dict[str, float]]]:
        from unet_train.run_folder import BEST

        return [
            (path.parent, json.loads(path.read_text()))
            for path in sorted((run.directory / BEST).glob("step_*/metrics.json"))
        ]
