"""Many steps in one `tf.function`: one trip from Python to the device and back.

```python
train_loop = make_train_loop(task.train_step, task.log_names)
logs, last_batch = train_loop(iter(batches), tf.constant(100))
```
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

Logs = dict[str, tf.Tensor]
Step = Callable[[Any], Logs]
TrainLoop = Callable[[Any, tf.Tensor], tuple[Logs, Any]]


def make_train_loop(
    step: Step, log_names: tuple[str, ...], *, jit_compile: bool = False
) -> TrainLoop:
    """Wraps a step of training into a loop that runs as one graph.

    Args:
      step: Takes a batch and returns float scalars under `log_names`.
      log_names: The names that `step` returns.
      jit_compile: Compile the step with XLA.

    Returns:
      A function of an iterator over batches of fixed shape and the number of steps, an
      int32 tensor (a Python number would trace the graph anew for every value). It
      returns the logs, float32 [steps] each, and the last batch.
    """
    if jit_compile:
        step = tf.function(step, jit_compile=True)

    @tf.function
    def train_loop(iterator: Any, steps: tf.Tensor) -> tuple[Logs, Any]:
        logs = {name: tf.TensorArray(tf.float32, steps) for name in log_names}
        batch = tf.nest.map_structure(
            lambda spec: tf.zeros(spec.shape, spec.dtype), iterator.element_spec
        )
        for index in tf.range(steps):
            batch = next(iterator)
            values = step(batch)
            logs = {
                name: logs[name].write(index, tf.cast(values[name], tf.float32))
                for name in log_names
            }
        return {name: array.stack() for name, array in logs.items()}, batch

    return train_loop
