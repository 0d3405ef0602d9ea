"""Tiles to train on and whole images to validate on, from any TFDS dataset by name.

```python
data = SegmentationData("coco_cats", data_dir="OUT", tile_size=572, batch_size=4)
batches = data.train_batches(margin=92, seed=0, start_step=1000)
```

The only module that imports TFDS.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_datasets as tfds

from unet_train.data.labels import labels_of_mask
from unet_train.data.order import Order
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
    """

    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]
    id: str = ""


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
        self._builder = _find_built(name, self.options.data_dir)
        for key in (self.options.image_feature, self.options.mask_feature):
            if key not in self._builder.info.features:
                raise ValueError(
                    f"The dataset {name!r} has no feature {key!r}, only"
                    f" {sorted(self._builder.info.features)}. Correct"
                    " --data.image_feature or --data.mask_feature, or use a dataset"
                    " with masks, such as coco_cats."
                )

    def count(self, split: str) -> int:
        """The number of images in a split, such as "train" or "train[:20%]".

        Raises:
          ValueError: The dataset has no such split.
        """
        splits = self._builder.info.splits
        try:
            return int(splits[split].num_examples)
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"The dataset {self.options.name!r} has no split {split!r}, only"
                f" {sorted(splits)} and parts of them such as 'train[:20%]'."
            ) from error

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
        examples = order.arrange(self._records(options.train_split), start_step)
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

    def ids_of_batch(
        self, step: int, *, seed: int, limit: int | None, repeat_batches: int | None
    ) -> list[str]:
        """The TFDS ids of the examples in a batch, found by going through its order.

        Args:
          step: Number of the batch, from 0.
          seed: As in `train_batches`.
          limit: As in `train_batches`.
          repeat_batches: As in `train_batches`.
        """
        records = self._records(self.options.train_split, with_id=True)
        records = records.map(lambda record: {"tfds_id": record["tfds_id"]})
        order = self._order(seed, limit, repeat_batches).arrange(records, step)
        return [
            record["tfds_id"].numpy().decode()
            for _, _, record, *_ in order.take(self.options.batch_size)
        ]

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
        return self._examples(split, self.count(split) - held_out, taken)

    def _train_count(self, limit: int | None) -> int:
        count = self.count(self.options.train_split) - self.holdout_count()
        return count if limit is None else min(count, limit)

    def check(self) -> None:
        """Looks at one example of each split, so that a fault is found before training.

        Raises:
          ValueError: A split is missing or empty, or a mask has a strange value.
        """
        for split in (self.options.train_split, self.options.eval_split):
            if next(self.examples(split, limit=1), None) is None:
                raise ValueError(
                    f"The split {split!r} of {self.options.name!r} has no images."
                )

    def examples(self, split: str, limit: int | None = None) -> Iterator[Example]:
        """Whole images in the dataset's order, at their own resolution.

        Args:
          split: TFDS split.
          limit: Give at most this many.

        Raises:
          ValueError: There is no such split, or a mask has a value that the options
            do not name.
        """
        count = self.count(split)
        return self._examples(split, 0, count if limit is None else limit)

    def raw_examples(self, split: str, limit: int | None = None) -> Iterator[Example]:
        """As `examples`, but with the dataset's own values in the masks."""
        count = self.count(split)
        return self._raw_examples(split, 0, count if limit is None else limit)

    def _examples(self, split: str, first: int, count: int) -> Iterator[Example]:
        for example in self._raw_examples(split, first, count):
            yield dataclasses.replace(
                example, mask=labels_of_mask(example.mask, self.options)
            )

    def _raw_examples(self, split: str, first: int, count: int) -> Iterator[Example]:
        records = self._records(split, with_id=True).skip(first).take(count)
        decoded = records.map(
            lambda record: (*decode_record(record, self.options), record["tfds_id"]),
            num_parallel_calls=2,
            deterministic=True,
        ).prefetch(2)
        for image, mask, name in decoded:
            yield Example(image.numpy(), mask.numpy(), name.numpy().decode())

    def _records(self, split: str, *, with_id: bool = False) -> tf.data.Dataset:
        """Undecoded examples in the order of the files."""
        skip = tfds.decode.SkipDecoding()
        names = (self.options.image_feature, self.options.mask_feature)
        return self._builder.as_dataset(
            split=split,
            decoders=tfds.decode.PartialDecoding(
                dict.fromkeys(names, True), decoders=dict.fromkeys(names, skip)
            ),
            read_config=tfds.ReadConfig(try_autocache=False, add_tfds_id=with_id),
        )


def _find_built(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    where = data_dir or "TFDS's default data_dir"
    build = f"tfds build {name.split('/')[0]} --manual_dir COCO"
    if "/" in name:
        build += " --config ..."
    if data_dir is not None:
        build += f" --data_dir {data_dir}"
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
        raise ValueError(
            f"TFDS finds no dataset {name!r} in {where}. Build it first (`{build}`) or"
            " correct --data.name and --data.data_dir."
        ) from error
    if not builder.is_prepared():
        raise ValueError(
            f"The dataset {name!r} was not built in {where} (looked in"
            f" {builder.data_path}). Build it first (`{build}`) or correct"
            " --data.data_dir."
        )
    return builder
