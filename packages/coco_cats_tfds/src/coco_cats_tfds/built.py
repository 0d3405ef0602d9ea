"""Finds built datasets on disk and reads them without the builder that made them.

```python
for built in find_built("OUT"):
    for example in built.examples("train"):
        print(example.image_id, example.mask.shape)
```
"""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import tensorflow_datasets as tfds
from etils import epath

from coco_cats_tfds.choice import Choice
from coco_cats_tfds.counts import Counts
from coco_cats_tfds.errors import CocoDataError


@dataclasses.dataclass(frozen=True)
class BuiltExample:
    """One record.

    ```python
    from coco_cats_tfds.built import BuiltExample, find_built

    example = next(iter(find_built("OUT")[0].examples("validation")))
    assert isinstance(example, BuiltExample)
    print(example.filename, example.mask.shape, (example.mask == 1).mean())
    ```

    Attributes:
      image_id: COCO's.
      filename: COCO's.
      jpeg: The image's bytes.
      mask: uint8 [height, width, 1].
      license: COCO's number, 0 if it has none; None if not recorded.
      flickr_url: COCO's, "" if it has none; None if not recorded.
      instances: uint16 [height, width, 1]; None if not recorded.
    """

    image_id: int
    filename: str
    jpeg: bytes
    mask: npt.NDArray[np.uint8]
    license: int | None = None
    flickr_url: str | None = None
    instances: npt.NDArray[np.uint16] | None = None

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> BuiltExample:
        """Takes what there is of a record whose `_ENCODED` pictures are not decoded."""
        license, url = record.get("image/license"), record.get("image/flickr_url")
        png = record.get("instance_map")
        return cls(
            image_id=int(record["image/id"]),
            filename=record["image/filename"].decode(),
            jpeg=record["image"],
            mask=record["segmentation_mask"],
            license=None if license is None else int(license),
            flickr_url=None if url is None else url.decode(),
            instances=None if png is None else _decode_16_bits(png),
        )


_ENCODED = ("image", "instance_map")


def _decode_16_bits(png: bytes) -> npt.NDArray[np.uint16]:
    """As [height, width, 1]; TFDS reads 16 bits at random with OpenCV only."""
    with PIL.Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture, np.uint16)[..., np.newaxis]


class BuiltDataset:
    """One configuration of `coco_cats` on disk.

    ```python
    from coco_cats_tfds.built import BuiltDataset, find_built

    dataset = find_built("OUT")[0]
    assert isinstance(dataset, BuiltDataset)
    print(dataset.path, dataset.splits["train"], dataset.choice.categories)
    ```

    Attributes:
      path: Its folder, `<data_dir>/coco_cats/<configuration>/<version>`.
      choice: What it was built with.
      counts: What was counted then, by split.
      class_names: Of the labels 1, 2, ...; none where there is but one label.
      splits: Numbers of examples, by split.
    """

    def __init__(self, path: epath.Path) -> None:
        """Opens the dataset in a folder with `dataset_info.json`.

        Raises:
          CocoDataError: It was not built by this package.
        """
        self.path = path
        try:
            self._builder = tfds.builder_from_directory(path)
            metadata = self._builder.info.metadata
            self.choice = Choice.of_record(metadata["choice"])
            self.counts = {
                split: Counts.from_json(record)
                for split, record in metadata["counts"].items()
            }
        except CocoDataError as error:
            raise CocoDataError(
                f"{path} does not say what it was built with: {error}"
            ) from error
        except Exception as error:  # TFDS raises many kinds for damaged files.
            raise CocoDataError(
                f"{path} does not say what it was built with ({error!r}): it is damaged"
                " or not a dataset of this version of coco_cats. Build it again."
            ) from error
        mask = self._builder.info.features["segmentation_mask"]
        self.class_names = tuple(getattr(mask, "names", ())[1:])
        self.splits: dict[str, int] = {
            name: info.num_examples for name, info in self._builder.info.splits.items()
        }

    def examples(self, split: str) -> Iterator[BuiltExample]:
        """All records of a split, in their order on disk."""
        features = self._builder.info.features
        decoders = {
            name: tfds.decode.SkipDecoding() for name in _ENCODED if name in features
        }
        if self._builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
            records = self._builder.as_data_source(split=split, decoders=decoders)
        else:
            dataset = self._builder.as_dataset(
                split=split, decoders=decoders, shuffle_files=False
            )
            records = tfds.as_numpy(dataset)
        for record in records:
            yield BuiltExample.of_record(record)


def find_built(
    data_dir: str | os.PathLike[str], config: str | None = None
) -> list[BuiltDataset]:
    """The datasets under a folder.

    ```python
    from coco_cats_tfds.built import find_built

    (dataset,) = find_built("OUT", "cats")
    dataset.splits  # {"train": 64, "validation": 16}
    ```

    Args:
      data_dir: What was given to `tfds build` as `--data_dir`, or the folder of one
        dataset.
      config: The name of a configuration; all of them if None.

    Raises:
      CocoDataError: There is none.
    """
    path = os.fspath(data_dir)
    root = epath.Path(path if "://" in path else os.path.abspath(path))
    if (root / "dataset_info.json").exists():
        return [BuiltDataset(root)]
    infos = [
        info
        for info in sorted(root.glob("coco_cats/*/*/dataset_info.json"))
        if "incomplete" not in info.parent.name
        and config in (None, info.parent.parent.name)
    ]
    if not infos:
        there = sorted(
            {path.name for path in root.glob("coco_cats/*") if path.is_dir()}
        )
        raise CocoDataError(
            f"No finished coco_cats dataset"
            f"{f' of the configuration {config!r}' if config else ''} under {root}."
            + (f" Found there: {there}." if there else "")
            + " Build one: tfds build coco_cats --data_dir OUT."
        )
    return [BuiltDataset(info.parent) for info in infos]
