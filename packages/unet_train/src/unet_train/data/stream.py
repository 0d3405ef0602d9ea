"""The tiles of a run, from one dataset or several: which is the n-th, and no state.

```python
tiles = MixedTiles([stream, another], Pattern((3, 1)), batch_size=4)
tiles.on_from(4000)
```
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from unet_train.data.dataset import MaskDataset
from unet_train.data.order import Order
from unet_train.data.pattern import Pattern
from unet_train.data.tiles import cut_tile, make_tile


@dataclasses.dataclass(frozen=True, kw_only=True)
class TileStream:
    """The training tiles of one dataset in their order, without end.

    Attributes:
      dataset: Where their images are from.
      order: Of these.
      pasted: The dataset to paste from, and the order of that; None where `order` gives
        other images of the same dataset, or nothing is pasted.
    """

    dataset: MaskDataset
    order: Order
    pasted: tuple[MaskDataset, Order] | None = None

    def drawn(self, start: int) -> tf.data.Dataset:
        """Seed of each tile from one on, and for `make` what it is of.

        That is the place of an image in its split. Where files cannot be read at a
        place it is the undecoded record, and a whole buffer is read before the first.
        """
        if all(dataset.training_reader for dataset in self._sources):
            return self._arranged(start, _places)
        return self._arranged(start, lambda dataset, _: dataset.training_records())

    def some_records(self, start: int, count: int) -> tf.data.Dataset:
        """The first so many of `records`; no others are parsed."""
        seeds, *columns = zip(*self._places(start, count), strict=True)
        records = [
            source.training_records(places)
            for source, places in zip(self._sources, columns, strict=False)
        ]
        return tf.data.Dataset.zip(
            tf.data.Dataset.from_tensor_slices(list(seeds)), *records
        )

    def names(self, start: int, count: int) -> list[str]:
        """The names of the images of the first so many of `records`."""
        return self.dataset.training_names(
            [place for _, place, *_ in self._places(start, count)]
        )

    def make(self, margin: int, seed: tf.Tensor, *drawn: Any) -> tuple[Any, ...]:
        """The tile of what `drawn` or `some_records` gives.

        It is what `cut_tile` gives; with a `border_weight`, which is not for devices,
        what `make_tile` does.
        """
        records = [
            each if isinstance(each, dict) else source.training_record(each)
            for source, each in zip(self._sources, drawn, strict=False)
        ]
        pasted = self.pasted[0].options if self.pasted else None
        options = self.dataset.options
        make = make_tile if options.border_weight else cut_tile
        return make(records, options, margin=margin, seed=seed, pasted=pasted)

    def _places(self, start: int, count: int) -> list[tuple[Any, ...]]:
        """Seed, and places of the records in their splits, of each of some tiles."""
        ordered = self._arranged(start, _places)
        return list(ordered.take(count).as_numpy_iterator())

    @property
    def _sources(self) -> list[MaskDataset]:
        """Of the image, and of the one that is pasted."""
        return [self.dataset, self.pasted[0] if self.pasted else self.dataset]

    def _arranged(
        self, start: int, read: Callable[[MaskDataset, Order], tf.data.Dataset]
    ) -> tf.data.Dataset:
        own = self.order.arrange(read(self.dataset, self.order), start)
        if self.pasted is None:
            return own
        others = self.pasted[1].arrange(read(*self.pasted), start)
        return tf.data.Dataset.zip(own, others).map(lambda own, other: (*own, other[1]))


@dataclasses.dataclass(frozen=True)
class MixedTiles:
    """The tiles of a run.

    Attributes:
      streams: Of each dataset.
      pattern: Which of them each tile is from.
      batch_size: Of the whole batch, over all devices and machines.
      margin: Of the network, in pixels at each border.
    """

    streams: Sequence[TileStream]
    pattern: Pattern
    batch_size: int
    margin: int = 0

    def on_from(self, start: int, part: tuple[int, int]) -> tf.data.Dataset:
        """Tiles from one on, as `TileStream.make` gives them, without end.

        Args:
          start: Number of the first tile, of a whole batch.
          part: Give of each batch those from the first of these places on, to before
            the second; no others are read, as far as that can be helped.
        """

        def is_ours(tile: tf.Tensor, _: Any) -> tf.Tensor:
            place = tile % self.batch_size
            return (place >= part[0]) & (place < part[1])

        def made(number: int) -> tf.data.Dataset:
            stream = self.streams[number]
            drawn = stream.drawn(self.pattern.before(start)[number])
            own = plan.filter(lambda _, dataset: dataset == number)
            return (
                tf.data.Dataset.zip(own.map(lambda tile, _: tile), drawn)
                .filter(is_ours)
                .map(
                    lambda _, seeded: stream.make(self.margin, *seeded),
                    num_parallel_calls=tf.data.AUTOTUNE,
                    deterministic=True,
                )
            )

        plan = self.pattern.on_from(start)
        choices = plan.filter(is_ours).map(lambda _, dataset: dataset)
        return tf.data.Dataset.choose_from_datasets(
            [made(number) for number in range(len(self.streams))], choices
        )

    def first(self, count: int) -> tf.data.Dataset:
        """The first tiles; no other records are parsed."""
        numbers = self.pattern.of(range(count))
        used, choices = np.unique(numbers, return_inverse=True)
        made = [
            self.streams[number]
            .some_records(0, int((numbers == number).sum()))
            .map(
                lambda *seeded, number=number: self.streams[number].make(
                    self.margin, *seeded
                )
            )
            for number in used
        ]
        return tf.data.Dataset.choose_from_datasets(
            made, tf.data.Dataset.from_tensor_slices(choices.astype(np.int64))
        )

    def names(self, start: int, count: int) -> list[str]:
        """The names of the images of some tiles."""
        numbers = self.pattern.of(range(start, start + count)).tolist()
        done = self.pattern.before(start)
        names = {
            number: iter(
                self.streams[number].names(done[number], numbers.count(number))
            )
            for number in set(numbers)
        }
        return [next(names[number]) for number in numbers]


def _places(_: MaskDataset, order: Order) -> tf.data.Dataset:
    """The places that an order takes, in the order of the files."""
    return tf.data.Dataset.range(order.count)
