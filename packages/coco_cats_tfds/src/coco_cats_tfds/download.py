"""Only what is needed of COCO, from its server or a mirror.

```python
coco = CocoDownload("OUT/downloads", "http://images.cocodataset.org")
index = coco.index("val2017")  # 241 MB, once
source = coco.source("val2017", images)  # one file an image, several at a time
```

Every file that arrived is kept, so an interrupted download goes on where it stopped.
A file is kept once it is whole and what its record says; what is not (a body cut off,
bytes that are no image of the recorded size, a file that was changed since) is fetched
again.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import urllib.parse
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import tensorflow_datasets as tfds
from etils import epath

from coco_cats_tfds.annotations import COCO_ADDRESSES, Image, InstancesIndex
from coco_cats_tfds.cache import Cache
from coco_cats_tfds.errors import CocoDataError
from coco_cats_tfds.fetcher import Fetcher, UnreachableError
from coco_cats_tfds.inputs import ANNOTATIONS_ZIP, index_from_zip, instances_from_zip
from coco_cats_tfds.jpeg import check_jpeg
from coco_cats_tfds.sources import FileSource, safe_name

COCO_URL = "http://images.cocodataset.org"

_ANNOTATIONS_SHA256 = "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268"
_MAX_FAILURES = 10

_T = TypeVar("_T")


class CocoDownload:
    """COCO's annotations and single images from a server with COCO's layout.

    Attributes:
      cache: The files that were fetched.
    """

    def __init__(
        self,
        download_dir: str | os.PathLike[str],
        base_url: str = COCO_URL,
        *,
        omit_absent: bool = False,
        force: bool = False,
        verify_ssl: bool = True,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        """Downloads nothing yet.

        Args:
          download_dir: Keeps what was fetched, as TFDS's download manager does.
          base_url: `<base_url>/annotations/annotations_trainval2017.zip` and
            `<base_url>/train2017/000000000009.jpg` must exist.
          omit_absent: Go on without images that the server lacks or has damaged;
            reading them raises.
          force: Fetch also what is there.
          verify_ssl: Whether a server of https:// must prove who it is.
          sleep: Waits between attempts.
        """
        self.cache = Cache(download_dir)
        self._base = base_url.rstrip("/")
        self._omit_absent = omit_absent
        self._force = force
        self._fetcher = functools.partial(Fetcher, verify_ssl=verify_ssl, sleep=sleep)
        self._annotations: epath.Path | None = None

    def index(self, split: str) -> InstancesIndex:
        """The annotations of `train2017` or `val2017`.

        Raises:
          CocoDataError: They cannot be fetched, or are damaged on the server.
        """
        return self._from_annotations(index_from_zip, split)

    def instances(self, split: str) -> dict[str, Any]:
        """The same as plain JSON; errors as there."""
        return self._from_annotations(instances_from_zip, split)

    def _from_annotations(
        self, read: Callable[[epath.Path, str], _T], split: str
    ) -> _T:
        if self._annotations is None:
            print(f"COCO comes from {self._base} (from a folder with --manual_dir).")
            self._annotations = self._fetch_annotations()
        try:
            return read(self._annotations, split)
        except CocoDataError:
            self.cache.forget(self._annotations)  # The next build fetches it again.
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

        def fetch(fetcher: Fetcher, url: str) -> epath.Path:
            check = functools.partial(_check_image, images=by_url[url])
            return self._have(fetcher, url, check)

        title = f"Fetching {split} images..."
        with (
            tfds.core.utils.tqdm(total=len(by_url), desc=title, unit=" images") as bar,
            self._fetcher() as fetcher,
        ):
            for url, result in fetcher.each(by_url, fetch):
                if isinstance(result, CocoDataError):
                    fail(by_url[url], result)
                else:
                    paths.update({each.id: str(result) for each in by_url[url]})
                bar.update(1)
                if len(failures) >= _MAX_FAILURES:
                    break
        if failures:
            raise CocoDataError(
                f"Could not fetch {len(failures)} images of {split}; those that arrived"
                " are kept, and the same command goes on from there. "
                + " ".join(failures[image_id] for image_id in sorted(failures))
            )
        return FileSource(paths, absent=absent)

    def is_fetched(self, split: str, image: Image) -> bool:
        """Whether an image is there already, unchanged."""
        try:
            return self.cache.find(self._url(split, image)) is not None
        except CocoDataError:
            return False  # It has no address.

    def _fetch_annotations(self) -> epath.Path:
        def fetch(fetcher: Fetcher, url: str) -> epath.Path:
            return self._have(fetcher, url, self._check_annotations, checksum)

        url = f"{self._base}/annotations/{ANNOTATIONS_ZIP}"
        checksum = _ANNOTATIONS_SHA256 if self._is_cocos else None
        with (
            tfds.core.utils.tqdm(desc="Fetching annotations...", unit=" MB") as bar,
            self._fetcher(tick=lambda count: bar.update(count / 1e6)) as fetcher,
        ):
            ((_, result),) = fetcher.each([url], fetch)
        if isinstance(result, CocoDataError):
            raise result
        if not self._is_cocos:
            digest = self.cache.used[url].checksum
            if digest != _ANNOTATIONS_SHA256:
                print(f"noticed: {url} is not COCO's own file; its sha256 is {digest}")
        return result

    @property
    def _is_cocos(self) -> bool:
        return f"{self._base}/".startswith(COCO_ADDRESSES)

    def _check_annotations(self, content: bytes) -> None:
        digest = hashlib.sha256(content).hexdigest()
        if self._is_cocos and digest != _ANNOTATIONS_SHA256:
            raise CocoDataError(f"its sha256 is {digest}, not that of COCO's file.")
        try:
            zipfile.ZipFile(io.BytesIO(content)).close()
        except Exception as error:  # A damaged zip makes it raise many kinds.
            raise CocoDataError(f"it is no zip: {error}.") from error

    def _url(self, split: str, image: Image) -> str:
        name = safe_name(image, f"{self._base}/{split}")
        return f"{self._base}/{split}/{urllib.parse.quote(name)}"

    def _have(
        self,
        fetcher: Fetcher,
        url: str,
        check: Callable[[bytes], None],
        checksum: str | None = None,
    ) -> epath.Path:
        """The file at `url`, from the cache or the net, once `check` passes it."""
        if not self._force and (path := self.cache.find(url, checksum=checksum)):
            try:
                check(path.read_bytes())
            except CocoDataError:
                self.cache.forget(path)
            else:
                return path
        return self.cache.keep(url, fetcher.get(url, check), checksum=checksum)


def _check_image(content: bytes, *, images: Sequence[Image]) -> None:
    """Passes a file that fits one of the records that name it.

    Nearly always that is one record. Of two with different sizes, one has to be wrong,
    which is found when it is drawn.
    """
    for left, image in reversed(list(enumerate(images))):
        try:
            check_jpeg(content, image, origin="as it arrived")
        except CocoDataError:
            if not left:
                raise
        else:
            return
