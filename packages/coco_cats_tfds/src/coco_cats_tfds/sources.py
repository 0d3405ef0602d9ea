"""Where image bytes come from: a folder, a zip, or files under other names.

```python
source = FolderSource("COCO/val2017")
source = ZipSource("COCO/val2017.zip", folder="val2017")
jpeg = source.read(record.image)  # The file's bytes, unchanged.
```
"""

from __future__ import annotations

import abc
import functools
import ntpath
import os
import posixpath
import stat
import zipfile
from collections.abc import Mapping
from typing import Any

from etils import epath

from coco_cats_tfds.annotations import Image
from coco_cats_tfds.errors import CocoDataError

# Far above any JPEG; more is neither read nor unpacked.
_MAX_IMAGE_BYTES = 1 << 28
_WINDOWS = os.name == "nt"


class Source(abc.ABC):
    """Gives the bytes of images. Can be pickled, and read from several threads."""

    @abc.abstractmethod
    def locate(self, image: Image) -> object:
        """Where the image is, for messages."""

    @abc.abstractmethod
    def read(self, image: Image) -> bytes:
        """The bytes of an image file, unchanged and unchecked.

        Raises:
          CocoDataError: The image is not there or cannot be read.
        """


class FolderSource(Source):
    """Images of one split in a folder, e.g. `COCO/train2017`; links are followed."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = epath.Path(folder)

    def locate(self, image: Image) -> object:
        """The path of the file."""
        return self._folder / safe_name(image, self._folder)

    def read(self, image: Image) -> bytes:
        """See `Source`."""
        return _read_file(self.locate(image), image)


class FileSource(Source):
    """Images in files of any name, by image id."""

    def __init__(
        self, paths: Mapping[int, str], *, absent: Mapping[int, str] | None = None
    ) -> None:
        """Takes the paths, and for images that have none the reason."""
        self._paths = dict(paths)
        self._absent = dict(absent or {})

    def locate(self, image: Image) -> object:
        """The path of the file."""
        return self._paths[image.id]

    def read(self, image: Image) -> bytes:
        """See `Source`."""
        if image.id in self._absent:
            raise CocoDataError(self._absent[image.id])
        return _read_file(self._paths[image.id], image)


class ZipSource(Source):
    """Images of one split in one of COCO's zips, read without unpacking it."""

    def __init__(self, path: str | os.PathLike[str], *, folder: str) -> None:
        """Takes the zip at `path` with its images under `folder`, e.g. `train2017`."""
        self._path = epath.Path(path)
        self._folder = folder

    def __getstate__(self) -> dict[str, Any]:
        """Without the open file, which no other process can use."""
        state = dict(self.__dict__)
        state.pop("_zip", None)
        return state

    @functools.cached_property
    def _zip(self) -> zipfile.ZipFile:
        return open_zip(self._path)

    def locate(self, image: Image) -> object:
        """The path of the zip and the name in it."""
        name = safe_name(image, self._path / self._folder)
        return f"{self._path}/{self._folder}/{name}"

    def read(self, image: Image) -> bytes:
        """See `Source`."""
        name = posixpath.join(self._folder, safe_name(image, self._path))
        try:
            return read_member(self._zip, name, limit=_MAX_IMAGE_BYTES)
        except KeyError as error:
            raise CocoDataError(
                f"Image {image.id} is listed but {self._path} holds no {name}. Fetch"
                " the zip again, or remove the image from the instances file."
            ) from error


def safe_name(image: Image, folder: object) -> str:
    """The image's file name, if it stays inside its folder.

    Raises:
      CocoDataError: It is absolute, leads out, is empty, or holds a NUL; on Windows
        also if it holds a backslash or names a drive.
    """
    name = posixpath.normpath(image.file_name)
    leaves = name == ".." or name.startswith(("../", "/"))
    if _WINDOWS:
        leaves = leaves or "\\" in name or bool(ntpath.splitdrive(name)[0])
    if name == "." or leaves or "\0" in name:
        raise CocoDataError(
            f"Image {image.id} has the file name {image.file_name!r}, which leaves"
            f" its folder {folder} or names no file. Correct the name in the instances"
            " file."
        )
    return name


def open_zip(path: epath.Path) -> zipfile.ZipFile:
    """Opens a zip, local or on a file system that TensorFlow knows.

    Raises:
      CocoDataError: It cannot be read or is no zip.
    """
    try:
        check_regular(path)
        return zipfile.ZipFile(path.open("rb"))
    except Exception as error:  # A damaged zip makes it raise many kinds.
        raise CocoDataError(
            f"Cannot open {path} as a zip: {error}. It may be cut off; fetch it again."
        ) from error


def read_member(archive: zipfile.ZipFile, name: str, *, limit: int) -> bytes:
    """One file of a zip, of at most `limit` bytes.

    Raises:
      KeyError: The zip holds no such file.
      CocoDataError: The zip is damaged there, or of a kind that Python does not read,
        or the file is larger.
    """
    if archive.getinfo(name).file_size > limit:
        raise CocoDataError(
            f"{name} in {archive.filename} unpacks to more than {limit:,} bytes, which"
            " nothing of COCO does. Fetch the zip again."
        )
    try:
        return archive.read(name)
    except KeyError:
        raise
    except Exception as error:  # A damaged zip makes it raise many kinds.
        raise CocoDataError(
            f"Cannot read {name} in {archive.filename}: {error}. Fetch the zip again."
        ) from error


def check_regular(path: str | os.PathLike[str]) -> None:
    """Refuses a local path that is there and no regular file, links followed.

    `epath.Path.is_file` takes pipes and devices for files, and reading these may end
    never.

    Raises:
      OSError: There is nothing, or the path cannot be followed.
      ValueError: It is a pipe, a device or a folder.
    """
    if "://" not in os.fspath(path) and not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("it is no regular file")


def _read_file(path: Any, image: Image) -> bytes:
    try:
        check_regular(path)
        file = epath.Path(path)
        if file.stat().length > _MAX_IMAGE_BYTES:
            raise ValueError(f"it has more than {_MAX_IMAGE_BYTES:,} bytes")
        return file.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CocoDataError(
            f"Image {image.id} is listed but {path} cannot be read: {reason}."
            " Extract or fetch it again, or remove the image from the instances file."
        ) from error
