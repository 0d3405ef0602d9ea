"""How long a run lasts, and the learning rate on its way there."""

from __future__ import annotations

import dataclasses
import math

import keras
import tensorflow as tf

from unet_train.options import Schedule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """What ends a run: the first of its limits. Time and step come in as arguments.

    Attributes:
      max_steps: From `max_steps` and `max_epochs`, infinite if neither is set.
      max_seconds: Infinite if not set.
    """

    max_steps: float = math.inf
    max_seconds: float = math.inf

    def is_spent(self, step: int, seconds: float) -> bool:
        """Whether to stop now."""
        return step >= self.max_steps or seconds >= self.max_seconds

    def horizon(self, step: int, seconds: float, seconds_a_step: float) -> float:
        """The step at which the run will end at the present speed.

        Args:
          step: Steps done.
          seconds: Spent so far.
          seconds_a_step: Measured; 0 while nothing is known.
        """
        if math.isinf(self.max_seconds) or not seconds_a_step:
            return self.max_steps
        left = max(self.max_seconds - seconds, 0.0) / seconds_a_step
        return min(self.max_steps, step + left)


class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up, then constant or half a cosine down to zero at the horizon.

    Attributes:
      horizon: float32 variable: the step at which the run ends. It moves when the run
        is limited by time, and is part of every checkpoint.
    """

    def __init__(self, peak: float, *, schedule: Schedule, warmup_steps: int) -> None:
        self.peak = peak
        self.schedule = schedule
        self.warmup_steps = warmup_steps
        self.horizon = tf.Variable(math.inf, trainable=False, dtype=tf.float32)

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """The learning rate of a step, counted from 0."""
        step = tf.cast(step, tf.float32)
        rate = self.peak * tf.minimum(1.0, (step + 1) / max(self.warmup_steps, 1))
        if self.schedule == "cosine":
            progress = tf.clip_by_value(step / self.horizon, 0.0, 1.0)
            rate *= 0.5 * (1 + tf.cos(math.pi * progress))
        return rate

    def get_config(self) -> dict[str, object]:
        """The arguments that make this schedule again."""
        return {
            "peak": self.peak,
            "schedule": self.schedule,
            "warmup_steps": self.warmup_steps,
        }
