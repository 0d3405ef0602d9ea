"""How fast a run is, and its learning rate on the way."""

from __future__ import annotations

import math
from collections.abc import Callable

import keras
import tensorflow as tf

from unet_train.options import Part
from unet_train.parts import make_part


class Timer:
    """A run's seconds, and its speed since the first round of steps of this process.

    The first round is left out because it compiles; until the second, the speed is the
    one measured before a resume.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        seconds: float = 0.0,
        seconds_a_step: float = 0.0,
    ) -> None:
        """Starts.

        Args:
          clock: Seconds from any start.
          seconds: Spent before.
          seconds_a_step: Measured before, 0 if nothing is known.
        """
        self._clock = clock
        self._zero = clock() - seconds
        self._seconds_a_step = seconds_a_step
        self._measured_from: tuple[int, float] | None = None

    def seconds(self) -> float:
        """Spent so far, the time before a resume included."""
        return self._clock() - self._zero

    def seconds_a_step(self, step: int, now: float) -> float:
        """Call after each round, with the steps done and the seconds so far."""
        if self._measured_from is None:
            self._measured_from = step, now
        elif step > self._measured_from[0]:
            first_step, first_seconds = self._measured_from
            self._seconds_a_step = (now - first_seconds) / (step - first_step)
        return self._seconds_a_step


class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up of a schedule: constant, half a cosine, or one of Keras.

    Attributes:
      horizon: float32 variable: the step at which the run ends, where the cosine is 0.
        The trainer sets it before each round of steps; it moves when the run is limited
        by time.
    """

    def __init__(self, peak: float, *, schedule: Part, warmup_steps: int) -> None:
        """Makes the schedule.

        Args:
          peak: The learning rate after the warm-up; a schedule of Keras has its own.
          schedule: "constant", "cosine", or the class path of a schedule.
          warmup_steps: Steps in which it rises.
        """
        self.peak = peak
        self.schedule = schedule
        self.warmup_steps = warmup_steps
        self.horizon = tf.Variable(math.inf, trainable=False, dtype=tf.float32)
        self._rate: Callable[[tf.Tensor], tf.Tensor] = make_part(
            schedule,
            {"constant": lambda: self._constant, "cosine": lambda: self._cosine},
        )
        if not callable(self._rate):
            raise ValueError(
                f"{schedule} gives a {type(self._rate).__name__}, which cannot be"
                " called with a step. Give a `keras.optimizers.schedules` class."
            )

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """The learning rate of a step, counted from 0."""
        step = tf.cast(step, tf.float32)
        rise = tf.minimum(1.0, (step + 1) / max(self.warmup_steps, 1))
        return rise * tf.cast(self._rate(step), tf.float32)

    def _constant(self, step: tf.Tensor) -> tf.Tensor:
        return tf.constant(self.peak)

    def _cosine(self, step: tf.Tensor) -> tf.Tensor:
        progress = tf.clip_by_value(step / self.horizon, 0.0, 1.0)
        return self.peak * 0.5 * (1 + tf.cos(math.pi * progress))

    def get_config(self) -> dict[str, object]:
        """The arguments that make this schedule again."""
        return {
            "peak": self.peak,
            "schedule": self.schedule,
            "warmup_steps": self.warmup_steps,
        }
