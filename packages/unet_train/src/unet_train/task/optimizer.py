"""The optimizer of a task and its learning rate on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from unet_train.options import Part, TaskOptions
from unet_train.registry import make_part

# What weight decay leaves alone: biases, and scale and offset of norms.
_NOT_DECAYED = ["bias", "gamma", "beta"]


def make_optimizer(options: TaskOptions, schedule: WarmUp) -> keras.Optimizer:
    """The optimizer that the options name.

    Raises:
      ValueError: There is none, or it is no optimizer of Keras.
    """
    decay = options.weight_decay or None
    known = {
        "adam": lambda learning_rate: (
            keras.optimizers.AdamW(learning_rate, weight_decay=decay)
            if decay
            else keras.optimizers.Adam(learning_rate)
        )
    }
    kinds = (keras.Optimizer,)
    optimizer = make_part(options.optimizer, known, kinds=kinds, learning_rate=schedule)
    if not isinstance(optimizer, keras.Optimizer):
        raise ValueError(
            f"{options.optimizer} gives a {type(optimizer).__name__}, which is no Keras"
            " optimizer."
        )
    if decay:
        optimizer.exclude_from_weight_decay(var_names=_NOT_DECAYED)
    return optimizer


def reduce_no_more(optimizer: keras.Optimizer) -> None:
    """Keeps Keras from summing over the devices what `train_step` has summed.

    It has to be summed there, before it is clipped and before loss scaling looks for
    overflow; Keras has no option for that.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not hasattr(inner, "_all_reduce_sum_gradients"):
        raise RuntimeError(
            f"Keras {keras.__version__} sums gradients over devices in another way than"
            " is known here. Use the version in constraints.txt."
        )
    inner._all_reduce_sum_gradients = list


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
            kinds=(keras.optimizers.schedules.LearningRateSchedule,),
        )
        if not callable(self._rate):
            raise ValueError(
                f"{schedule} gives a {type(self._rate).__name__}, which cannot be"
                " called with a step. Give a `keras.optimizers.schedules` class."
            )

    @classmethod
    def of(cls, options: TaskOptions) -> WarmUp:
        """The schedule that the options of a task describe."""
        rate, warmup_steps = options.learning_rate, options.warmup_steps
        return cls(rate, schedule=options.schedule, warmup_steps=warmup_steps)

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


def move_averages(
    averages: Sequence[tf.Variable],
    weights: Sequence[keras.Variable],
    keep: float,
    step: tf.Tensor,
) -> None:
    """Moves averages of weights towards what they are now; called on each device.

    Args:
      averages: Of each weight.
      weights: Of a model.
      keep: Share of its value that an average keeps.
      step: Steps done. Early on the average is of few steps, or it would remember the
        first weights.
    """
    step = tf.cast(step, tf.float32)
    keep = tf.minimum(keep, (1 + step) / (10 + step))
    for average, weight in zip(averages, weights, strict=True):
        average.assign(keep * average + (1 - keep) * weight)
