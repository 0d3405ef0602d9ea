"""A COCO folder of four images, small enough to check by hand, and its server."""

from __future__ import annotations

import collections
import http.server
import io
import json
import os
import pathlib
import signal
import threading
import urllib.parse
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import PIL.Image
import pytest

CATEGORIES = [
    {"id": 17, "name": "cat", "supercategory": "animal"},
    {"id": 18, "name": "dog", "supercategory": "animal"},
    {"id": 88, "name": "teddy bear", "supercategory": "indoor"},
]
SQUARE = [[2.0, 2.0, 8.0, 2.0, 8.0, 8.0, 2.0, 8.0]]


def annotation(
    id: int, image_id: int, category_id: int, **fields: Any
) -> dict[str, Any]:
    return {
        "id": id,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": SQUARE,
        "iscrowd": 0,
        **fields,
    }


def write_split(root: pathlib.Path, split: str, **fields: Any) -> None:
    """Images 1 (cat), 2 (dog), 3 (cat and dog), 4 (nothing), each 20 x 30."""
    images = [
        {"id": id, "file_name": f"{id:012d}.jpg", "height": 20, "width": 30}
        for id in (1, 2, 3, 4)
    ]
    content = {
        "images": images,
        "annotations": [
            annotation(10, 1, 17),
            annotation(11, 2, 18),
            annotation(12, 3, 17),
            annotation(13, 3, 18),
        ],
        "categories": CATEGORIES,
        **fields,
    }
    folder = root / split
    folder.mkdir(parents=True)
    for image in images:
        pixels = np.random.default_rng(image["id"]).integers(0, 256, (20, 30, 3))
        PIL.Image.fromarray(pixels.astype(np.uint8)).save(folder / image["file_name"])
    path = root / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def make_coco(tmp_path: pathlib.Path) -> Callable[..., pathlib.Path]:
    """Writes the folder; keywords replace parts of the training split's JSON."""

    def make(**fields: Any) -> pathlib.Path:
        root = tmp_path / "coco"
        write_split(root, "train2017", **fields)
        write_split(root, "val2017")
        return root

    return make


@pytest.fixture
def rewrite() -> Callable[..., None]:
    """Changes training records on disk behind TFDS's back."""

    def write(out: pathlib.Path, change: Callable[[list[Any]], list[Any]]) -> None:
        import tensorflow as tf

        (path,) = out.rglob("*train.tfrecord*")
        raw = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
        records = change([tf.train.Example.FromString(each) for each in raw])
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in records:
                writer.write(record.SerializeToString())

    return write


@pytest.fixture
def rewrite_maps(rewrite: Callable[..., None]) -> Callable[..., None]:
    """Changes the map of labels or of instances in each training record."""

    def write(
        out: pathlib.Path,
        feature: str,
        change: Callable[[np.ndarray], np.ndarray],
        dtype: str = "uint8",
    ) -> None:
        import tensorflow as tf

        def change_all(records: list[Any]) -> list[Any]:
            for record in records:
                cell = record.features.feature[feature].bytes_list
                labels = tf.io.decode_png(cell.value[0], dtype=dtype).numpy()
                cell.value[0] = tf.io.encode_png(change(labels)).numpy()
            return records

        rewrite(out, change_all)

    return write


class CocoServer:
    """Serves a COCO folder as images.cocodataset.org does, with faults on demand.

    Attributes:
      url: The base address.
      faults: By path, what becomes of its next requests, one after another: a status
        to answer with, "drop" (the connection ends in the middle of the body), "cut"
        (half a body, and nothing says so) or other bytes to send.
      requests: How often each path was asked for.
      headers: Sent with answers that are no 200.
      connections: How many were made.
    """

    def __init__(self, root: pathlib.Path, *, keep: bool = False) -> None:
        self.root = root
        self.keep = keep
        self.headers: dict[str, str] = {}
        self.connections = 0
        self.faults: dict[str, list[Any]] = collections.defaultdict(list)
        self.requests: collections.Counter[str] = collections.Counter()
        self._server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), self._handler()
        )
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def content(self, path: str) -> bytes | None:
        if path == "annotations/annotations_trainval2017.zip":
            stream = io.BytesIO()
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
                for file in sorted((self.root / "annotations").iterdir()):
                    archive.write(file, f"annotations/{file.name}")
            return stream.getvalue()
        file = self.root / path
        return file.read_bytes() if file.is_file() else None

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1" if owner.keep else "HTTP/1.0"

            def setup(self) -> None:
                owner.connections += 1
                super().setup()

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                path = urllib.parse.unquote(self.path).lstrip("/")
                owner.requests[path] += 1
                fault = owner.faults[path].pop(0) if owner.faults[path] else None
                body = owner.content(path)
                if isinstance(fault, bytes):
                    fault, body = None, fault
                if isinstance(fault, int) or body is None:
                    self.send_response(fault or 404)
                    self.send_header("Content-Length", "0")
                    for name, value in owner.headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    return
                self.send_response(200)
                if fault != "cut":
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if fault else body)

        return Handler


@pytest.fixture
def serve() -> Iterator[Callable[[pathlib.Path], CocoServer]]:
    """Starts servers of COCO folders, on loopback."""
    servers = []

    def start(root: pathlib.Path, **options: Any) -> CocoServer:
        servers.append(CocoServer(root, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def no_hang() -> Iterator[None]:
    """Fails a test that waits for what never comes."""

    def fail(*_: Any) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def test_data() -> pathlib.Path:
    """The folder with real photographs; tests that need it skip without it."""
    folder = os.environ.get("COCO_CATS_TEST_DATA")
    if not folder:
        pytest.skip("set COCO_CATS_TEST_DATA to the folder with coco_real/ to run this")
    return pathlib.Path(folder)
