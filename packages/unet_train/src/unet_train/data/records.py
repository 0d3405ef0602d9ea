"""Records of a TFDS dataset: all of a split in its order, or those at some places.

```python
records = Records("coco_cats", "OUT", ["image", "segmentation_mask"])
records.read("train")
records.at("train", [3999, 17])  # These two, in this order; no others are parsed.
records.reader("train")(place)  # One, within a graph; no other is read.
```

The only module that imports TFDS.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_datasets as tfds

# TensorFlow has a public name for setting it, and none for asking.
from tensorflow.python.framework.config import is_op_determinism_enabled

from unet_train.data.address import where_to_read
from unet_train.data.offsets import record_offsets

Record = dict[str, tf.Tensor]
"""The encoded image and mask of an example, by the names of their features."""

# Features in which datasets keep the name of an image's file.
_NAMES = ("image/filename", "file_name")
# How many files TFDS reads in turns, and how many records of each. They are its own
# defaults, and written down because the order of training follows from them.
_FILES, _BLOCK = 16, 16


class Records:
    """The undecoded examples of a dataset that TFDS built.

    The places of a split count its records in the order of `read`, which goes from file
    to file and back.

    Attributes:
      name_key: Which entry of a named record names its image: the feature that holds
        the name of its file, or `tfds_id` where the dataset has none.
    """

    def __init__(self, name: str, data_dir: str | None, features: Sequence[str]):
        """Finds the dataset.

        Args:
          name: TFDS name.
          data_dir: Folder that TFDS built it in; its own default if none is given.
          features: What to read of each example: the encoded pictures.

        Raises:
          ValueError: TFDS does not know the dataset, it was not built, or it lacks a
            feature.
        """
        self._name = name
        self._pictures = list(features)
        self._builder = _find_built(name, data_dir)
        known = self._builder.info.features
        for key in features:
            if key not in known:
                raise ValueError(
                    f"The dataset {name!r} has no feature {key!r}, only"
                    f" {sorted(known)}. Correct --data.image_feature,"
                    " --data.mask_feature or --data.instance_feature, or these in its"
                    ' entry of --data.also (where `"instance_feature": ""` is none);'
                    " or use a dataset with masks, such as coco_cats."
                )
            if not isinstance(known[key], tfds.features.Image):
                raise ValueError(
                    f"The feature {key!r} of the dataset {name!r} holds no pictures,"
                    f" but {known[key]!r}. Name another one."
                )
        self.name_key = next((key for key in _NAMES if key in known), "tfds_id")
        # A number for every record: split after split, file after file.
        self._files: dict[str, int] = {}
        self._counts: dict[str, int] = {}
        self._splits: dict[str, int] = {}
        number = 0
        for split, info in self._builder.info.splits.items():
            self._splits[split] = number
            for file in info.file_instructions:
                self._files[file.filename] = number
                self._counts[file.filename] = file.take
                number += file.take
        self._numbers_of: dict[str, npt.NDArray[np.int64]] = {}

    def label_names(self, feature: str) -> list[str] | None:
        """The names of a mask's labels from 0; None where the dataset names none."""
        return getattr(self._builder.info.features[feature], "names", None)

    def count(self, split: str) -> int:
        """The number of records in a split, such as "train" or "train[:20%]".

        Raises:
          ValueError: The dataset has no such split.
        """
        splits = self._builder.info.splits
        try:
            return int(splits[split].num_examples)
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"The dataset {self._name!r} has no split {split!r}, only"
                f" {sorted(splits)} and parts of them such as 'train[:20%]'."
            ) from error

    def read(self, split: str, *, named: bool = False) -> tf.data.Dataset:
        """All records of a split.

        Args:
          split: TFDS split.
          named: Add `tfds_id`, file of the dataset and place in it, and `name_key`.

        Returns:
          Dictionaries of strings [], by the names of the features.

        Raises:
          ValueError: The dataset has no such split, or it is empty.
        """
        self._require_images(split)
        return self._read(split, self._files_at_once, named=named)

    def at(
        self, split: str, places: Sequence[int], *, named: bool = False
    ) -> tf.data.Dataset:
        """The records at these places, in this order; no others are parsed.

        Args:
          split: TFDS split.
          places: At least one; from 0, a place may come twice.
          named: As in `read`.

        Returns:
          As `read`.
        """
        numbers = self._numbers(split)[np.asarray(places)]
        starts = np.array(list(self._splits.values()))
        owners = np.searchsorted(starts, numbers, side="right") - 1
        ends = np.flatnonzero((np.diff(numbers) != 1) | (np.diff(owners) != 0)) + 1
        parts = []
        for run, owner in zip(np.split(numbers, ends), owners[[0, *ends]], strict=True):
            first = int(run[0] - starts[owner])
            name = list(self._splits)[owner]
            parts.append(tfds.core.ReadInstruction(name, first, first + len(run)))
        # One file after the other, or the order would be another one.
        return self._read(_sum(parts), 1, named=named)

    def reader(self, split: str) -> Callable[[tf.Tensor], Record] | None:
        """Reads a record by its place, within a graph, and touches no other.

        Args:
          split: TFDS split.

        Returns:
          From a place, int64 [], to a record as of `read`; None where the files do not
          allow it: they are no TFRecords, or lie elsewhere than on this machine.

        Raises:
          ValueError: The split is empty, or a file is not as long as the dataset says.
        """
        self._require_images(split)
        info = self._builder.info
        paths = sorted(
            {file.filename for file in info.splits[split].file_instructions},
            key=lambda path: self._files[path],
        )
        is_remote = any("://" in path for path in paths)
        if info.file_format is not tfds.core.FileFormat.TFRECORD or is_remote:
            return None
        with concurrent.futures.ThreadPoolExecutor(_FILES) as pool:
            offsets = list(pool.map(self._offsets, paths))  # Far away, it is waiting.
        firsts = np.array([self._files[path] for path in paths])
        numbers = self._numbers(split)
        owners = np.searchsorted(firsts, numbers, side="right") - 1
        ends = np.cumsum([0, *map(len, offsets)])
        within = numbers - firsts[owners] + ends[owners]
        names, owner_of = tf.constant(paths), tf.constant(owners)
        start_of = tf.constant(np.concatenate(offsets)[within])
        partial = self._partial(set())
        features = partial.extract_features(info.features)

        def at_place(place: tf.Tensor) -> tf.Tensor:
            file = tf.raw_ops.TFRecordDatasetV2(
                filenames=names[owner_of[place]][tf.newaxis],
                compression_type="",
                buffer_size=tf.constant(0, tf.int64),
                byte_offsets=start_of[place][tf.newaxis],
            )
            spec = tf.TensorSpec([], tf.string)
            following = tf.data.experimental.from_variant(file, spec)
            return following.take(1).get_single_element()

        read = _without_state(at_place)
        return lambda place: features.deserialize_example(
            read(place), decoders=partial.decoders
        )

    def _require_images(self, split: str) -> None:
        if not self.count(split):
            sizes = {
                name: info.num_examples
                for name, info in self._builder.info.splits.items()
            }
            raise ValueError(
                f"The split {split!r} of {self._name!r} has no images. Name another"
                " one with --data.train_split, --data.eval_split or --split; the"
                f" dataset has {sizes}."
            )

    def _offsets(self, path: str) -> npt.NDArray[np.int64]:
        offsets, count = record_offsets(path), self._counts[path]
        if len(offsets) != count:
            raise ValueError(
                f"{path} holds {len(offsets)} records, and the dataset was built with"
                f" {count} there. Build the dataset again, or copy it again."
            )
        return offsets

    def _numbers(self, split: str) -> npt.NDArray[np.int64]:
        """The numbers of a split's records in the order of `read`, int64 [count]."""
        if split not in self._numbers_of:
            ranges = [
                (self._files[file.filename] + file.skip, file.take)
                for file in self._builder.info.splits[split].file_instructions
            ]
            # As TFDS interleaves the files, by the same operation.
            numbers = tf.data.Dataset.from_tensor_slices(
                np.array(ranges, np.int64)
            ).interleave(
                lambda row: tf.data.Dataset.range(row[0], row[0] + row[1]),
                cycle_length=self._files_at_once,
                block_length=_BLOCK,
                num_parallel_calls=tf.data.AUTOTUNE,
                deterministic=True,
            )
            batches = list(numbers.batch(1 << 16).as_numpy_iterator())
            self._numbers_of[split] = np.concatenate(batches)
        return self._numbers_of[split]

    @property
    def _files_at_once(self) -> int:
        return 1 if self._builder.info.disable_shuffling else _FILES

    def _read(
        self,
        split: str | tfds.core.ReadInstruction,
        files_at_once: int,
        *,
        named: bool,
    ) -> tf.data.Dataset:
        return self._builder.as_dataset(
            split=split,
            decoders=self._partial({self.name_key} - {"tfds_id"} if named else set()),
            read_config=tfds.ReadConfig(
                try_autocache=False,
                add_tfds_id=named,
                interleave_cycle_length=files_at_once,
                interleave_block_length=_BLOCK,
            ),
        )

    def _partial(self, names: set[str]) -> tfds.decode.PartialDecoding:
        """Decodes these features alone; the pictures stay as they are stored."""
        skip = tfds.decode.SkipDecoding()
        return tfds.decode.PartialDecoding(
            dict.fromkeys([*self._pictures, *names], True),
            decoders=dict.fromkeys(self._pictures, skip),
        )


def _sum(parts: Sequence[tfds.core.ReadInstruction]) -> tfds.core.ReadInstruction:
    """All parts, one after the other; in halves, for TFDS adds up recursively."""
    middle = len(parts) // 2
    return _sum(parts[:middle]) + _sum(parts[middle:]) if middle else parts[0]


def _find_built(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    where = data_dir or "TFDS's default data_dir"
    build = f"tfds build {name.split('/')[0]} --manual_dir COCO"
    if "/" in name:
        build += " --config ..."
    if data_dir is not None:
        build += f" --data_dir {data_dir}"
    if data_dir is not None:
        data_dir = where_to_read(data_dir, name)
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


def _without_state(
    function: Callable[[tf.Tensor], tf.Tensor],
) -> Callable[[tf.Tensor], tf.Tensor]:
    """The same in a deterministic run, of which TensorFlow shall not see a state.

    It says of reading that it has one, and would then make one tile after the other, on
    one processor, and none ahead. What is read depends on the place alone.
    """
    if not is_op_determinism_enabled():
        return function
    compiled = tf.function(function, input_signature=[tf.TensorSpec([], tf.int64)])

    def call(place: npt.NDArray[np.int64]) -> bytes:
        with tf.device("CPU"):
            return bytes(compiled(place).numpy())

    def stateless(place: tf.Tensor) -> tf.Tensor:
        result = tf.numpy_function(call, [place], tf.string, stateful=False)
        return tf.ensure_shape(result, [])

    return stateless
