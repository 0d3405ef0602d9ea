"""The order of training: a pure function of (seed, epoch, tile) and nothing else.

```python
order = Order(count=1000, seed=0, shuffle_buffer=8192)
records = order.arrange(records, start=4000)
```

Tiles run on across epochs, so that the position in the data is the tile's number: tile
4000 is the same in a run that was interrupted and in one that was not.
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
      seed: Below 2^31.
      shuffle_buffer: Records that are shuffled at once.
      number: Of the order among those of a run, each of which draws for itself.
      repeat: Give the first so many tiles over and over; None gives all.
      with_others: Let each record be followed by another one, to paste from.
    """

    count: int
    seed: int
    shuffle_buffer: int
    number: int = 0
    repeat: int | None = None
    with_others: bool = False

    def arrange(self, records: tf.data.Dataset, start: int = 0) -> tf.data.Dataset:
        """Records without end, each with its seed before it.

        Args:
          records: Of the split, in the order of the files.
          start: Number of the first tile, from 0; at most `repeat`.

        Returns:
          int32 [2] and the record; with `with_others` that of another image behind it.
        """
        repeats = self.repeat is not None
        first_epoch, offset = divmod(0 if repeats else start, self.count)
        blocks = (
            records.take(self.count)
            .enumerate()
            .batch(min(self.shuffle_buffer, self.count))
        )
        root = tf.constant([self.seed, self.number], tf.int32)

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
        if repeats:
            ordered = ordered.take(self.repeat).repeat().skip(start)
        return ordered

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
