"""Files that were fetched, under the names that TFDS's download manager gives them.

So each finds what the other, or an earlier version, has fetched.

```python
cache = Cache("OUT/downloads")
path = cache.find(url) or cache.keep(url, content)
```
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import urllib.parse
import uuid

import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core.download.checksums import UrlInfo
from tensorflow_datasets.core.download.resource import (
    get_dl_fname,
    get_info_path,
    is_locally_cached,
    read_info_file,
    write_info_file,
)

_DATASET = "coco_cats"


class Cache:
    """A folder of fetched files.

    Attributes:
      used: Of every file that was found or kept, address and what is known of it.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Takes the folder, TFDS's `--download_dir`, which need not be there yet."""
        self._folder = epath.Path(folder).expanduser()
        self.used: dict[str, UrlInfo] = {}

    def find(self, url: str, *, checksum: str | None = None) -> epath.Path | None:
        """The file that came from an address, if it is there and has not changed since.

        Args:
          url: The address.
          checksum: The sha256 that the file should have, where that is known.
        """
        for folder in (self._folder / _DATASET, self._folder):
            for known in (checksum, None):
                path = self._path(folder, url, known)
                if is_locally_cached(path) and (info := _unchanged(path)):
                    self.used[url] = info
                    return path
        return None

    def keep(
        self, url: str, content: bytes, *, checksum: str | None = None
    ) -> epath.Path:
        """Stores a file, whole or not at all, in the place of one that was there."""
        path = self._path(self._folder / _DATASET, url, checksum)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.forget(path)
        name = posixpath.basename(urllib.parse.urlparse(url).path)
        self.used[url] = UrlInfo(
            size=tfds.core.utils.Size(len(content)),
            checksum=hashlib.sha256(content).hexdigest(),
            filename=name,
        )
        part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
        try:
            part.write_bytes(content)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        write_info_file(url, path, _DATASET, name, self.used[url])
        return path

    def forget(self, path: epath.Path) -> None:
        """Deletes a file and what is known of it."""
        path.unlink(missing_ok=True)
        get_info_path(path).unlink(missing_ok=True)

    @staticmethod
    def _path(folder: epath.Path, url: str, checksum: str | None = None) -> epath.Path:
        return folder / get_dl_fname(url, checksum)


def _unchanged(path: epath.Path) -> UrlInfo | None:
    """What was recorded of a file when it came, if it is still so."""
    try:
        info = UrlInfo(**read_info_file(path)["url_info"])
    except (ValueError, KeyError, TypeError):
        return None  # The record itself is damaged.
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return info if info.checksum == digest else None
