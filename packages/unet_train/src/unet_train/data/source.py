"""Tiles to train on and whole images to validate on, from TFDS datasets by name.

```python
data = SegmentationData("coco_cats", data_dir="OUT", tile_size=572, batch_size=4)
batches = data.train_batches(margin=92, seed=0, start_step=1000)
```
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from unet_train.data.dataset import Example, MaskDataset, absolute, different_names
from unet_train.data.labels import explained, with_labels
from unet_train.data.order import Order
from unet_train.data.pattern import Pattern
from unet_train.data.share import ALL, Share, spread
from unet_train.data.stream import MixedTiles, TileStream
from unet_train.data.tiles import finish
from unet_train.graph import as_written
from unet_train.options import DataOptions

__all__ = ["Example", "MaskDataset", "SegmentationData"]


class SegmentationData:
    """TFDS datasets with images and masks: one, or several that are mixed.

    Attributes:
      options: What was asked for, with the classes that the datasets name.
      datasets: Each by itself, by its name; the first one is first.

    Example:
      ```python
      from unet_train import SegmentationData

      data = SegmentationData("coco_cats", data_dir="OUT", tile_size=92, batch_size=2)
      for images, masks in data.train_batches(margin=20, seed=0).take(3):
          assert images.shape == (2, 92, 92, 3)
          assert masks.shape == (2, 52, 52, 1)
      ```
    """

    def __init__(self, name: str = "coco_cats", **options: Any) -> None:
        """Finds the datasets.

        Args:
          name: TFDS name.
          **options: Fields of `DataOptions`; further datasets in `also` may be
            dictionaries.

        Raises:
          ValueError: TFDS does not know a dataset, it was not built, or it lacks a
            feature or a split.
        """
        given = DataOptions(name=name, **options)
        # A run remembers the folders, and may be evaluated from another directory.
        given = dataclasses.replace(
            given,
            data_dir=absolute(given.data_dir),
            also=[
                dataclasses.replace(each, data_dir=absolute(each.data_dir))
                for each in given.also
            ],
        )
        names = different_names([name, *(each.name for each in given.also)])
        self.datasets = {
            name: MaskDataset(each, f"{name}: " if len(names) > 1 else "")
            for name, each in zip(names, given.each(), strict=True)
        }
        # So it does what the classes are called.
        self.options = with_labels(given, [each.label_names() for each in self._each])
        for dataset, each in zip(self._each, self.options.each(), strict=True):
            dataset.options = each

    @property
    def eval_split(self) -> str:
        """What is validated on; of several datasets all splits that differ."""
        splits = [each.options.eval_split for each in self._each]
        return ", ".join(dict.fromkeys(splits))

    def count(self, split: str | None = None) -> int:
        """The number of images in a split, such as "train" or "train[:20%]".

        Args:
          split: TFDS split, of all datasets; None for those of the validations.

        Raises:
          ValueError: A dataset has no such split.
        """
        return sum(self._counts(split))

    def steps_per_epoch(self, limit: int | None = None) -> float:
        """Batches in a pass over the first dataset's images; may be fractional."""
        shares = self.options.shares
        tiles = self._each[0].training_count(limit) * sum(shares)
        return tiles / (shares[0] * self.options.batch_size)

    @as_written
    def train_batches(
        self,
        *,
        margin: int,
        seed: int,
        start_step: int = 0,
        limit: int | None = None,
        repeat_batches: int | None = None,
        share: Share = ALL,
        finished: bool = True,
    ) -> tf.data.Dataset:
        """An endless dataset of training batches.

        Args:
          margin: Of the network, in pixels at each border (`unet_core.Geometry`).
          seed: Of order, crops and augmentation, below 2^31.
          start_step: Number of the first batch, from 0.
          limit: Use only so many images of each dataset, the first of the split.
          repeat_batches: Give the first so many batches over and over, unchanged.
          share: Which part of each batch to give, and in how many pieces.
          finished: False for what is yet to go through `finish`, on the device.

        Returns:
          Pairs of uint8 [batch, tile, tile, 3] and uint8 [batch, window, window, 1],
          where window is tile - 2 * margin; with `border_weight` a third part, float32
          [batch, window, window, 1].
        """
        batch_size = self.options.batch_size
        first, last = share.of_batch(batch_size)
        tiles = self._tiles(seed, limit, repeat_batches, margin)
        ours = tiles.on_from(start_step * batch_size, (first, last))
        batches = share.batch(ours, last - first)
        if finished:
            batches = batches.map(
                lambda *batch: self.finish(batch, margin=margin),
                num_parallel_calls=tf.data.AUTOTUNE,
                deterministic=True,
            )
        return batches.prefetch(tf.data.AUTOTUNE)

    @as_written
    def finish(self, batch: tuple[Any, ...], *, margin: int) -> tuple[tf.Tensor, ...]:
        """Turns, bends and augments a batch, on the device that it is on.

        What is to happen to each tile was drawn before: this is without chance.

        Args:
          batch: Of `train_batches`, unfinished.
          margin: As there.

        Returns:
          The batch finished.
        """
        if self.options.border_weight:
            return batch  # Its weights are computed on the host, of finished masks.
        pixels, drawn = batch
        return finish(pixels, drawn, self.options, margin=margin)

    def first_tiles(
        self,
        count: int,
        *,
        margin: int,
        seed: int,
        limit: int | None = None,
        repeat_batches: int | None = None,
    ) -> tuple[npt.NDArray[Any], ...]:
        """The first tiles of `train_batches`; their records only are read.

        Args:
          count: How many.
          margin: As in `train_batches`.
          seed: As in `train_batches`.
          limit: As in `train_batches`.
          repeat_batches: As in `train_batches`.

        Returns:
          The parts of a batch of `count`, as `train_batches` gives them.

        Raises:
          ValueError: A mask has a value that the options do not name.
        """
        tiles = self._tiles(seed, limit, repeat_batches, margin).first(count)
        try:
            (batch,) = tiles.batch(count)
            batch = self.finish(batch, margin=margin)
        except tf.errors.InvalidArgumentError as error:
            raise explained(error) from error
        return tuple(part.numpy() for part in batch)

    def ids_of_batch(
        self, step: int, *, seed: int, limit: int | None, repeat_batches: int | None
    ) -> list[str]:
        """The names of the images in a batch, as in `Example.name`.

        Args:
          step: Number of the batch, from 0.
          seed: As in `train_batches`.
          limit: As in `train_batches`.
          repeat_batches: As in `train_batches`.
        """
        batch_size = self.options.batch_size
        tiles = self._tiles(seed, limit, repeat_batches)
        return tiles.names(step * batch_size, batch_size)

    def _tiles(
        self,
        seed: int,
        limit: int | None,
        repeat_batches: int | None,
        margin: int = 0,
    ) -> MixedTiles:
        options, first = self.options, self._each[0]
        repeat = repeat_batches and repeat_batches * options.batch_size
        pattern = Pattern(options.shares, repeat)
        repeats = [None] * len(self.datasets) if not repeat else pattern.counts(repeat)
        streams = []
        for number, (dataset, tiles) in enumerate(
            zip(self._each, repeats, strict=True)
        ):
            order = Order(
                count=dataset.training_count(limit),
                seed=seed,
                shuffle_buffer=options.shuffle_buffer,
                number=number,
                repeat=tiles,
                with_others=bool(options.copy_paste) and not number,
            )
            pasted = None
            if options.copy_paste and number:
                # Of the first dataset, whose objects are to be seen everywhere.
                count = first.training_count(limit)
                pasted = first, dataclasses.replace(order, count=count, number=-number)
            streams.append(TileStream(dataset=dataset, order=order, pasted=pasted))
        return MixedTiles(streams, pattern, options.batch_size, margin)

    def holdout_count(self) -> int:
        """Training images that are not trained on: at least one of each dataset."""
        return sum(each.holdout_count() for each in self._each)

    def holdout_examples(
        self, limit: int | None = None, *, share: Share = ALL
    ) -> Iterator[Example]:
        """The training images that are not trained on, as `examples` gives them."""
        limits = spread(limit, [each.holdout_count() for each in self._each])
        return itertools.chain(
            *(each.holdout_examples(n, share=share) for each, n in self._with(limits))
        )

    def check(self) -> None:
        """Looks at one example of each split, so that a fault is found before training.

        Raises:
          ValueError: A split is missing or empty, or a mask has a strange value.
        """
        for each in self._each:
            each.check()

    def examples(
        self, split: str | None = None, limit: int | None = None, *, share: Share = ALL
    ) -> Iterator[Example]:
        """Whole images in their order, dataset after dataset, at their own resolution.

        Args:
          split: TFDS split, of all datasets; None for those of the validations.
          limit: Give at most this many: the first of each dataset, in proportion to
            their sizes, and at least one.
          share: Of several machines this one gets every n-th of each dataset's.

        Raises:
          ValueError: There is no such split, it is empty, or a mask has a value that
            the options do not name.
        """
        limits = spread(limit, self._counts(split))
        return itertools.chain(
            *(each.examples(split, n, share=share) for each, n in self._with(limits))
        )

    def places_within(
        self, limit: int | None, split: str | None = None, *, share: Share = ALL
    ) -> list[int]:
        """Which of all `examples` those with a limit, or share, are; places from 0."""
        counts = self._counts(split)
        starts = [0, *itertools.accumulate(counts)]
        return [
            start + place
            for start, taken in zip(starts, spread(limit, counts), strict=False)
            for place in range(share.worker, taken, share.workers)
        ]

    def examples_at(
        self, split: str | None, places: Sequence[int]
    ) -> Iterator[Example]:
        """Of `examples` those at these places, from 0, in this order; reads no others.

        Args:
          split: As in `examples`.
          places: Any, or none.
        """
        ends = np.cumsum(self._counts(split))
        owners = np.searchsorted(ends, places, side="right").tolist()
        found = []
        for number, each in enumerate(self._each):
            start = int(ends[number]) - each.count(split)
            own = [
                p - start for p, o in zip(places, owners, strict=True) if o == number
            ]
            found.append(each.examples_at(split, own))
        return (next(found[owner]) for owner in owners)

    @property
    def _each(self) -> list[MaskDataset]:
        return list(self.datasets.values())

    def _counts(self, split: str | None) -> list[int]:
        return [each.count(split) for each in self._each]

    def _with(self, limits: Sequence[int]) -> Iterator[tuple[MaskDataset, int]]:
        return zip(self._each, limits, strict=True)
