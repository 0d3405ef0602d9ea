"""Only what is needed of COCO, through TFDS's download manager.

```python
coco = CocoDownload(dl_manager, "http://images.cocodataset.org")
index = coco.index("val2017")  # 241 MB, once
source = coco.source("val2017", images)  # one file an image, several at a time
```

The manager keeps every file that arrived, so an interrupted download goes on where it
stopped. It repeats connections and answers of 500 to 504 by itself; what it lets
through (a body cut off, an answer of 429, bytes that are no image of the recorded size,
a file that was changed since) is tried again here.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import hashlib
import re
import time
import urllib.parse
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import requests
import tensorflow_datasets as tfds
import urllib3
from etils import epath

from coco_cats_tfds.annotations import Image, InstancesIndex
from coco_cats_tfds.errors import CocoDataError
from coco_cats_tfds.inputs import ANNOTATIONS_ZIP, index_from_zip
from coco_cats_tfds.jpeg import check_jpeg
from coco_cats_tfds.sources import FileSource, open_zip, safe_name

COCO_URL = "http://images.cocodataset.org"

_AT_ONCE = 16
_ATTEMPTS = 5
_FIRST_WAIT = 1.0
_TIMEOUTS = (10, 20)  # Seconds without a connection, without a byte.
_PASSING = (408, 425, 429)  # Answers that may be other ones a moment later.
_MAX_FAILURES = 10


class UnreachableError(CocoDataError):
    """The server, rather than one file of it, is at fault."""


class CocoDownload:
    """COCO's annotations and single images from a server with COCO's layout."""

    def __init__(
        self,
        dl_manager: tfds.download.DownloadManager,
        base_url: str = COCO_URL,
        *,
        omit_absent: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Downloads nothing yet.

        Args:
          dl_manager: TFDS's; its folder keeps what was fetched.
          base_url: `<base_url>/annotations/annotations_trainval2017.zip` and
            `<base_url>/train2017/000000000009.jpg` must exist.
          omit_absent: Go on without images that the server lacks or has damaged;
            reading them raises.
          sleep: Waits between attempts.
        """
        self._manager = dl_manager
        self._base = base_url.rstrip("/")
        self._omit_absent = omit_absent
        self._sleep = sleep
        self._annotations: epath.Path | None = None

    def index(self, split: str) -> InstancesIndex:
        """The annotations of `train2017` or `val2017`.

        Raises:
          CocoDataError: They cannot be fetched, or are damaged on the server.
        """
        if self._annotations is None:
            url = f"{self._base}/annotations/{ANNOTATIONS_ZIP}"
            print(f"COCO comes from {self._base} (from a folder with --manual_dir).")
            with _timeouts():
                self._annotations = self._fetch(
                    url, lambda path: open_zip(path).close()
                )
        try:
            return index_from_zip(self._annotations, split)
        except CocoDataError:
            _forget(self._annotations)  # So that the next build fetches it again.
            raise

    def source(self, split: str, images: Iterable[Image]) -> FileSource:
        """Fetches images, several at a time, and checks each.

        Raises:
          CocoDataError: Images cannot be had; the text names them. Those that arrived
            are kept.
        """
        absent: dict[int, str] = {}
        failures: dict[int, str] = {}

        def fail(wanted: Sequence[Image], error: CocoDataError) -> None:
            fatal = isinstance(error, UnreachableError)
            found = absent if self._omit_absent and not fatal else failures
            found.update({each.id: f"Image {each.id}: {error}" for each in wanted})

        by_url: dict[str, list[Image]] = defaultdict(list)
        for image in images:
            try:
                by_url[self._url(split, image)].append(image)
            except CocoDataError as error:
                fail([image], error)
        paths: dict[int, str] = {}
        with (
            _timeouts(),
            _one_progress_bar(len(by_url), f"Fetching {split} images...") as bar,
            concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool,
        ):
            jobs = {
                pool.submit(self._fetch, url, _checker(wanted)): wanted
                for url, wanted in by_url.items()
            }
            try:
                for job in concurrent.futures.as_completed(jobs):
                    try:
                        path = str(job.result())
                        paths.update({each.id: path for each in jobs[job]})
                    except CocoDataError as error:
                        fail(jobs[job], error)
                    bar.update(1)
                    if len(failures) >= _MAX_FAILURES:
                        break
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        if failures:
            raise CocoDataError(
                f"Could not fetch {len(failures)} images of {split}; those that arrived"
                " are kept, and the same command goes on from there. "
                + " ".join(failures[image_id] for image_id in sorted(failures))
            )
        return FileSource(paths, absent=absent)

    def _url(self, split: str, image: Image) -> str:
        name = safe_name(image, f"{self._base}/{split}")
        return f"{self._base}/{split}/{urllib.parse.quote(name)}"

    def _fetch(self, url: str, check: Callable[[epath.Path], None]) -> epath.Path:
        """The file at `url`, from the cache or the net, once `check` passes it."""
        for attempt in range(1, _ATTEMPTS + 1):
            kind: type[CocoDataError] = CocoDataError
            try:
                # A new Resource each time: the manager remembers a failed one.
                resource = tfds.download.Resource(url=url)
                path = self._manager.download(resource)
            except tfds.download.download_manager.NonMatchingChecksumError as error:
                fault, again = f"{error}.", True
            except (tfds.download.DownloadError, requests.RequestException) as error:
                fault, again, kind = _explain(error)
            except ValueError as error:
                folder = self._manager.download_dir
                fault = f"what {folder} records of it is damaged ({error}). Delete it."
                again = False
            else:
                try:
                    _check_unchanged(path)
                    check(path)
                except CocoDataError as error:
                    fault, again = str(error), True
                    _forget(path)
                else:
                    return path
            if not again or attempt == _ATTEMPTS:
                break
            self._sleep(_FIRST_WAIT * 2 ** (attempt - 1))
        times = f" after {attempt} attempts" if attempt > 1 else ""
        raise kind(f"{url} cannot be had{times}: {fault}")


def _checker(images: Sequence[Image]) -> Callable[[epath.Path], None]:
    """Passes a file that fits one of the records that name it.

    Nearly always that is one record. Of two with different sizes, one has to be wrong,
    which is found when it is drawn.
    """

    def check(path: epath.Path) -> None:
        content = path.read_bytes()
        for left, image in reversed(list(enumerate(images))):
            try:
                check_jpeg(content, image, origin=path)
            except CocoDataError:
                if not left:
                    raise
            else:
                return

    return check


def _explain(error: Exception) -> tuple[str, bool, type[CocoDataError]]:
    """What went wrong, whether another attempt may help, and the kind of error."""
    if status := re.search(r"HTTP code: (\d+)", str(error)):
        code = int(status[1])
        if code in (404, 410):
            fault = (
                f"the server answers {code}: it does not have this file. Is the base"
                " address that of a complete copy of COCO 2017?"
            )
            return fault, False, CocoDataError
        return f"the server answers {code}.", code in _PASSING, UnreachableError
    # The manager has made ten attempts at these.
    refused = error.args and isinstance(error.args[0], urllib3.exceptions.MaxRetryError)
    return f"{error}.", not refused, UnreachableError


def _check_unchanged(path: epath.Path) -> None:
    """Compares a file of the cache with the hash that the manager took when it came."""
    info = tfds.download.resource.read_info_file(path)
    recorded = info.get("url_info", {}).get("checksum")
    if recorded != hashlib.sha256(path.read_bytes()).hexdigest():
        raise CocoDataError(f"{path} has changed since it was fetched.")


def _forget(path: epath.Path) -> None:
    """Takes a file out of the manager's cache."""
    path.unlink(missing_ok=True)
    epath.Path(f"{path}.INFO").unlink(missing_ok=True)


@contextlib.contextmanager
def _timeouts() -> Iterator[None]:
    """Makes the manager's requests end; it sets no timeout and offers no option."""
    request = requests.Session.request
    requests.Session.request = functools.partialmethod(request, timeout=_TIMEOUTS)
    try:
        yield
    finally:
        requests.Session.request = request


@contextlib.contextmanager
def _one_progress_bar(total: int, title: str) -> Iterator[Any]:
    """TFDS's bar for all downloads together, in place of one for each."""
    with tfds.core.utils.tqdm(total=total, desc=title, unit=" images") as bar:
        shown = not isinstance(bar, tfds.core.utils.tqdm_utils.EmptyTqdm)
        tfds.display_progress_bar(enable=False)
        try:
            yield bar
        finally:
            tfds.display_progress_bar(enable=shown)
