"""The interface of a callback: six hooks, and state that a checkpoint keeps."""

from __future__ import annotations

import dataclasses
import difflib
import pathlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from unet_train.data import SegmentationData
    from unet_train.metrics import SegmentationMetrics
    from unet_train.options import TrainerOptions
    from unet_train.predict import Predictor
    from unet_train.task import SegmentationTask

    Logs = dict[str, npt.NDArray[np.float32]]


@dataclasses.dataclass
class Run:
    """What a callback may know of the run; the trainer keeps it up to date.

    Attributes:
      directory: The run folder.
      task: Model, loss and optimizer.
      data: Where batches and images come from.
      predictor: For whole photos, with the weights of the last validation.
      options: Of the trainer.
      batch_size: Images a step.
      steps_per_epoch: May be fractional: batches run on across epochs.
      step: Steps done.
      evaluated_step: Of the last validation.
      seconds: Training time so far, the time before a resume included.
      seconds_a_step: Measured since the first round of steps, validation and
        checkpoints included; 0 while nothing is known.
      horizon: The step at which the run will end at that speed.
      place: One line that names device and precision.
      metrics: What the last validation counted, None before the first.
      stop_reason: Why the run stops before its budget is spent; empty if it does not.
    """

    directory: pathlib.Path
    task: SegmentationTask
    data: SegmentationData
    predictor: Predictor
    options: TrainerOptions
    batch_size: int
    steps_per_epoch: float
    step: int = 0
    evaluated_step: int = 0
    seconds: float = 0.0
    seconds_a_step: float = 0.0
    horizon: float = float("inf")
    place: str = ""
    metrics: SegmentationMetrics | None = None
    stop_reason: str = ""

    @property
    def epoch(self) -> float:
        """Passes over the training images so far."""
        return self.step / self.steps_per_epoch

    def stop(self, reason: str) -> None:
        """Ends the run in good order after this round of steps."""
        self.stop_reason = self.stop_reason or reason


class Callback:
    """Override the hooks you need; each is called with the run's state.

    A class with a method `on_...` that is no hook is refused when the trainer gets it.
    """

    def on_fit_start(self, run: Run) -> None:
        """Before the first step; after a checkpoint was restored."""

    def on_loop_end(self, run: Run, logs: Logs) -> None:
        """After each round of steps.

        Args:
          run: State after the steps.
          logs: float32 [steps] each, the last of them being step `run.step`.
        """

    def on_eval_end(self, run: Run, metrics: dict[str, float]) -> None:
        """After each validation."""

    def on_checkpoint(self, run: Run, path: pathlib.Path) -> None:
        """After a checkpoint was written."""

    def on_exception(self, run: Run, error: BaseException) -> None:
        """When training stops by an error or an interrupt, before it is raised."""

    def on_fit_end(self, run: Run) -> None:
        """After the last step and the final validation."""

    def state_dict(self) -> dict[str, Any]:
        """What to keep in a checkpoint, as JSON."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""


def score_of(metrics: dict[str, float], monitor: str) -> float:
    """A score of a validation by name.

    Raises:
      ValueError: There is none of that name.
    """
    if monitor not in metrics:
        raise ValueError(
            f"The validation has no score {monitor!r}, only {sorted(metrics)}. Correct"
            " `monitor`."
        )
    return metrics[monitor]


HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))


def check_hooks(callback: Callback) -> None:
    """Refuses a callback with a hook that nobody will ever call.

    Raises:
      ValueError: It has a method `on_...` that is no hook; the text gives the nearest.
    """
    for name in dir(callback):
        if name.startswith("on_") and name not in HOOKS:
            near = difflib.get_close_matches(name, HOOKS, n=1, cutoff=0.0)
            raise ValueError(
                f"{type(callback).__name__} has a method {name!r}, which is no hook."
                f" Did you mean {near[0]!r}? The hooks are {list(HOOKS)}."
            )
