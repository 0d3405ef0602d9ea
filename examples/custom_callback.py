"""A callback of one's own: a journal of the validations, and a guard of the gradients.

    python examples/custom_callback.py --data_dir OUT --name coco_cats --run_dir runs/a

Each validation adds a line of JSON to `validations.jsonl` in the run folder. The run
ends in good order when the norm of the gradients leaves its own moving average far
behind. In a config file, with this folder on PYTHONPATH:

    callbacks:
      - class_path: custom_callback.Journal
        init_args: {factor: 50}
"""

import argparse
import json
import math
import pathlib
from typing import Any

from unet_core import UNetConfig, build_unet
from unet_train import Callback, SegmentationData, SegmentationTask, Trainer
from unet_train.callbacks import Progress, Run


class Journal(Callback):
    """Writes down each validation; stops a run whose gradients explode.

    Attributes:
      factor: A gradient norm so many times its moving average ends the run.
      memory: Steps that the average goes back; so many are not judged at first.
    """

    def __init__(self, factor: float = 100.0, memory: int = 50) -> None:
        if factor <= 1 or memory < 1:
            raise ValueError(
                "`factor` must be above 1 and `memory` at least 1. Received:"
                f" {factor} and {memory}"
            )
        self.factor, self.memory = factor, memory
        self.steps, self.average = 0, 0.0

    def on_fit_start(self, run: Run) -> None:
        """Drops the lines of steps that a killed run has to do again."""
        path = journal_of(run)
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in lines if json.loads(line)["step"] <= run.step]
        path.write_text("".join(f"{line}\n" for line in kept))

    def on_loop_end(self, run: Run, logs: dict[str, Any]) -> None:
        """Compares the norm of every step with the average before it."""
        for norm in map(float, logs["gradient_norm"]):
            if not math.isfinite(norm):
                continue  # An overflow in float16; the loss scaling skips such a step.
            if self.steps >= self.memory and norm > self.factor * self.average:
                run.stop(f"gradient norm {norm:.3g}, on average {self.average:.3g}")
            self.steps += 1
            self.average += (norm - self.average) / min(self.steps, self.memory)

    def on_eval_end(self, run: Run, metrics: dict[str, float]) -> None:
        """Adds a line."""
        record = {"step": run.step, "epoch": round(run.epoch, 2), **metrics}
        record["gradient_norm"] = self.average
        with journal_of(run).open("a") as file:
            file.write(json.dumps(record) + "\n")

    def state_dict(self) -> dict[str, Any]:
        """The average and what it is of, so that a resumed run judges alike."""
        return {"steps": self.steps, "average": self.average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes them back."""
        self.steps, self.average = state["steps"], state["average"]


def journal_of(run: Run) -> pathlib.Path:
    """The file of a run."""
    return run.directory / "validations.jsonl"


def main() -> None:
    """Trains a tiny network for a few steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", required=True, help="where TFDS built it")
    parser.add_argument("--name", default="coco_cats", help="TFDS name of the dataset")
    parser.add_argument("--run_dir", required=True, help="a new folder")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--tile_size", type=int, default=108)
    options = parser.parse_args()

    trainer = Trainer(
        options.run_dir,
        max_steps=options.steps,
        eval_every_steps=max(1, options.steps // 4),
        limit_eval=4,
        callbacks=[Progress(), Journal()],
    )
    task = SegmentationTask(build_unet(UNetConfig(depth=2, base_filters=4)))
    data = SegmentationData(
        options.name,
        data_dir=options.data_dir,
        tile_size=options.tile_size,
        batch_size=2,
    )
    trainer.fit(task, data)
    print(pathlib.Path(options.run_dir, "validations.jsonl").read_text(), end="")


if __name__ == "__main__":
    main()
