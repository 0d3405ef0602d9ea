"""The state of a run, what is due when, and what must not be saved.

```python
agenda = Agenda(TrainerOptions(max_epochs=10), steps_per_epoch=57.5)
while not agenda.is_over(run): ...
```
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from unet_train.runs.folder import CHECKPOINTS

if TYPE_CHECKING:
    import tensorflow as tf

    from unet_train.data.share import Share
    from unet_train.data.source import SegmentationData
    from unet_train.inference.predictor import Predictor
    from unet_train.options import TrainerOptions
    from unet_train.scoring.accumulator import Accumulator
    from unet_train.task.segmentation import SegmentationTask


@dataclasses.dataclass
class Run:
    """What a callback may know of the run; the trainer keeps it up to date.

    ```python
    from unet_train.callbacks import Callback, Run


    class Say(Callback):
        def on_loop_end(self, run: Run, logs):
            print(f"step {run.step}, epoch {run.epoch:.1f}: {logs['loss'][-1]:.3f}")
    ```

    Attributes:
      directory: The run folder, on this machine.
      task: Model, loss and optimizer.
      data: Where batches and images come from.
      predictor: For whole photos, with the weights of the last validation.
      options: Of the trainer.
      batch_size: Images a step.
      steps_per_epoch: May be fractional: batches run on across epochs.
      step: Steps done.
      evaluated_step: Of the last validation.
      evaluated_images: On how many images that was.
      seconds: Training time so far, the time before a resume included.
      seconds_a_step: Measured since the first round of steps, validation and
        checkpoints included; 0 while nothing is known.
      horizon: The step at which the run will end at that speed.
      place: One line that names device and precision.
      address: Where the run folder is copied to; empty if it is not.
      origin: What it began with before the first step, in words.
      scores: What the last validation counted into, None before the first.
      final_scores: On all validation images, None before the end.
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
    evaluated_images: int = 0
    seconds: float = 0.0
    seconds_a_step: float = 0.0
    horizon: float = float("inf")
    place: str = ""
    address: str = ""
    origin: str = "the start"
    scores: Accumulator | None = None
    final_scores: dict[str, Any] | None = None
    stop_reason: str = ""

    @property
    def where(self) -> str:
        """The run folder as whoever looks for it later finds it."""
        return self.address or str(self.directory)

    @property
    def epoch(self) -> float:
        """Passes over the training images so far."""
        return self.step / self.steps_per_epoch

    def batches(self, share: Share) -> tf.data.Dataset:
        """One machine's share of what `train_step` takes, from the next step on."""
        return self.data.train_batches(
            margin=self.task.margin,
            start_step=self.step,
            share=share,
            finished=False,
            **self._order,
        )

    def train_step(self, batch: Any) -> dict[str, Any]:
        """The task's, on a batch that is finished on the same device."""
        return self.task.train_step(self.data.finish(batch, margin=self.task.margin))

    def ids_of_batch(self, step: int) -> list[str]:
        """The TFDS ids of the examples in a batch, counted from 0."""
        return self.data.ids_of_batch(step, **self._order)

    @property
    def _order(self) -> dict[str, Any]:
        return {
            "seed": self.options.seed,
            "limit": self.options.limit_train,
            "repeat_batches": self.options.overfit_batches,
        }

    def stop(self, reason: str) -> None:
        """Ends the run in good order after this round of steps."""
        self.stop_reason = self.stop_reason or reason


class Agenda:
    """The steps at which a run is validated, saved, and over.

    Attributes:
      max_steps: From `max_steps` and `max_epochs`, infinite if neither is set.
      max_seconds: Infinite if not set.
      eval_every: Steps between validations, None without any.
      checkpoint_every: Steps between checkpoints.
      steps_per_loop: Steps between two visits to Python, at most.
    """

    def __init__(self, options: TrainerOptions, steps_per_epoch: float) -> None:
        """Reads the options, with epochs made steps."""
        limits = [math.inf]
        if options.max_steps is not None:
            limits.append(options.max_steps)
        if options.max_epochs is not None:
            limits.append(math.ceil(options.max_epochs * steps_per_epoch))
        minutes = options.max_minutes
        self.max_steps = min(limits)
        self.max_seconds = math.inf if minutes is None else 60 * minutes
        self.eval_every = options.eval_every_steps
        if options.eval_every_epochs is not None:
            steps = round(options.eval_every_epochs * steps_per_epoch)
            self.eval_every = max(1, steps)
        self.checkpoint_every = options.checkpoint_every_steps
        self.steps_per_loop = options.steps_per_loop

    def is_over(self, run: Run) -> bool:
        """Whether the budget is spent, or somebody stopped the run."""
        is_spent = run.step >= self.max_steps or run.seconds >= self.max_seconds
        return is_spent or bool(run.stop_reason)

    def horizon(self, run: Run) -> float:
        """The step at which the run will end at its present speed."""
        if math.isinf(self.max_seconds) or not run.seconds_a_step:
            return self.max_steps
        left = max(self.max_seconds - run.seconds, 0.0) / run.seconds_a_step
        return min(self.max_steps, run.step + left)

    def eval_is_due(self, run: Run) -> bool:
        """Whether to validate at this step, and it was not done yet."""
        return run.evaluated_step != run.step and self._is_due(run, self.eval_every)

    def checkpoint_is_due(self, run: Run) -> bool:
        """Whether to save at this step."""
        return self._is_due(run, self.checkpoint_every)

    def steps(self, run: Run) -> int:
        """How many steps to run before Python has something to do."""
        limits = [self.steps_per_loop, self.max_steps - run.step]
        for every in (self.eval_every, self.checkpoint_every):
            if every is not None:
                limits.append(every - run.step % every)
        return int(min(limits))

    def _is_due(self, run: Run, every: int | None) -> bool:
        # The end has a validation and a checkpoint of its own.
        if every is None or run.step == 0 or self.is_over(run):
            return False
        return run.step % every == 0


def require_finite_losses(
    losses: npt.NDArray[np.float32], run: Run, ids_of_batch: Callable[[int], list[str]]
) -> None:
    """Checks the losses of the last steps.

    Args:
      losses: float32 [steps], the last of them of step `run.step`.
      run: The run.
      ids_of_batch: Names the examples of a batch, counted from 0.

    Raises:
      FloatingPointError: One is not finite; the text names its step and its examples.
    """
    broken = np.flatnonzero(~np.isfinite(losses))
    if broken.size:
        step = run.step - len(losses) + int(broken[0]) + 1
        raise FloatingPointError(
            f"The loss of step {step} is {losses[broken[0]]}. Its batch:"
            f" {ids_of_batch(step - 1)}. {_cure(run)}"
        )


def require_finite_weights(run: Run) -> None:
    """Checks the weights, which would break every resume if they were saved.

    Raises:
      FloatingPointError: One is not finite; the text names it.
    """
    for weight in run.task.model.weights:
        if not np.isfinite(weight.numpy()).all():
            raise FloatingPointError(
                f"After step {run.step} the weight {weight.path} is no longer finite."
                f" {_cure(run)}"
            )


def _cure(run: Run) -> str:
    return (
        f"The checkpoints in {run.where}/{CHECKPOINTS} are from before; resume"
        " with a lower --task.learning_rate, or with --trainer.precision float32."
    )
