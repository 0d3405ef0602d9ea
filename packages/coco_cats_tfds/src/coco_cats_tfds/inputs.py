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
from coco_cats_tfds.places import is_for_validation
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
# What people call COCO's splits, in folders and in names of instances files.
_OTHER_NAMES = {"train2017": ["train"], "val2017": ["val", "valid", "validation"]}


class CocoInputs(Protocol):
    """Annotations and images of COCO's splits `train2017` and `val2017`."""

    def index(self, split: str) -> InstancesIndex:
        """The annotations of a split."""

    def instances(self, split: str) -> dict[str, Any]:
        """The same file as plain JSON, all of it and unchecked."""

    def source(self, split: str, images: Iterable[Image]) -> Source:
        """Where these images of a split can be read."""


class CocoFolder:
    """A folder in COCO's layout; each part may be extracted or still a zip.

    Where there is no `train2017` or `val2017`, `train`, and `val`, `valid` or
    `validation` are taken, in the names of folders and of instances files.
    """

    def __init__(
        self, root: str | os.PathLike[str], *, validation: float = 0.0
    ) -> None:
        """Reads nothing yet.

        Args:
          root: The folder that holds `annotations/`, `train2017/` and `val2017/`.
          validation: Where there is no `val2017`: the share of `train2017` that is to
            be it.
        """
        self._root = epath.Path(root)
        self._validation = validation

    @staticmethod
    def is_at(root: epath.Path) -> bool:
        """Whether a folder has annotations as COCO's has."""
        names = [instances_name(name) for name in _names_of("train2017")]
        return any((root / name).exists() for name in [*names, ANNOTATIONS_ZIP])

    def index(self, split: str) -> InstancesIndex:
        """See `CocoInputs`.

        Raises:
          CocoDataError: The annotations are missing or damaged.
        """
        if self._validation:
            self._check_undivided()
            is_validation, share = split == "val2017", self._validation
            return InstancesIndex.load(self._instances("train2017")).part(
                lambda image: is_for_validation(image.file_name, share) == is_validation
            )
        path, archive = self._instances(split), self._root / ANNOTATIONS_ZIP
        if not path.exists() and archive.exists():
            return index_from_zip(archive, split)
        return InstancesIndex.load(path)

    def instances(self, split: str) -> dict[str, Any]:
        """See `CocoInputs`; of a folder that is divided the whole.

        Raises:
          CocoDataError: The annotations are missing or damaged.
        """
        split = "train2017" if self._validation else split
        path, archive = self._instances(split), self._root / ANNOTATIONS_ZIP
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
        split = "train2017" if self._validation else split
        archive = self._root / f"{split}.zip"
        for name in [split] if archive.exists() else _names_of(split):
            if (self._root / name).is_dir():
                return FolderSource(self._root / name)
        if archive.exists():
            return ZipSource(archive, folder=split)
        raise CocoDataError(
            f"There is neither a folder {self._root / split} nor {archive}. The COCO"
            " folder must hold train2017/, val2017/ (or train/, val/) and annotations/,"
            f" or COCO's zips: train2017.zip, val2017.zip and {ANNOTATIONS_ZIP}."
            " `coco-cats import` makes such a folder from photos and labels of other"
            " layouts."
        )

    def _check_undivided(self) -> None:
        """Refuses to divide what is divided already."""
        own, archive = self._instances("val2017"), self._root / ANNOTATIONS_ZIP
        if found := next((path for path in (own, archive) if path.exists()), None):
            raise CocoDataError(
                f"`validation` {self._validation} divides the photos of a folder that"
                f" has none to validate on, and there is {found}. Leave `validation`"
                " out."
            )

    def _instances(self, split: str) -> epath.Path:
        """The instances file of a split; COCO's name of it if there is none."""
        paths = [self._root / instances_name(name) for name in _names_of(split)]
        return next((path for path in paths if path.exists()), paths[0])


def _names_of(split: str) -> list[str]:
    return [split, *_OTHER_NAMES.get(split, [])]


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
