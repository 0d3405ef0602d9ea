"""Tiles to train on and whole images to validate on, from any TFDS dataset by name.

```python
data = SegmentationData("coco_cats", data_dir="OUT", tile_size=572, batch_size=4)
batches = data.train_batches(margin=92, seed=0, start_step=1000)
```
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from unet_train.data.labels import explained, labels_of_mask
from unet_train.data.order import Order
from unet_train.data.records import Records
from unet_train.data.share import ALL, Share
from unet_train.data.tiles import decode_record, make_tile
from unet_train.options import DataOptions


@dataclasses.dataclass(frozen=True)
class Example:
    """A whole image of a split.

    Attributes:
      image: uint8 [H, W, 3].
      mask: uint8 [H, W, 1]: 0 background, 1 foreground, 255 ignored.
      id: That TFDS gave it: file of the dataset, and place in it.
      name: Of the image's file, or the id where the dataset does not tell.
    """

    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]
    id: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.id)


class SegmentationData:
    """A TFDS dataset with a feature for images and one for masks.

    Attributes:
      options: What was asked for.
    """

    def __init__(self, name: str = "coco_cats", **options: Any) -> None:
        """Finds the dataset.

        Args:
          name: TFDS name.
          **options: Fields of `DataOptions`.

        Raises:
          ValueError: TFDS does not know the dataset, it was not built, or it lacks a
            feature or a split.
        """
        data_dir = options.get("data_dir")
        if data_dir is not None and "://" not in data_dir:
            # A run remembers the folder, and may be evaluated from another directory.
            options["data_dir"] = os.path.abspath(os.path.expanduser(data_dir))
        self.options = DataOptions(name=name, **options)
        features = (self.options.image_feature, self.options.mask_feature)
        self._records = Records(name, self.options.data_dir, features)

    def count(self, split: str) -> int:
        """The number of images in a split, such as "train" or "train[:20%]".

        Raises:
          ValueError: The dataset has no such split.
        """
        return self._records.count(split)

    def steps_per_epoch(self, limit: int | None = None) -> float:
        """Batches in a pass over the training images; may be fractional."""
        return self._train_count(limit) / self.options.batch_size

    def train_batches(
        self,
        *,
        margin: int,
        seed: int,
        start_step: int = 0,
        limit: int | None = None,
        repeat_batches: int | None = None,
        share: Share = ALL,
    ) -> tf.data.Dataset:
        """An endless dataset of training batches.

        Args:
          margin: Of the network, in pixels at each border (`unet_core.Geometry`).
          seed: Of order, crops and augmentation, below 2^31.
          start_step: Number of the first batch, from 0.
          limit: Use only so many images, the first of the split.
          repeat_batches: Give the first so many batches over and over, unchanged.
          share: Which part of each batch to give, and in how many pieces.

        Returns:
          Pairs of uint8 [batch, tile, tile, 3] and uint8 [batch, window, window, 1],
          where window is tile - 2 * margin; with `border_weight` a third part, float32
          [batch, window, window, 1].
        """
        options = self.options
        first, last = share.of_batch(options.batch_size)
        order = self._order(seed, limit, repeat_batches)
        examples = order.arrange(self._records.read(options.train_split), start_step)
        if last - first < options.batch_size:
            examples = examples.filter(
                lambda place, *_: (place >= first) & (place < last)
            )
        tiles = examples.map(
            lambda _, seed, *records: make_tile(
                records, options, margin=margin, seed=seed
            ),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        return share.batch(tiles, last - first).prefetch(tf.data.AUTOTUNE)

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
        order = self._order(seed, limit, repeat_batches)
        seeds, places = self._places(order, 0, count)
        parts = len(places[0])
        flat = [place for of_tile in places for place in of_tile]
        records = self._records.at(self.options.train_split, flat)
        tiles = tf.data.Dataset.zip(
            tf.data.Dataset.from_tensor_slices(seeds), records.batch(parts)
        ).map(
            lambda seed, record: make_tile(
                [{key: record[key][part] for key in record} for part in range(parts)],
                self.options,
                margin=margin,
                seed=seed,
            )
        )
        try:
            (batch,) = tiles.batch(count)
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
        order = self._order(seed, limit, repeat_batches)
        _, places = self._places(order, step, self.options.batch_size)
        records = self._records.at(
            self.options.train_split, [place for place, *_ in places], named=True
        )
        key = self._records.name_key
        return [
            _text(record[key] or record["tfds_id"])
            for record in records.as_numpy_iterator()
        ]

    def _places(
        self, order: Order, step: int, count: int
    ) -> tuple[list[tf.Tensor], list[list[int]]]:
        """Seeds int32 [2] of the tiles from a batch on, and places of their records."""
        ordered = order.arrange(tf.data.Dataset.range(order.count), step).take(count)
        seeds, places = zip(
            *((seed, [int(each) for each in places]) for _, seed, *places in ordered),
            strict=True,
        )
        return list(seeds), list(places)

    def _order(self, seed: int, limit: int | None, repeat_batches: int | None) -> Order:
        return Order(
            count=self._train_count(limit),
            batch_size=self.options.batch_size,
            seed=seed,
            shuffle_buffer=self.options.shuffle_buffer,
            repeat_batches=repeat_batches,
            with_others=bool(self.options.copy_paste),
        )

    def holdout_count(self) -> int:
        """Training images that are not trained on: at least one, if any."""
        count = self.count(self.options.train_split)
        share = self.options.holdout
        return min(count - 1, max(1, round(share * count))) if share else 0

    def holdout_examples(self, limit: int | None = None) -> Iterator[Example]:
        """The training images that are not trained on, as `examples` gives them."""
        split, held_out = self.options.train_split, self.holdout_count()
        taken = held_out if limit is None else min(limit, held_out)
        first = self.count(split) - held_out
        return self.examples_at(split, range(first, first + taken))

    def _train_count(self, limit: int | None) -> int:
        count = self.count(self.options.train_split) - self.holdout_count()
        return count if limit is None else min(count, limit)

    def check(self) -> None:
        """Looks at one example of each split, so that a fault is found before training.

        Raises:
          ValueError: A split is missing or empty, or a mask has a strange value.
        """
        for split in (self.options.train_split, self.options.eval_split):
            next(self.examples(split, limit=1))

    def examples(self, split: str, limit: int | None = None) -> Iterator[Example]:
        """Whole images in the dataset's order, at their own resolution.

        Args:
          split: TFDS split.
          limit: Give at most this many.

        Raises:
          ValueError: There is no such split, it is empty, or a mask has a value that
            the options do not name.
        """
        return self._labelled(self.raw_examples(split, limit))

    def examples_at(self, split: str, places: Sequence[int]) -> Iterator[Example]:
        """Of `examples` those at these places, from 0, in this order; reads no others.

        Args:
          split: TFDS split.
          places: Any, or none.
        """
        if not len(places):
            return iter(())
        records = self._records.at(split, places, named=True)
        return self._labelled(self._decoded(records))

    def raw_examples(self, split: str, limit: int | None = None) -> Iterator[Example]:
        """As `examples`, but with the dataset's own values in the masks."""
        records = self._records.read(split, named=True)
        return self._decoded(records if limit is None else records.take(limit))

    def _labelled(self, examples: Iterator[Example]) -> Iterator[Example]:
        for example in examples:
            yield dataclasses.replace(
                example, mask=labels_of_mask(example.mask, self.options)
            )

    def _decoded(self, records: tf.data.Dataset) -> Iterator[Example]:
        decoded = records.map(
            lambda record: (
                *decode_record(record, self.options),
                record["tfds_id"],
                record[self._records.name_key],
            ),
            num_parallel_calls=2,
            deterministic=True,
        ).prefetch(2)
        try:
            for image, mask, *names in decoded.as_numpy_iterator():
                yield Example(image, mask, *map(_text, names))
        except tf.errors.InvalidArgumentError as error:
            raise explained(error) from error


def _text(name: bytes) -> str:
    return name.decode(errors="replace")
