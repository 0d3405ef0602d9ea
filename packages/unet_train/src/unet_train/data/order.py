"""The order of training: a pure function of (seed, epoch, step) and nothing else.

```python
order = Order(count=1000, batch_size=4, seed=0, shuffle_buffer=8192)
records = order.arrange(records, start_step=1000)
```

Batches run on across epochs, so that the position in the data is the step's number:
step 1000 sees the same batch in a run that was interrupted and in one that was not.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
    """How the records of a split follow each other.

    Attributes:
      count: Records to use, the first of the split.
      batch_size: Of the whole batch, over all devices and machines.
      seed: Below 2^31.
      shuffle_buffer: Records that are shuffled at once.
      repeat_batches: Give the first so many batches over and over; None gives all.
      with_others: Let each record be followed by another one, to paste from.
    """

    count: int
    batch_size: int
    seed: int
    shuffle_buffer: int
    repeat_batches: int | None = None
    with_others: bool = False

    def arrange(self, records: tf.data.Dataset, start_step: int = 0) -> tf.data.Dataset:
        """Records without end, each as (place in its batch, its seed, record).

        Args:
          records: Of the split, in the order of the files.
          start_step: Number of the first batch, from 0.

        Returns:
          int64 [], int32 [2] and the record; with `with_others` that of another image
          behind it.
        """
        repeats = self.repeat_batches
        if repeats is not None:
            start_step %= repeats
        start = 0 if repeats else start_step * self.batch_size
        first_epoch, offset = divmod(start, self.count)
        blocks = (
            records.take(self.count)
            .enumerate()
            .batch(min(self.shuffle_buffer, self.count))
        )
        root = tf.constant([self.seed, 0], tf.int32)

        def epoch_records(epoch: tf.Tensor) -> tf.data.Dataset:
            """The undecoded records of one epoch in its order, each with its seed."""
            epoch_seed = tf.random.fold_in(root, epoch)
            done = tf.where(epoch == first_epoch, tf.constant(offset, tf.int64), 0)
            return (
                blocks.map(lambda *block: self._shuffle(block, epoch_seed))
                .unbatch()
                .skip(done)
                .map(lambda i, *record: (tf.random.fold_in(epoch_seed, i), *record))
            )

        epochs = tf.data.Dataset.range(first_epoch, tf.int64.max)
        ordered = epochs.flat_map(epoch_records)
        if repeats is not None:
            ordered = ordered.take(repeats * self.batch_size).repeat()
            ordered = ordered.skip(start_step * self.batch_size)
        return ordered.enumerate().map(
            lambda place, example: (place % self.batch_size, *example)
        )

    def _shuffle(self, block: Any, seed: tf.Tensor) -> Any:
        """Reorders a batch of records by a seed and nothing else.

        `Dataset.shuffle` would not do: in a `flat_map` it keeps the first epoch's seed.
        """
        indices = block[0]
        order = tf.random.experimental.stateless_shuffle(
            tf.range(tf.shape(indices)[0]), tf.random.fold_in(seed, indices[0])
        )
        block = tf.nest.map_structure(lambda part: tf.gather(part, order), block)
        if not self.with_others:
            return block
        others = tf.nest.map_structure(lambda part: tf.roll(part, -1, 0), block[1])
        return *block, others
