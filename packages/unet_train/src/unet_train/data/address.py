"""Datasets at an address: read there where TensorFlow can, else copied from there.

>>> where_to_read("OUT", "coco_cats"), where_to_read("gs://cats/tfds", "coco_cats")
('OUT', 'gs://cats/tfds')
"""

from __future__ import annotations

import hashlib
import logging
import os
import pathlib

import fsspec
from fsspec.implementations.local import LocalFileSystem

_LOG = logging.getLogger("unet_train")
# Of these TFDS and TensorFlow know themselves; others that TensorFlow names TFDS lacks.
_READ_THERE = ("gs://",)


def where_to_read(data_dir: str, name: str) -> str:
    """A folder, or an address that TFDS reads; a copy of what lies at any other.

    The copy stays on the machine, in `~/.cache/unet_train`, and what has the size that
    it has at the address is not copied again.

    Args:
      data_dir: A folder, `gs://`, or whatever fsspec knows, such as `s3://`.
      name: The dataset, perhaps with its configuration; no other is copied.

    Raises:
      ValueError: The address cannot be read.
    """
    if "://" not in data_dir or data_dir.startswith(_READ_THERE):
        return data_dir
    try:
        files, root = fsspec.core.url_to_fs(data_dir.rstrip("/"))
        if isinstance(files, LocalFileSystem):
            return str(root)
        of_this = hashlib.sha256(data_dir.encode()).hexdigest()[:16]
        return str(_copy(files, root, name, cache_folder() / "datasets" / of_this))
    except Exception as error:  # Each storage's library raises its own.
        raise ValueError(
            f"--data.data_dir {data_dir} cannot be read: {type(error).__name__}:"
            f" {error}. See to the address, the rights and the network; s3:// needs"
            " `pip install s3fs`, az:// needs adlfs."
        ) from error


def _copy(
    files: fsspec.AbstractFileSystem, root: str, name: str, folder: pathlib.Path
) -> pathlib.Path:
    found = files.find(f"{root}/{name.partition(':')[0]}", detail=True)
    missing = {}
    for path, told in found.items():
        file = folder / pathlib.PurePosixPath(path).relative_to(root)
        if not file.is_file() or file.stat().st_size != told["size"]:
            missing[path] = file
    if missing:
        size = sum(found[path]["size"] for path in missing)
        _LOG.warning(
            "%d files of %s, %.3g GB, are copied to %s.",
            *(len(missing), name, size / 1e9, folder),
        )
    for path, file in missing.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not at all; several processes may do the same.
        partial = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            files.get_file(path, str(partial))
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
    return folder


def cache_folder() -> pathlib.Path:
    """Where what was fetched once stays on this machine: `~/.cache/unet_train`."""
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(home) / "unet_train"
