"""Run folders at an address: `gs://`, `s3://` and whatever else fsspec knows.

A run works in a folder of its machine, which is copied to the address and from there.

```python
storage = Storage("gs://cats/runs/1")
storage.fetch(folder)  # What lies there, checkpoints that are complete.
storage.push(folder)  # What is new here; removed there is what is gone here.
```
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import pathlib
import shutil
import tempfile
from collections.abc import Collection, Iterator

import fsspec

from unet_train.runs.folder import METRICS, MODEL, STATE, TENSORS, is_address

_LOGS = "events.out."
# What tells of a checkpoint or a model: it is copied last and removed first.
_TELLING = (STATE, METRICS)


def to_read(path: str | os.PathLike[str]) -> pathlib.Path:
    """A path of the file system; of an address, a copy of what lies there.

    Raises:
      OSError: The address cannot be read, or nothing lies there.
    """
    address = os.fspath(path)
    if not is_address(address):
        return pathlib.Path(path)
    if address.endswith(".keras"):  # Its scores lie beside it.
        folder, _, name = address.rpartition("/")
        return _copy_of(folder) / name
    return _copy_of(address.rstrip("/"))


def _copy_of(address: str) -> pathlib.Path:
    """What lies at an address now, but for logs; it goes with the process."""
    storage, folder = _reader(address)
    if not storage.fetch(folder, logs=False):
        raise FileNotFoundError(
            f"Nothing lies at {address}. Give the --run_dir of a run, or correct it."
        )
    return folder


@functools.cache
def _reader(address: str) -> tuple[Storage, pathlib.Path]:
    """One for each address, so that what is here already is not copied again."""
    storage, folder = Storage(address), new_folder()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return storage, folder


def new_folder() -> pathlib.Path:
    """A folder of this machine to work in."""
    return pathlib.Path(tempfile.mkdtemp(prefix="unet-train-"))


class Storage:
    """A run folder at an address.

    A checkpoint there counts from its `state.json` on, and a model from its scores,
    which are copied last and removed first: what is broken off leaves none torn.

    Attributes:
      address: Such as `gs://bucket/run`.
    """

    def __init__(self, address: str) -> None:
        """Looks at nothing yet.

        Raises:
          OSError: The library for such an address is not installed.
        """
        self.address = address
        with self._naming_the_fault("reached"):
            self._files, self._root = fsspec.core.url_to_fs(address)
        self._known: dict[pathlib.PurePosixPath, tuple[int, int]] = {}
        self._fetched: dict[pathlib.PurePosixPath, str] = {}

    def fetch(self, folder: pathlib.Path, *, logs: bool = True) -> int:
        """Copies what lies there, but for checkpoints and models that are not complete.

        Called again, what has changed since, and removes what is gone.

        Args:
          folder: Where to, each time the same.
          logs: Those for TensorBoard too.

        Returns:
          How many files there were.

        Raises:
          OSError: It cannot be read.
        """
        with self._naming_the_fault("read"):
            self._files.invalidate_cache()
            found = {
                pathlib.PurePosixPath(path).relative_to(self._root): str(told)
                for path, told in self._files.find(self._root, detail=True).items()
            }
            torn = _torn(found)
            self._known |= dict.fromkeys(torn, (0, 0))  # `push` removes them.
            wanted = {
                name: told  # Size, time and whatever else changes with it.
                for name, told in found.items()
                if name not in torn and (logs or not name.name.startswith(_LOGS))
            }
            for name in self._fetched.keys() - wanted.keys():
                (folder / name).unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # Unless it was the last there.
                    (folder / name).parent.rmdir()
                del self._fetched[name]
            for name, told in wanted.items():
                if self._fetched.get(name) == told:
                    continue
                file = folder / name
                file.parent.mkdir(parents=True, exist_ok=True)
                self._files.get_file(self._at(name), str(file))
                self._known[name], self._fetched[name] = _stamp(file), told
        return len(found)

    def push(self, folder: pathlib.Path) -> None:
        """Copies what changed since the last time, and removes what is gone.

        What was never copied by this object is left alone.

        Raises:
          OSError: It cannot be written. What is missing comes with the next call.
        """
        found = _stamps(folder)
        changed = [name for name in found if self._known.get(name) != found[name]]
        gone = self._known.keys() - found.keys()
        with self._naming_the_fault("written"):
            for name in sorted(changed, key=_order):
                if not (folder / name).exists():  # An old checkpoint, gone meanwhile.
                    continue
                self._files.makedirs(self._at(name.parent), exist_ok=True)
                self._files.put_file(str(folder / name), self._at(name))
                self._known[name] = found[name]
            for name in sorted(gone, key=_order, reverse=True):
                with contextlib.suppress(FileNotFoundError):
                    self._files.rm_file(self._at(name))
                with contextlib.suppress(OSError):  # Unless it was the last there.
                    self._files.rmdir(self._at(name.parent))
                del self._known[name]

    def _at(self, name: pathlib.PurePosixPath) -> str:
        return f"{self._root}/{name}"

    @contextlib.contextmanager
    def _naming_the_fault(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Each storage's library raises its own.
            raise OSError(
                f"{self.address} cannot be {what}: {type(error).__name__}: {error}. See"
                " to the address, the rights and the network; gs:// needs `pip install"
                " gcsfs`, s3:// needs s3fs."
            ) from error


def _torn(names: Collection[pathlib.PurePosixPath]) -> set[pathlib.PurePosixPath]:
    """Of checkpoints, and models below the folder, what nothing tells of."""
    whole = {name.parent for name in names if name.name in _TELLING}
    whole.add(pathlib.PurePosixPath())
    return {
        name
        for name in names
        if name.parent not in whole and name.name.startswith((TENSORS, MODEL))
    }


def _order(name: pathlib.PurePosixPath) -> tuple[bool, pathlib.PurePosixPath]:
    """In which files are copied, and against which they are removed."""
    return name.name in _TELLING, name


def _stamps(folder: pathlib.Path) -> dict[pathlib.PurePosixPath, tuple[int, int]]:
    """The files of a run, but for those that are not yet whole."""
    found = {}
    for file in sorted(folder.rglob("*")):
        name = pathlib.PurePosixPath(file.relative_to(folder).as_posix())
        if any(part.startswith((".", "partial.")) for part in name.parts):
            continue
        with contextlib.suppress(FileNotFoundError):  # An old checkpoint.
            if file.is_file():
                found[name] = _stamp(file)
    return found


def _stamp(file: pathlib.Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_mtime_ns, status.st_size
