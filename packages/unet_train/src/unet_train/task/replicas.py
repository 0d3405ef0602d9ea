"""What the devices of a run have of their own, and how it becomes one.

Outside of a strategy, or on one device, nothing changes and nothing is computed.

```python
loss, *gradients = sum_over_devices([loss, *gradients])  # Within a step.
average_statistics(model)  # After it.
```
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

# By how much the seeds of two devices differ. Keras draws a layer's seed from 1 to 1e9.
_SEEDS_APART = 1_000_003


def sum_over_devices(values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The sums of each value over all devices; on one device the values."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return list(values)
    return list(context.all_reduce(tf.distribute.ReduceOp.SUM, list(values)))


def on_this_device(variable: tf.Variable) -> tf.Tensor:
    """The value of a variable on the first device of this machine."""
    local = tf.distribute.get_strategy().experimental_local_results(variable)
    return tf.convert_to_tensor(local[0])


def average_statistics(model: keras.Model) -> None:
    """Gives every device the mean of all devices' moving statistics.

    Called on each device. Each of them moves its own by what it has seen; the mean is
    what a checkpoint and a saved model hold, and what the averages of the weights see.
    """
    count = tf.distribute.get_strategy().num_replicas_in_sync
    statistics = [
        weight.value
        for weight in model.non_trainable_variables
        # What was frozen later is the same everywhere: TensorFlow's variable still
        # says that it was made to be trained.
        if tf.as_dtype(weight.dtype).is_floating and not weight.value.trainable
    ]
    if count == 1 or not statistics:
        return
    sums = sum_over_devices([statistic.read_value() for statistic in statistics])
    for statistic, total in zip(statistics, sums, strict=True):
        statistic.assign(total / count)


def draw_apart(seeds: Sequence[tf.Variable]) -> None:
    """Has what is drawn at random differ from device to device; called outside of them.

    The first device goes on as it is; the others' seeds follow from its own, so that
    this is all that a checkpoint has to keep.

    Args:
      seeds: int64 [2] each, a seed and how often it was drawn from, as
        `keras.random.SeedGenerator` keeps them.
    """
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync == 1 or not seeds:
        return

    def draw_apart_here() -> None:
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        number = tf.cast(number, tf.int64)
        of_first = [tf.where(number == 0, seed, 0) for seed in seeds]
        apart = tf.stack([_SEEDS_APART * number, 0])
        for seed, first in zip(seeds, sum_over_devices(of_first), strict=True):
            seed.assign(first + apart)

    strategy.run(tf.function(draw_apart_here))
