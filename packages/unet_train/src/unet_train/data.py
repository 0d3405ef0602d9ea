"""Tiles to train on and whole images to validate on, from any TFDS dataset by name.

```python
data = SegmentationData("coco_cats", data_dir="OUT", tile_size=572, batch_size=4)
batches = data.train_batches(margin=92, seed=0, start_step=1000)
```

The only module that imports TFDS. Order, crops and augmentation are pure functions of
(seed, epoch, example), and batches run on across epochs, so the position in the data is
the step's number and nothing else: step 1000 sees the same batch in a run that was
interrupted and in one that was not.
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

from unet_train import augment
from unet_train.options import DataOptions

_IMAGE, _MASK = "image", "segmentation_mask"
_MASK_VALUES = (0, 1, augment.IGNORE)


@dataclasses.dataclass(frozen=True)
class Example:
    """A whole image of a split.

    Attributes:
      image: uint8 [H, W, 3].
      mask: uint8 [H, W, 1]: 0 background, 1 foreground, 255 ignored.
    """

    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]


class SegmentationData:
    """A TFDS dataset with the features `image` and `segmentation_mask`.

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
        for key in (_IMAGE, _MASK):
            if key not in self._builder.info.features:
                raise ValueError(
                    f"The dataset {name!r} has no feature {key!r}, only"
                    f" {sorted(self._builder.info.features)}. Use one with images and"
                    " masks, such as coco_cats."
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

    def train_batches(
        self, *, margin: int, seed: int, start_step: int = 0
    ) -> tf.data.Dataset:
        """An endless dataset of training batches.

        Args:
          margin: Of the network, in pixels a side (`unet_core.Geometry.margin`).
          seed: Of order, crops and augmentation, below 2^31.
          start_step: Number of the first batch, from 0.

        Returns:
          Pairs of uint8 [batch, tile, tile, 3] and uint8 [batch, window, window, 1],
          where window is tile - 2 * margin.
        """
        options = self.options
        count = self.count(options.train_split)
        first_epoch, offset = divmod(start_step * options.batch_size, count)
        blocks = (
            self._records(options.train_split)
            .enumerate()
            .batch(min(options.shuffle_buffer, count))
        )
        root = tf.constant([seed, 0], tf.int32)

        def epoch_records(epoch: tf.Tensor) -> tf.data.Dataset:
            """The undecoded records of one epoch in its order, each with its seed."""
            epoch_seed = tf.random.fold_in(root, epoch)
            done = tf.where(epoch == first_epoch, tf.constant(offset, tf.int64), 0)
            return (
                blocks.map(lambda *block: _shuffle(block, epoch_seed))
                .unbatch()
                .skip(done)
                .map(lambda i, record: (tf.random.fold_in(epoch_seed, i), record))
            )

        return (
            tf.data.Dataset.range(first_epoch, tf.int64.max)
            .flat_map(epoch_records)
            .map(
                lambda seed, record: self._train_tile(record, margin, seed),
                num_parallel_calls=tf.data.AUTOTUNE,
                deterministic=True,
            )
            .batch(options.batch_size, drop_remainder=True)
            .prefetch(tf.data.AUTOTUNE)
        )

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
          ValueError: There is no such split, or a mask has a value other than 0, 1
            and 255.
        """
        count = self.count(split)
        records = self._records(split).take(count if limit is None else limit)
        for image, mask in records.map(
            _decode, num_parallel_calls=2, deterministic=True
        ).prefetch(2):
            example = Example(image.numpy(), mask.numpy())
            _check_mask(example.mask, self.options.name)
            yield example

    def _records(self, split: str) -> tf.data.Dataset:
        """Undecoded examples in the order of the files."""
        skip = tfds.decode.SkipDecoding()
        return self._builder.as_dataset(
            split=split,
            decoders=tfds.decode.PartialDecoding(
                {_IMAGE: True, _MASK: True},
                decoders={_IMAGE: skip, _MASK: skip},
            ),
            read_config=tfds.ReadConfig(try_autocache=False),
        )

    def _train_tile(
        self, record: dict[str, tf.Tensor], margin: int, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """One undecoded example to one augmented tile."""
        options = self.options
        seeds = tf.random.split(seed, 4)
        image, mask = _decode(record)
        if options.image_size or options.scale_jitter:
            longer = options.image_size or tf.reduce_max(tf.shape(image)[:2])
            factor = augment.random_scale(options.scale_jitter, seeds[0])
            size = augment.scaled_size(
                tf.shape(image), tf.cast(longer, tf.float32) * factor
            )
            image = augment.resize_image(image, size)
            mask = augment.resize_mask(mask, size)
        image, mask = augment.random_tile(
            image, mask, tile_size=options.tile_size, margin=margin, seed=seeds[1]
        )
        if options.color_jitter:
            image = augment.random_color(image, options.color_jitter, seeds[2])
        # Mirroring the tile with its window mirrors both about the same axis.
        if options.mirror:
            image, mask = augment.random_mirror(image, mask, seeds[3])
        return image, mask


def _shuffle(block: Any, seed: tf.Tensor) -> Any:
    """Reorders a batch of records by a seed and nothing else.

    `Dataset.shuffle` would not do: in a `flat_map` it keeps the first epoch's seed.
    """
    indices = block[0]
    order = tf.random.experimental.stateless_shuffle(
        tf.range(tf.shape(indices)[0]), tf.random.fold_in(seed, indices[0])
    )
    return tf.nest.map_structure(lambda part: tf.gather(part, order), block)


def _decode(record: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    image = tf.image.decode_image(record[_IMAGE], channels=3, expand_animations=False)
    mask = tf.image.decode_image(record[_MASK], channels=1, expand_animations=False)
    return image, mask


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


def _check_mask(mask: npt.NDArray[np.uint8], name: str) -> None:
    strange = np.setdiff1d(np.unique(mask), _MASK_VALUES)
    if strange.size:
        raise ValueError(
            f"A mask of {name!r} has the values {strange.tolist()}. Masks hold 0"
            " (background), 1 (foreground) and 255 (ignored)."
        )
