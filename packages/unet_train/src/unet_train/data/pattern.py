"""Which dataset each tile of a run comes from: each has its share at any time.

>>> pattern = Pattern((3, 2))
>>> pattern.of(range(10)).tolist()
[0, 1, 0, 1, 0, 0, 1, 0, 1, 0]
>>> pattern.before(7)  # So many of the first seven tiles are of either.
[4, 3]
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Pattern:
    """An even order of datasets, in whole numbers and the same for ever.

    Of the first n tiles, whatever n, each dataset has its share to within one.

    Attributes:
      shares: Of each dataset, above 0; only what they are to each other counts.
      repeat: Give the first so many tiles over and over; None gives all.
    """

    shares: tuple[int, ...]
    repeat: int | None = None

    @functools.cached_property
    def period(self) -> npt.NDArray[np.int64]:
        """The dataset of each tile until it begins anew.

        Tile j of a share s has to come between j / s and (j + 1) / s. Of those that may
        come it is the one with the earliest end, which keeps them all (Baruah et al.
        1996, on one processor).
        """
        total = sum(self.shares)
        taken = [0] * len(self.shares)
        chosen = []
        for place in range(total // math.gcd(*self.shares)):
            waiting = [
                (-((taken[i] + 1) * total // -share), i)
                for i, share in enumerate(self.shares)
                if taken[i] * total // share <= place
            ]
            _, dataset = min(waiting)
            taken[dataset] += 1
            chosen.append(dataset)
        return np.array(chosen)

    def before(self, tile: int) -> list[int]:
        """How many tiles of each dataset come before a tile, counted from 0.

        Where the pattern repeats, how many since it began anew.
        """
        if self.repeat is not None:
            tile %= self.repeat
        return self.counts(tile)

    def counts(self, tiles: int) -> list[int]:
        """How many of the first so many tiles each dataset has, without repetition."""
        periods, rest = divmod(tiles, len(self.period))
        one, part = (
            np.bincount(some, minlength=len(self.shares))
            for some in (self.period, self.period[:rest])
        )
        return [periods * int(a) + int(b) for a, b in zip(one, part, strict=True)]

    def of(self, tiles: Sequence[int]) -> npt.NDArray[np.int64]:
        """The number of the dataset of each of some tiles, int64 [tiles]."""
        return self.period[self._within(np.asarray(tiles, np.int64))]

    def on_from(self, tile: int) -> tf.data.Dataset:
        """Tiles from this one on, as pairs of its number and that of its dataset."""
        period = tf.constant(self.period)
        return tf.data.Dataset.range(tile, tf.int64.max).map(
            lambda tile: (tile, tf.gather(period, self._within(tile)))
        )

    def _within(self, tiles: npt.NDArray[np.int64] | tf.Tensor) -> tf.Tensor:
        """The places of tiles in the period."""
        if self.repeat is not None:
            tiles %= self.repeat
        return tiles % len(self.period)
