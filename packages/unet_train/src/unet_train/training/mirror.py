"""A run whose folder is an address: copied there while it goes on.

```python
folder, mirrors = working_folder("gs://cats/runs/1")  # The callback that copies.
```
"""

from __future__ import annotations

import atexit
import concurrent.futures
import logging
import os
import pathlib
import shutil

from unet_train.runs.folder import is_address
from unet_train.runs.remote import Storage, new_folder
from unet_train.training.callback import Callback
from unet_train.training.run import Run

_LOG = logging.getLogger("unet_train")


def working_folder(
    run_dir: str | os.PathLike[str],
) -> tuple[pathlib.Path, list[Callback]]:
    """Where a run works, and what copies that to its address if it has one.

    Raises:
      OSError: The address cannot be read.
    """
    if not is_address(run_dir):
        return pathlib.Path(run_dir), []
    storage, folder = Storage(os.fspath(run_dir)), new_folder()
    storage.fetch(folder)
    return folder, [Mirror(storage, folder)]


class Mirror(Callback):
    """Copies a run's folder to an address: at the start, each checkpoint and the end.

    In a thread, for which training waits at the end only. What cannot be copied before
    that is copied with what comes later.
    """

    def __init__(self, storage: Storage, folder: pathlib.Path) -> None:
        """Copies nothing yet.

        Args:
          storage: Where to.
          folder: Where the run works; it goes with the process when all was copied.
        """
        self._storage = storage
        self._folder = folder
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "mirror")
        self._copying: concurrent.futures.Future[None] | None = None
        # Of several machines only the first calls callbacks: the others hold a copy.
        self._is_needed = False
        atexit.register(self._forget)

    def on_fit_start(self, run: Run) -> None:
        """Has the configuration copied."""
        self._is_needed = True
        self._begin()

    def on_checkpoint(self, run: Run, path: pathlib.Path) -> None:
        """Has it copied, and all else that is new."""
        self._begin()

    def on_exception(self, run: Run, error: BaseException) -> None:
        """Copies what there is; a fault is only told, beside the error."""
        try:
            self._finish()
        except OSError as fault:
            _LOG.warning("%s", fault)

    def on_fit_end(self, run: Run) -> None:
        """Copies what is missing.

        Raises:
          OSError: It cannot be copied.
        """
        self._finish()

    def _begin(self) -> None:
        if self._copying is not None:
            if not self._copying.done():
                return  # The next time takes this with it.
            try:
                self._copying.result()
            except OSError as error:
                _LOG.warning("%s Training goes on; it is tried again.", error)
        self._copying = self._thread.submit(self._storage.push, self._folder)

    def _finish(self) -> None:
        try:
            self._thread.submit(self._storage.push, self._folder).result()
        except OSError as error:
            raise OSError(
                f"{error} The run lies in {self._folder}; copy that folder to"
                f" {self._storage.address}, or go on with it there (--run_dir"
                f" {self._folder} --resume)."
            ) from error
        self._is_needed = False

    def _forget(self) -> None:
        if not self._is_needed:
            shutil.rmtree(self._folder, ignore_errors=True)
