"""The three ways to COCO: a folder, its zips as they are, or the net.

```python
coco = CocoFolder("COCO")  # or CocoDownload(dl_manager, base_url), see `download`
index = coco.index("val2017")
source = coco.source("val2017", index.images.values())
```
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any, Protocol

from etils import epath

from coco_cats_tfds.annotations import Image, InstancesIndex
from coco_cats_tfds.errors import CocoDataError
from coco_cats_tfds.sources import (
    FolderSource,
    Source,
    ZipSource,
    check_regular,
    open_zip,
    read_member,
)

ANNOTATIONS_ZIP = "annotations_trainval2017.zip"
# Four times COCO's own instances_train2017.json; more is not unpacked.
_MAX_ANNOTATION_BYTES = 1 << 31


class CocoInputs(Protocol):
    """Annotations and images of COCO's splits `train2017` and `val2017`."""

    def index(self, split: str) -> InstancesIndex:
        """The annotations of a split."""

    def instances(self, split: str) -> dict[str, Any]:
        """The same file as plain JSON, all of it and unchecked."""

    def source(self, split: str, images: Iterable[Image]) -> Source:
        """Where these images of a split can be read."""


class CocoFolder:
    """A folder in COCO's layout; each part may be extracted or still a zip."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        """Takes the folder that holds `annotations/`, `train2017/` and `val2017/`."""
        self._root = epath.Path(root)

    @staticmethod
    def is_at(root: epath.Path) -> bool:
        """Whether a folder has annotations as COCO's has."""
        names = (instances_name("train2017"), ANNOTATIONS_ZIP)
        return any((root / name).exists() for name in names)

    def index(self, split: str) -> InstancesIndex:
        """See `CocoInputs`.

        Raises:
          CocoDataError: The annotations are missing or damaged.
        """
        path = self._root / instances_name(split)
        archive = self._root / ANNOTATIONS_ZIP
        if not path.exists() and archive.exists():
            return index_from_zip(archive, split)
        return InstancesIndex.load(path)

    def instances(self, split: str) -> dict[str, Any]:
        """See `CocoInputs`.

        Raises:
          CocoDataError: The annotations are missing or damaged.
        """
        path = self._root / instances_name(split)
        archive = self._root / ANNOTATIONS_ZIP
        if not path.exists() and archive.exists():
            return instances_from_zip(archive, split)
        try:
            check_regular(path)
            return plain_json(path.read_bytes(), origin=path)
        except (OSError, ValueError) as error:
            raise CocoDataError(f"Cannot read the annotations {path}: {error}.") from (
                error
            )

    def source(self, split: str, images: Iterable[Image]) -> Source:
        """See `CocoInputs`.

        Raises:
          CocoDataError: There is neither folder nor zip.
        """
        folder, archive = self._root / split, self._root / f"{split}.zip"
        if folder.is_dir():
            return FolderSource(folder)
        if archive.exists():
            return ZipSource(archive, folder=split)
        raise CocoDataError(
            f"There is neither a folder {folder} nor {archive}. The COCO folder must"
            " hold train2017/, val2017/ and annotations/, or COCO's zips:"
            f" train2017.zip, val2017.zip and {ANNOTATIONS_ZIP}."
        )


def instances_name(split: str) -> str:
    """Where COCO keeps the annotations of a split, in its folder and in its zip."""
    return f"annotations/instances_{split}.json"


def index_from_zip(path: epath.Path, split: str) -> InstancesIndex:
    """The annotations of a split in `annotations_trainval2017.zip`.

    Raises:
      CocoDataError: The zip or the file in it is missing or damaged.
    """
    content = _content_of_zip(path, split)
    return InstancesIndex(content, origin=f"{path}/{instances_name(split)}")


def instances_from_zip(path: epath.Path, split: str) -> dict[str, Any]:
    """The same as plain JSON; errors as there."""
    content = _content_of_zip(path, split)
    return plain_json(content, origin=f"{path}/{instances_name(split)}")


def plain_json(content: bytes, *, origin: object) -> dict[str, Any]:
    """An instances file as Python's own decoder reads it.

    Raises:
      CocoDataError: It is no JSON, or no object.
    """
    try:
        return dict(json.loads(content.decode("utf-8-sig")))
    except (ValueError, RecursionError) as error:
        raise CocoDataError(f"{origin} is not a COCO instances file: {error}.") from (
            error
        )


def _content_of_zip(path: epath.Path, split: str) -> bytes:
    name = instances_name(split)
    with open_zip(path) as archive:
        try:
            return read_member(archive, name, limit=_MAX_ANNOTATION_BYTES)
        except KeyError as error:
            raise CocoDataError(
                f"{path} holds no {name}. It is not COCO's {ANNOTATIONS_ZIP}; fetch"
                " that."
            ) from error
