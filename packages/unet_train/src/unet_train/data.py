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
import itertools
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_datasets as tfds

from unet_train import augment
from unet_train.border import border_weights
from unet_train.decoding import decode_picture
from unet_train.options import DataOptions

STRANGE = 254
"""In a table of labels: a value that a mask should not have."""

STRANGE_MASK = "A mask has a value that the options do not name."


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

    def batch(self, tiles: tf.data.Dataset, size: int) -> tf.data.Dataset:
        """Batches of `size`, or pieces of them in turn, one for each device."""
        if size % self.replicas == 0:
            return tiles.batch(size // self.replicas, drop_remainder=True)
        ends = [size * end // self.replicas for end in range(self.replicas + 1)]
        pieces = tf.constant(list(itertools.pairwise(ends)), tf.int64)
        return tiles.batch(size, drop_remainder=True).flat_map(
            lambda *parts: tf.data.Dataset.from_tensor_slices(pieces).map(
                lambda ends: tuple(part[ends[0] : ends[1]] for part in parts)
            )
        )


ALL = Share()


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
        self._labels = label_table(self.options)
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
        examples = self._ordered(
            self._records(options.train_split), seed, start_step, limit, repeat_batches
        )
        if last - first < options.batch_size:
            examples = examples.filter(
                lambda place, *_: (place >= first) & (place < last)
            )
        tiles = examples.map(
            lambda _, seed, *records: self._train_tile(records, margin, seed),
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
        order = self._ordered(records, seed, step, limit, repeat_batches)
        return [
            record["tfds_id"].numpy().decode()
            for _, _, record, *_ in order.take(self.options.batch_size)
        ]

    def _ordered(
        self,
        records: tf.data.Dataset,
        seed: int,
        start_step: int,
        limit: int | None,
        repeat_batches: int | None,
    ) -> tf.data.Dataset:
        """Examples in the order of training: place in the batch, seed, record.

        With `copy_paste` a second record follows, that of another image.
        """
        options = self.options
        count = self._train_count(limit)
        if repeat_batches is not None:
            start_step %= repeat_batches
        start = 0 if repeat_batches else start_step * options.batch_size
        first_epoch, offset = divmod(start, count)
        blocks = (
            records.take(count).enumerate().batch(min(options.shuffle_buffer, count))
        )
        root = tf.constant([seed, 0], tf.int32)

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
        if repeat_batches is not None:
            ordered = ordered.take(repeat_batches * options.batch_size).repeat()
            ordered = ordered.skip(start_step * options.batch_size)
        return ordered.enumerate().map(
            lambda place, example: (place % options.batch_size, *example)
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
        if not self.options.copy_paste:
            return block
        others = tf.nest.map_structure(lambda part: tf.roll(part, -1, 0), block[1])
        return *block, others

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
            yield dataclasses.replace(example, mask=self._check_mask(example.mask))

    def _raw_examples(self, split: str, first: int, count: int) -> Iterator[Example]:
        records = self._records(split, with_id=True).skip(first).take(count)
        decoded = records.map(
            lambda record: (*self._decode(record), record["tfds_id"]),
            num_parallel_calls=2,
            deterministic=True,
        ).prefetch(2)
        for image, mask, name in decoded:
            yield Example(image.numpy(), mask.numpy(), name.numpy().decode())

    def _check_mask(self, mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The mask's labels, 0, 1 and 255."""
        labels = self._labels[mask]
        strange = np.unique(mask[labels == STRANGE])
        if strange.size:
            options = self.options
            raise ValueError(
                f"A mask of {options.name!r} has the values {strange.tolist()}, but"
                f" foreground is {options.foreground}, background"
                f" {options.background}, ignored {options.ignored}. Name every value"
                " with --data.foreground, --data.background and --data.ignored."
            )
        return labels

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

    def _decode(self, record: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Image uint8 [H, W, 3] and the dataset's own mask, uint8 [H, W, 1]."""
        options = self.options
        return tuple(
            decode_picture(record[name], channels)
            for name, channels in (
                (options.image_feature, 3),
                (options.mask_feature, 1),
            )
        )

    def _train_tile(
        self, records: tuple[dict[str, tf.Tensor], ...], margin: int, seed: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        """One undecoded example to one augmented tile, and perhaps weights."""
        options = self.options
        seeds = tf.random.split(seed, 8)
        image, mask = self._cut_tile(records[0], margin, seeds[0])
        if options.copy_paste:
            pastes = tf.random.stateless_uniform([], seeds[1]) < options.copy_paste
            image, mask = tf.cond(
                pastes,
                lambda: augment.paste(
                    image, mask, *self._cut_tile(records[1], margin, seeds[2])
                ),
                lambda: (image, mask),
            )
        if options.color_jitter:
            image = augment.random_color(image, options.color_jitter, seeds[3])
        if options.blur:
            image = augment.random_blur(image, options.blur, seeds[4])
        if options.cutout:
            image, mask = augment.random_cutout(image, mask, options.cutout, seeds[5])
        if options.mirror:
            image, mask = augment.random_mirror(image, mask, seeds[6])
        if options.flip:
            image, mask = augment.random_mirror(image, mask, seeds[7], axis=0)
        mask = mask[margin : options.tile_size - margin]
        mask = mask[:, margin : options.tile_size - margin]
        if not options.border_weight:
            return image, mask
        weights = tf.numpy_function(
            lambda mask: border_weights(
                mask, weight=options.border_weight, sigma=options.border_sigma
            ),
            [mask],
            tf.float32,
            stateful=False,
        )
        return image, mask, tf.ensure_shape(weights, mask.shape)

    def _cut_tile(
        self, record: dict[str, tf.Tensor], margin: int, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Decodes, scales and cuts: uint8 [tile, tile, 3] and [tile, tile, 1]."""
        options = self.options
        seeds = tf.random.split(seed, 2)
        image, mask = self._decode(record)
        mask = self._to_labels(mask)
        if options.image_size or options.scale_jitter:
            longer = options.image_size or tf.reduce_max(tf.shape(image)[:2])
            factor = augment.random_scale(options.scale_jitter, seeds[0])
            size = augment.scaled_size(
                tf.shape(image), tf.cast(longer, tf.float32) * factor
            )
            image = augment.resize_image(image, size)
            mask = augment.resize_mask(mask, size)
        place = {"tile_size": options.tile_size, "margin": margin, "seed": seeds[1]}
        if not options.rotation and not options.elastic:
            return augment.random_tile(image, mask, **place)
        return augment.random_warped_tile(
            *(image, mask),
            rotation=options.rotation,
            elastic=options.elastic,
            **place,
        )

    def _to_labels(self, mask: tf.Tensor) -> tf.Tensor:
        """The dataset's values to 0, 1 and 255."""
        labels = tf.gather(tf.constant(self._labels), tf.cast(mask, tf.int32))
        known = tf.reduce_all(labels != STRANGE)
        with tf.control_dependencies([tf.debugging.Assert(known, [STRANGE_MASK])]):
            return tf.identity(labels)


def label_table(options: DataOptions) -> npt.NDArray[np.uint8]:
    """The label, or `STRANGE`, of each value that a mask can have."""
    table = np.full(256, STRANGE, np.uint8)
    for values, label in (
        (options.background, 0),
        (options.foreground, 1),
        (options.ignored, augment.IGNORE),
    ):
        table[values] = label
    return table


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
