"""Which part of each batch one machine reads, in a piece for each of its devices.

>>> Share(workers=2, worker=1).of_batch(5)
(2, 5)
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Share:
    """Which part of each batch one machine reads, and for how many devices.

    Attributes:
      workers: Machines.
      worker: The number of this one.
      replicas: Devices of this machine; each gets a piece of its part.
    """

    workers: int = 1
    worker: int = 0
    replicas: int = 1

    @property
    def is_spread(self) -> bool:
        """Whether there are several devices."""
        return self.workers * self.replicas > 1

    def of_batch(self, batch_size: int) -> tuple[int, int]:
        """First place in the batch, and the one after the last.

        Raises:
          ValueError: There are more devices than examples in a batch.
        """
        devices = self.workers * self.replicas
        if batch_size < devices:
            raise ValueError(
                f"A batch of {batch_size} does not go round {devices} devices. Set"
                f" --data.batch_size to at least {devices}, best a multiple of it."
            )
        first, last = (
            batch_size * (self.worker + end) // self.workers for end in (0, 1)
        )
        return first, last

    def check_batch(self, batch_size: int, *, parts: int) -> None:
        """Refuses a batch that does not go round the devices, or into the parts.

        Args:
          batch_size: Over all devices and machines.
          parts: In which each device computes its piece, one after the other.

        Raises:
          ValueError: It does not.
        """
        first, last = self.of_batch(batch_size)
        pieces = self.replicas * parts
        if parts > 1 and (last - first) % pieces:
            raise ValueError(
                f"A batch of {batch_size} is {last - first} tiles on this machine,"
                f" which {self.replicas} devices cannot compute in {parts} equal parts."
                f" Set --data.batch_size to a multiple of {pieces * self.workers}, or"
                " --trainer.accumulate."
            )

    def batch(self, tiles: tf.data.Dataset, size: int) -> tf.data.Dataset:
        """Batches of `size`, or pieces of them in turn, one for each device."""
        if size % self.replicas == 0:
            return tiles.batch(size // self.replicas, drop_remainder=True)
        ends = [size * end // self.replicas for end in range(self.replicas + 1)]
        pieces = tf.constant(list(itertools.pairwise(ends)), tf.int64)
        return tiles.batch(size, drop_remainder=True).flat_map(
            lambda *parts: tf.data.Dataset.from_tensor_slices(pieces).map(
                lambda ends: tf.nest.map_structure(
                    lambda part: part[ends[0] : ends[1]], parts
                )
            )
        )


ALL = Share()


def spread(limit: int | None, sizes: Sequence[int]) -> list[int]:
    """Spreads a limit over sets in proportion to their sizes, at least one for each.

    >>> spread(10, [70, 20, 1, 0])
    [6, 3, 1, 0]
    """
    spare = [max(size - 1, 0) for size in sizes]
    if limit is None or limit >= sum(sizes):
        return list(sizes)
    rest = max(limit - sum(size > 0 for size in sizes), 0)
    ends = [rest * end // max(sum(spare), 1) for end in itertools.accumulate(spare)]
    return [
        min(size, 1) + end - start
        for size, start, end in zip(sizes, [0, *ends], ends, strict=False)
    ]
