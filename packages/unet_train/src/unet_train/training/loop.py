"""Many steps in one `tf.function`: one trip from Python to the devices and back.

```python
train_loop = make_train_loop(task.train_step, task.log_names)
steps_done, logs = train_loop(iter(batches), tf.constant(100))
```
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

Logs = dict[str, tf.Tensor]
Step = Callable[[Any], Logs]
TrainLoop = Callable[[Any, tf.Tensor], tuple[tf.Tensor, Logs]]

# Seconds that a step waited for its batch after the step before had ended.
INPUT_WAIT = "input_wait"


def make_train_loop(
    step: Step,
    log_names: tuple[str, ...],
    *,
    strategy: tf.distribute.Strategy | None = None,
    after_step: Callable[[], None] = lambda: None,
    stop: tf.Variable | None = None,
    jit_compile: bool = False,
) -> TrainLoop:
    """Wraps a step of training into a loop that runs as one graph.

    Args:
      step: Takes a batch and returns float scalars under `log_names`. It runs on each
        device with its part of the batch.
      log_names: The names that `step` returns.
      strategy: Where it runs; None is TensorFlow's default, one device.
      after_step: Called after each step, on each device.
      stop: A bool; when another thread sets it, the loop ends after the
        step it is in.
      jit_compile: Compile the step with XLA.

    Returns:
      A function of an iterator over batches and the number of steps, an int32 tensor (a
      Python number would trace the graph anew for every value). It returns the number
      of steps done, and the logs, float32 [steps done] each: those of `step` and
      `input_wait`.
    """
    strategy = strategy or tf.distribute.get_strategy()
    if jit_compile:
        step = tf.function(step, jit_compile=True)
    if stop is None:
        stop = tf.Variable(False, trainable=False)
    names = (*log_names, INPUT_WAIT)

    @tf.function
    def train_loop(iterator: Any, steps: tf.Tensor) -> tuple[tf.Tensor, Logs]:
        logs = {name: tf.TensorArray(tf.float32, steps) for name in names}
        done = tf.constant(0)
        asked = _clock(steps)
        batch = next(iterator)
        wait = tf.maximum(_clock(batch) - asked, 0.0)
        while done < steps and (done == 0 or not stop.read_value()):
            per_device = strategy.run(step, (batch,))
            strategy.run(after_step)
            values = tf.nest.map_structure(
                lambda value: strategy.experimental_local_results(value)[0],
                {name: per_device[name] for name in log_names},
            )
            values[INPUT_WAIT] = wait
            values = {name: tf.cast(each, tf.float32) for name, each in values.items()}
            logs = {name: logs[name].write(done, values[name]) for name in names}
            # While this step is computed the next batch is fetched, and copied to the
            # device; the clock is read beside them, and neither waits for it.
            done += 1
            if done < steps:
                batch = next(iterator)
            ended = _clock([values[name] for name in log_names])
            wait = tf.maximum(_clock(batch) - ended, 0.0)
        return done, {name: array.stack()[:done] for name, array in logs.items()}

    return train_loop


def _clock(after: Any) -> tf.Tensor:
    """Seconds from any start, once tensors are known.

    `tf.timestamp` refuses deterministic operation. Without state, or one reading would
    wait for the one before it in the program; of a number of each tensor, or TensorFlow
    would take two readings for one. Of a constant it would read once for all.
    """
    tensors = tf.nest.flatten(after, expand_composites=True)
    known = [tf.reshape(each, [-1])[:1] for each in tensors]
    return tf.numpy_function(
        lambda *_: time.perf_counter(), known, tf.float64, stateful=False
    )
