"""One TFDS dataset with masks: its whole images, and its records to train on.

```python
dataset = MaskDataset(DataOptions(name="coco_cats", data_dir="OUT"))
example = next(dataset.examples())  # The first one to validate on.
```
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from unet_train.data.decoding import decode_instances
from unet_train.data.labels import explained, labels_of_mask
from unet_train.data.records import Record, Records
from unet_train.data.share import ALL, Share
from unet_train.data.tiles import decode_record
from unet_train.options import DataOptions


@dataclasses.dataclass(frozen=True)
class Example:
    """A whole image of a split.

    Attributes:
      image: uint8 [H, W, 3].
      mask: uint8 [H, W, 1]: 0 background, 1 foreground (or 1 to n, the classes), 255
        ignored.
      id: That TFDS gave it: file of the dataset, and place in it.
      name: Of the image's file, or the id where the dataset does not tell.
    """

    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]
    id: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.id)


class MaskDataset:
    """A TFDS dataset with a feature for images and one for masks.

    Attributes:
      options: What was asked for; of further datasets it says nothing.
    """

    def __init__(self, options: DataOptions, prefix: str = "") -> None:
        """Finds the dataset.

        Args:
          options: Of this dataset alone.
          prefix: Of the ids and names of its examples.

        Raises:
          ValueError: TFDS does not know the dataset, it was not built, or it lacks a
            feature.
        """
        self.options = options
        self._prefix = prefix
        features = [options.image_feature, options.mask_feature]
        if options.instance_feature:
            features.append(options.instance_feature)
        self._records = Records(options.name, options.data_dir, features)

    def label_names(self) -> list[str] | None:
        """The names of its masks' labels from 0; None where it names none."""
        return self._records.label_names(self.options.mask_feature)

    def count(self, split: str | None = None) -> int:
        """The number of images in a split, such as "train" or "train[:20%]".

        Args:
          split: TFDS split; None for that of the validations.

        Raises:
          ValueError: The dataset has no such split.
        """
        return self._records.count(split or self.options.eval_split)

    def training_count(self, limit: int | None = None) -> int:
        """Images that are trained on."""
        count = self.count(self.options.train_split) - self.holdout_count()
        return count if limit is None else min(count, limit)

    def holdout_count(self) -> int:
        """Training images that are not trained on: at least one, if any."""
        count = self.count(self.options.train_split)
        share = self.options.holdout
        return min(count - 1, max(1, round(share * count))) if share else 0

    def training_records(self, places: Sequence[int] | None = None) -> tf.data.Dataset:
        """The undecoded records of the training split, those held out at the end.

        Args:
          places: Give those at these places, in this order, and parse no others.
        """
        split = self.options.train_split
        if places is None:
            return self._records.read(split)
        return self._records.at(split, places)

    @functools.cached_property
    def training_reader(self) -> Callable[[tf.Tensor], Record] | None:
        """Reads the training record at a place, as `Records.reader`."""
        return self._records.reader(self.options.train_split)

    def training_record(self, place: tf.Tensor) -> Record:
        """The undecoded training record at a place, where there is a reader."""
        assert self.training_reader is not None
        return self.training_reader(place)

    def training_names(self, places: Sequence[int]) -> list[str]:
        """The names of training images, as in `Example.name`."""
        key = self._records.name_key
        records = self._records.at(self.options.train_split, places, named=True)
        return [
            self._named(record[key] or record["tfds_id"])
            for record in records.as_numpy_iterator()
        ]

    def check(self) -> None:
        """Looks at one example of each split, so that a fault is found before training.

        Raises:
          ValueError: A split is missing or empty, a mask has a strange value, or a map
            of instances is none.
        """
        for split in (self.options.train_split, self.options.eval_split):
            next(self.examples(split, limit=1))
        self.check_instances()

    def check_instances(self) -> None:
        """Looks at one map of instances, if they are read.

        Raises:
          ValueError: It is no grey PNG, or of another size than its mask.
        """
        if not self.options.instance_feature:
            return
        (record,) = self.training_records([0])
        _, mask = decode_record(record, self.options)
        try:
            encoded = record[self.options.instance_feature]
            decode_instances(encoded, tf.shape(mask)[:2])
        except tf.errors.InvalidArgumentError as error:
            raise explained(error) from error

    def examples(
        self,
        split: str | None = None,
        limit: int | None = None,
        *,
        share: Share = ALL,
    ) -> Iterator[Example]:
        """Whole images in the dataset's order, at their own resolution.

        Args:
          split: TFDS split; None for that of the validations.
          limit: Give at most this many.
          share: Of several machines, which one this is: it gets every n-th of them.

        Raises:
          ValueError: There is no such split, it is empty, or a mask has a value that
            the options do not name.
        """
        return self._labelled(self.raw_examples(split, limit, share=share))

    def examples_at(
        self, split: str | None, places: Sequence[int]
    ) -> Iterator[Example]:
        """Of `examples` those at these places, from 0, in this order; reads no others.

        Args:
          split: As in `examples`.
          places: Any, or none.
        """
        if not len(places):
            return iter(())
        split = split or self.options.eval_split
        records = self._records.at(split, places, named=True)
        return self._labelled(self._decoded(records))

    def raw_examples(
        self,
        split: str | None = None,
        limit: int | None = None,
        *,
        share: Share = ALL,
    ) -> Iterator[Example]:
        """As `examples`, but with the dataset's own values in the masks."""
        records = self._records.read(split or self.options.eval_split, named=True)
        records = records if limit is None else records.take(limit)
        return self._decoded(records.shard(share.workers, share.worker))

    def holdout_examples(
        self, limit: int | None = None, *, share: Share = ALL
    ) -> Iterator[Example]:
        """The training images that are not trained on, as `examples` gives them."""
        split, held_out = self.options.train_split, self.holdout_count()
        taken = held_out if limit is None else min(limit, held_out)
        ends = (share.worker, share.worker + 1)
        first, last = (taken * end // share.workers for end in ends)
        start = self.count(split) - held_out
        # In one piece: to skip records takes nearly as long as to read them.
        return self.examples_at(split, range(start + first, start + last))

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
            for image, mask, id_, name in decoded.as_numpy_iterator():
                yield Example(image, mask, self._named(id_), self._named(name or id_))
        except tf.errors.InvalidArgumentError as error:
            raise explained(error) from error

    def _named(self, name: bytes) -> str:
        return self._prefix + name.decode(errors="replace")


def different_names(names: Sequence[str]) -> list[str]:
    """The names, with a number where one comes again."""
    return [
        f"{name} ({names[:place].count(name) + 1})" if name in names[:place] else name
        for place, name in enumerate(names)
    ]


def absolute(data_dir: str | None) -> str | None:
    """A folder by its full path; an address as it is."""
    if data_dir is None or "://" in data_dir:
        return data_dir
    return os.path.abspath(os.path.expanduser(data_dir))
