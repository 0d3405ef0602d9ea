"""Finds a learning rate by training some steps with it rising (Smith 2015).

```python
found = find_learning_rate(task, data)
print(found.suggestion)
```
"""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from unet_train.data.share import ALL
from unet_train.data.source import SegmentationData
from unet_train.task.segmentation import SegmentationTask
from unet_train.training.loop import make_train_loop

# The search ends when the smoothed loss is so many times the least so far.
_DIVERGED = 4.0
_SMOOTHING = 0.9
# The suggestion is at most the rate of least loss divided by this.
_MARGIN = 3.0


@dataclasses.dataclass(frozen=True)
class LearningRates:
    """What was tried.

    ```python
    from unet_train.training.find_lr import LearningRates

    found = LearningRates([1e-4, 1e-3, 1e-2], [0.7, 0.5, 0.3], 1e-3, 1e-2)
    print(f"--task.learning_rate {found.suggestion:g}")
    ```

    Attributes:
      rates: Of each step, rising.
      losses: Of each step, smoothed.
      suggestion: Where the loss fell most steeply, at a third of `highest` or below; a
        good first guess.
      highest: Where the loss was least.
    """

    rates: list[float]
    losses: list[float]
    suggestion: float
    highest: float

    def __str__(self) -> str:
        """Some of the rates and their losses, and the suggestion."""
        shown = range(0, len(self.rates), max(1, len(self.rates) // 20))
        lines = [f"{self.rates[i]:10.2e}  {self.losses[i]:.4f}" for i in shown]
        return "\n".join(
            [
                "      rate  loss",
                *lines,
                f"Suggested: --task.learning_rate {self.suggestion:.1e}",
                f"The loss was least at {self.highest:.1e}"
                + ("; try a larger --highest." * (self.highest == self.rates[-1])),
            ]
        )


class Exponential(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises by the same factor at each step."""

    def __init__(self, lowest: float, highest: float, steps: int) -> None:
        self.lowest, self.highest, self.steps = lowest, highest, steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """The rate of a step, counted from 0."""
        share = tf.cast(step, tf.float32) / max(self.steps - 1, 1)
        return self.lowest * (self.highest / self.lowest) ** share

    def get_config(self) -> dict[str, object]:
        """The arguments that make this schedule again."""
        return {"lowest": self.lowest, "highest": self.highest, "steps": self.steps}


def find_learning_rate(
    task: SegmentationTask,
    data: SegmentationData,
    *,
    lowest: float = 1e-6,
    highest: float = 1.0,
    steps: int = 100,
    seed: int = 0,
    accumulate: int = 1,
) -> LearningRates:
    """Trains with the rate rising from `lowest` to `highest`, or until it diverges.

    The task is spoilt by it: its weights are trained and its schedule replaced.

    ```python
    from unet_train.training.find_lr import find_learning_rate

    task = SegmentationTask(build_unet(UNetConfig(depth=2, base_filters=4)))
    data = SegmentationData(data_dir="OUT", tile_size=92)
    found = find_learning_rate(task, data, steps=10)
    found.suggestion  # None if the loss never fell.
    ```

    Args:
      task: With the precision set.
      data: What to train on.
      lowest: Rate of the first step.
      highest: Rate of the last step.
      steps: At most so many, at least 10.
      seed: Of order, crops and augmentation.
      accumulate: In how many parts a step's batch is computed, as in training.

    Raises:
      ValueError: The limits are not in order, there are too few steps, or the batch
        cannot be computed in so many parts.
    """
    if not 0 < lowest < highest or steps < 10:
        raise ValueError(
            "`lowest` must be above 0 and below `highest`, and `steps` at least 10."
            f" Received: {lowest}, {highest}, {steps}"
        )
    ALL.check_batch(data.options.batch_size, parts=accumulate)
    task.check_tile_size(data.options.tile_size)
    task.accumulate = accumulate
    task.schedule = Exponential(lowest, highest, steps)
    task.optimizer.learning_rate = task.schedule
    task.build_optimizer()
    loop = make_train_loop(task.train_step, task.log_names)
    batches = iter(data.train_batches(margin=task.margin, seed=seed))
    rates: list[float] = []
    losses: list[float] = []
    average = 0.0
    for step in range(1, steps + 1):
        _, logs = loop(batches, tf.constant(1))
        loss = float(logs["loss"][0])
        average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
        smoothed = average / (1 - _SMOOTHING**step)
        if not np.isfinite(smoothed) or (losses and smoothed > _DIVERGED * min(losses)):
            break
        rates.append(float(logs["learning_rate"][0]))
        losses.append(smoothed)
    if len(losses) < 3:
        raise ValueError(
            f"The loss diverged after {len(losses)} steps already. Set a lower"
            " `lowest`."
        )
    least = int(np.argmin(losses))
    # Well below what is too much, however sharp the cliff.
    tried = max(1, sum(rate <= rates[least] / _MARGIN for rate in rates))
    slopes = np.gradient(losses[: least + 1])[:tried] if least else np.zeros(1)
    return LearningRates(
        rates=rates,
        losses=losses,
        suggestion=rates[int(np.argmin(slopes))],
        highest=rates[least],
    )
