"""Fetching from a real server on loopback that misbehaves in every way we know."""

import contextlib
import hashlib
import io
import json
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from coco_cats_tfds import CocoDataError
from coco_cats_tfds.annotations import Image
from coco_cats_tfds.coco_cats_dataset_builder import Builder, CocoCatsConfig
from coco_cats_tfds.download import CocoDownload
from coco_cats_tfds.fetcher import UnreachableError

ZIP = "annotations/annotations_trainval2017.zip"
FIRST = "train2017/000000000001.jpg"
THIRD = "train2017/000000000003.jpg"


def download(server, folder, **options):
    """Our reader, waiting for nobody: the waits are kept in `waits`."""
    waits = []
    coco = CocoDownload(folder, server.url, sleep=waits.append, **options)
    return coco, waits


def images(*ids):
    return [Image(id, f"{id:012d}.jpg", 20, 30) for id in ids]


def build(server, data_dir, **fields):
    config = CocoCatsConfig(name="net", base_url=server.url, **fields)
    builder = Builder(data_dir=data_dir, config=config)
    builder.download_and_prepare()
    return builder


def test_fetches_the_annotations_and_only_the_images_needed(make_coco, serve, tmp_path):
    server = serve(make_coco())
    builder = build(server, tmp_path / "out")
    assert dict(server.requests) == {
        ZIP: 1,
        FIRST: 1,
        THIRD: 1,
        "val2017/000000000001.jpg": 1,
        "val2017/000000000003.jpg": 1,
    }
    records = builder.as_dataset(
        split="train", decoders={"image": tfds.decode.SkipDecoding()}
    )
    for record in tfds.as_numpy(records):
        name = record["image/filename"].decode()
        assert record["image"] == (server.root / "train2017" / name).read_bytes()


def test_a_trial_fetches_no_more_than_it_takes(make_coco, serve, tmp_path):
    server = serve(make_coco())
    config = CocoCatsConfig(name="net", base_url=server.url)
    Builder(data_dir=tmp_path / "out", config=config).download_and_prepare(
        download_config=tfds.download.DownloadConfig(max_examples_per_split=1)
    )
    assert dict(server.requests) == {ZIP: 1, FIRST: 1, "val2017/000000000001.jpg": 1}


def test_what_was_fetched_serves_other_configurations(make_coco, serve, tmp_path):
    server = serve(make_coco())
    build(server, tmp_path / "out")
    config = CocoCatsConfig(name="pets", base_url=server.url, categories=["cat", "dog"])
    Builder(data_dir=tmp_path / "out", config=config).download_and_prepare()
    assert server.requests.pop("train2017/000000000002.jpg") == 1
    assert set(server.requests.values()) == {1}


@pytest.mark.parametrize("fault", ["drop", "cut", 429, 503, b"<html>busy</html>"])
def test_passing_faults_are_tried_again(make_coco, serve, tmp_path, fault):
    server = serve(make_coco())
    server.faults[FIRST] = [fault]
    server.faults[ZIP] = [fault]
    coco, waits = download(server, tmp_path)
    assert len(coco.index("train2017").images) == 4
    source = coco.source("train2017", images(1, 3))
    for image in images(1, 3):
        expected = server.root / "train2017" / image.file_name
        assert source.read(image) == expected.read_bytes()
    assert server.requests[FIRST] == server.requests[ZIP] == 2
    assert server.requests[THIRD] == 1
    assert waits == [1.0, 1.0]


def test_waits_longer_each_time_and_gives_up(make_coco, serve, tmp_path):
    server = serve(make_coco())
    server.faults[FIRST] = [429] * 9
    coco, waits = download(server, tmp_path)
    with pytest.raises(
        CocoDataError, match=r"Image 1: .*after 8 attempts.*answers 429"
    ):
        coco.source("train2017", images(1, 3))
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0]
    # The one that arrived is kept.
    server.faults.clear()
    coco, _ = download(server, tmp_path)
    coco.source("train2017", images(1, 3))
    assert server.requests[THIRD] == 1


def test_404_names_the_image_and_is_asked_once(make_coco, serve, tmp_path):
    server = serve(make_coco())
    (server.root / "train2017" / "000000000003.jpg").unlink()
    coco, waits = download(server, tmp_path)
    with pytest.raises(CocoDataError, match=r"Image 3: .*0003\.jpg.*answers 404"):
        coco.source("train2017", images(1, 3))
    assert server.requests[THIRD] == 1
    assert not waits


def test_a_404_can_be_omitted_and_is_named(make_coco, serve, tmp_path, capsys):
    server = serve(make_coco())
    (server.root / "train2017" / "000000000003.jpg").unlink()
    builder = build(server, tmp_path / "out", on_invalid="omit")
    assert builder.info.splits["train"].num_examples == 1
    (invalid,) = builder.info.metadata["counts"]["train"]["invalid"]
    assert invalid["image"] == 3
    assert "answers 404" in invalid["fault"]
    assert "answers 404" in capsys.readouterr().out


def test_a_server_that_refuses_is_never_an_omission(make_coco, serve, tmp_path):
    server = serve(make_coco())
    server.faults[THIRD] = [403] * 9
    coco, _ = download(server, tmp_path, omit_absent=True)
    with pytest.raises(CocoDataError, match="Image 3: .*answers 403"):
        coco.source("train2017", images(1, 3))


def cached_file(folder, name):
    """Where the download manager keeps a file, by what it wrote beside it."""
    for info in pathlib.Path(folder).rglob("*.INFO"):
        if json.loads(info.read_text())["urls"][0].endswith(name):
            return info.with_suffix("")
    raise AssertionError(name)


def other_picture():
    stream = io.BytesIO()
    PIL.Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


@pytest.mark.parametrize(
    "damage", ["truncated", "replaced", "emptied", "replaced by one of its size"]
)
def test_a_damaged_file_in_the_cache_is_fetched_again(
    make_coco, serve, tmp_path, damage
):
    server = serve(make_coco())
    coco, _ = download(server, tmp_path)
    coco.source("train2017", images(1, 3))
    path = cached_file(tmp_path, FIRST)
    content = path.read_bytes()
    path.write_bytes(
        {
            "truncated": content[:-50],
            "replaced": other_picture(),
            "emptied": b"",
            "replaced by one of its size": cached_file(tmp_path, THIRD).read_bytes(),
        }[damage]
    )
    coco, _ = download(server, tmp_path)
    source = coco.source("train2017", images(1, 3))
    assert source.read(images(1)[0]) == content
    assert server.requests[FIRST] == 2
    assert server.requests[THIRD] == 1


def test_damaged_annotations_in_the_cache_are_fetched_again(make_coco, serve, tmp_path):
    server = serve(make_coco())
    download(server, tmp_path)[0].index("train2017")
    path = cached_file(tmp_path, ZIP)
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    assert download(server, tmp_path)[0].index("train2017").images
    assert server.requests[ZIP] == 2


def test_wrong_annotations_of_the_server_do_not_stay(make_coco, serve, tmp_path):
    server = serve(make_coco())
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("annotations/captions_train2017.json", "{}")
    server.faults[ZIP] = [stream.getvalue()]
    with pytest.raises(CocoDataError, match="holds no annotations/instances_train"):
        download(server, tmp_path)[0].index("train2017")
    assert download(server, tmp_path)[0].index("train2017").images


def test_a_damaged_record_of_the_cache(make_coco, serve, tmp_path):
    server = serve(make_coco())
    download(server, tmp_path)[0].source("train2017", images(1))
    path = cached_file(tmp_path, FIRST)
    path.with_name(path.name + ".INFO").write_text("")
    download(server, tmp_path)[0].source("train2017", images(1))
    assert server.requests[FIRST] == 2
    download(server, tmp_path)[0].source("train2017", images(1))
    assert server.requests[FIRST] == 2


def test_what_tfds_itself_fetched_is_found(make_coco, serve, tmp_path):
    """As earlier versions of this package did, through its download manager."""
    server = serve(make_coco())
    manager = tfds.download.DownloadManager(
        download_dir=tmp_path, dataset_name="coco_cats"
    )
    path = manager.download(f"{server.url}/{FIRST}")
    coco, _ = download(server, tmp_path)
    source = coco.source("train2017", images(1, 3))
    assert str(source.locate(images(1)[0])) == str(path)
    assert server.requests[FIRST] == 1
    manager = tfds.download.DownloadManager(
        download_dir=tmp_path, dataset_name="coco_cats"
    )
    assert manager.download(f"{server.url}/{THIRD}").exists()
    assert server.requests[THIRD] == 1


def test_two_records_of_one_file(make_coco, serve, tmp_path):
    """It is fetched once; the record that it does not fit is found when drawn."""
    server = serve(make_coco())
    right, wrong = images(1)[0], Image(9, "000000000001.jpg", 21, 30)
    for order in ([right, wrong], [wrong, right]):
        coco, _ = download(server, tmp_path)
        source = coco.source("train2017", order)
        assert source.read(right) == source.read(wrong)
    assert server.requests[FIRST] == 1


def test_a_server_that_stalls(make_coco, serve, tmp_path, monkeypatch):
    monkeypatch.setattr("coco_cats_tfds.fetcher._TIMEOUTS", (0.2, 0.2))
    server = serve(make_coco())
    content = server.content
    server.content = lambda path: time.sleep(2) or content(path)
    coco, waits = download(server, tmp_path, omit_absent=True)
    with pytest.raises(CocoDataError, match="cannot be had after 5 .*timed out"):
        coco.index("train2017")
    assert waits == [1.0, 2.0, 4.0, 8.0]


@pytest.mark.parametrize("part", ["body", "header"])
def test_a_server_that_sends_a_byte_now_and_then(tmp_path, monkeypatch, part):
    """No single byte is late, but all together are."""
    monkeypatch.setattr("coco_cats_tfds.fetcher._PATIENCE", 1.0)
    monkeypatch.setattr("coco_cats_tfds.fetcher._PATIENCE_AT_FIRST", 1.0)
    listener = socket.create_server(("127.0.0.1", 0))

    def trickle():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=send, args=[connection], daemon=True).start()

    def send(connection):
        with contextlib.suppress(OSError):
            if part == "body":
                head = b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n"
                connection.sendall(head)
            else:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Name: ")
            while True:
                connection.sendall(b"x")
                time.sleep(0.1)

    threading.Thread(target=trickle, daemon=True).start()
    coco = CocoDownload(tmp_path, f"http://127.0.0.1:{listener.getsockname()[1]}")
    start = time.monotonic()
    with pytest.raises(UnreachableError, match="next to nothing for 1 s"):
        coco.source("train2017", images(1))
    assert time.monotonic() - start < 10
    listener.close()


def test_nothing_is_left_of_what_did_not_arrive(make_coco, serve, tmp_path):
    server = serve(make_coco())
    server.faults[FIRST] = ["drop"] * 9
    with pytest.raises(CocoDataError, match=r"0001\.jpg cannot be had after 5"):
        download(server, tmp_path / "out")[0].source("train2017", images(1, 3))
    path = cached_file(tmp_path / "out", THIRD)
    assert {each.name for each in (tmp_path / "out").rglob("*") if each.is_file()} == {
        path.name,
        f"{path.name}.INFO",
    }


def test_connections_are_kept(make_coco, serve, tmp_path, monkeypatch):
    server = serve(make_coco(), keep=True)
    monkeypatch.setattr("coco_cats_tfds.fetcher._AT_ONCE", 2)
    coco, _ = download(server, tmp_path)
    names = [f"{id:012d}.jpg" for id in (1, 2, 3, 4)]
    coco.source("train2017", [Image(id, names[id - 1], 20, 30) for id in (1, 2, 3, 4)])
    assert sum(server.requests.values()) == 4
    assert server.connections <= 2


def test_a_server_is_given_the_time_it_asks_for(make_coco, serve, tmp_path):
    server = serve(make_coco())
    server.faults[FIRST] = [429]
    server.headers = {"Retry-After": "7"}
    coco, waits = download(server, tmp_path)
    coco.source("train2017", images(1))
    assert waits == [7.0]


def test_ctrl_c_ends_at_once(make_coco, serve, tmp_path):
    """Also while a thread waits for a server that is silent for a minute."""
    server = serve(make_coco())
    content = server.content
    server.content = lambda path: time.sleep(60) or content(path)
    program = (
        "import signal, sys\n"
        "from coco_cats_tfds.download import CocoDownload\n"
        # Who runs the tests in the background may have it ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try: CocoDownload(sys.argv[1], sys.argv[2]).index('train2017')\n"
        "except KeyboardInterrupt: print('stopped', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "out"), server.url],
        stdout=subprocess.PIPE,
    )
    deadline = time.monotonic() + 120
    while not server.requests[ZIP]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    assert b"stopped\n" in iter(process.stdout.readline, b"")
    assert time.monotonic() - start < 5
    process.wait(timeout=30)  # TensorFlow takes its time to leave a busy machine.
    assert not [each for each in tmp_path.glob("out/**/*") if each.is_file()]


def test_the_checksum_of_cocos_annotations(make_coco, serve, tmp_path, monkeypatch):
    """COCO's own must have it; of a mirror's is said that they are others."""
    server = serve(make_coco())
    monkeypatch.setattr("coco_cats_tfds.download.COCO_ADDRESSES", (server.url,))
    coco, _ = download(server, tmp_path)
    with pytest.raises(
        CocoDataError, match=r"after 5 attempts: its sha256 is \w{64}, "
    ):
        coco.index("train2017")
    digest = hashlib.sha256(server.content(ZIP)).hexdigest()
    monkeypatch.setattr("coco_cats_tfds.download._ANNOTATIONS_SHA256", digest)
    assert len(download(server, tmp_path)[0].index("train2017").images) == 4


def test_the_checksum_of_a_mirrors_annotations(make_coco, serve, tmp_path, capsys):
    download(serve(make_coco()), tmp_path)[0].index("train2017")
    assert "is not COCO's own file; its sha256 is " in capsys.readouterr().out


def test_checksums_that_nobody_publishes(tmp_path):
    with pytest.raises(
        CocoDataError, match="COCO publishes no checksums of its images"
    ):
        Builder(data_dir=tmp_path).download_and_prepare(
            download_config=tfds.download.DownloadConfig(
                force_checksums_validation=True
            )
        )


def test_a_folder_of_other_datasets_is_left_aside(make_coco, serve, tmp_path):
    """TFDS's own default for --manual_dir lies beside the downloads."""
    server = serve(make_coco())
    manual = tmp_path / "out" / "downloads" / "manual"
    (manual / "imagenet").mkdir(parents=True)
    assert build(server, tmp_path / "out").info.splits["train"].num_examples == 2
    assert server.requests[ZIP] == 1


def test_annotations_that_are_no_zip(make_coco, serve, tmp_path):
    server = serve(make_coco())
    server.faults[ZIP] = [b"not here"] * 9
    coco, _ = download(server, tmp_path)
    with pytest.raises(CocoDataError, match=r"annotations_trainval2017.zip cannot be"):
        coco.index("train2017")


def test_no_server(tmp_path, monkeypatch):
    monkeypatch.setattr("coco_cats_tfds.fetcher._FIRST_WAIT", 0.01)
    config = CocoCatsConfig(name="net", base_url="http://127.0.0.1:9")
    with pytest.raises(
        CocoDataError, match=r"127\.0\.0\.1:9/.* cannot be had after 5 .*refused"
    ):
        Builder(data_dir=tmp_path, config=config).download_and_prepare()


def test_names_are_checked_before_anything_is_fetched(make_coco, serve, tmp_path):
    server = serve(make_coco())
    with pytest.raises(CocoDataError, match=r"Unknown category 'kat' .*'cat'"):
        build(server, tmp_path / "out", categories=["kat"])
    with pytest.raises(CocoDataError, match="Unknown category 'teddy'.*'teddy bear'"):
        build(server, tmp_path / "out", negatives=1, negatives_like=["teddy"])
    assert not server.requests


def test_names_of_files_are_quoted(make_coco, serve, tmp_path):
    server = serve(make_coco())
    folder = server.root / "train2017"
    content = (folder / "000000000001.jpg").read_bytes()
    (folder / "Kätzchen #1 ?%20.jpg").write_bytes(content)
    coco, _ = download(server, tmp_path)
    image = Image(9, "Kätzchen #1 ?%20.jpg", 20, 30)
    assert coco.source("train2017", [image]).read(image) == content


def test_names_that_leave_the_folder_are_not_asked_for(make_coco, serve, tmp_path):
    server = serve(make_coco())
    coco, _ = download(server, tmp_path)
    secret = Image(9, "../../secret.jpg", 20, 30)
    with pytest.raises(CocoDataError, match="Image 9: .*leaves"):
        coco.source("train2017", [secret])
    coco, _ = download(server, tmp_path, omit_absent=True)
    source = coco.source("train2017", [secret])
    with pytest.raises(CocoDataError, match="leaves"):
        source.read(secret)
    assert not server.requests


def test_a_killed_download_goes_on(make_coco, serve, tmp_path):
    """`kill -9` between two images; the next build asks only for what is missing."""
    server = serve(make_coco())
    content = server.content

    def slow(path):
        if path == THIRD and server.requests[THIRD] == 1:
            time.sleep(60)  # The process is killed meanwhile.
        return content(path)

    server.content = slow
    program = (
        "from coco_cats_tfds.coco_cats_dataset_builder import *\n"
        f"config = CocoCatsConfig(name='net', base_url={server.url!r})\n"
        f"Builder(data_dir={str(tmp_path / 'out')!r}, config=config)"
        ".download_and_prepare()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 120
    while server.requests[THIRD] < 1 or server.requests[FIRST] < 1:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list((tmp_path / "out").rglob("dataset_info.json"))
    builder = build(server, tmp_path / "out")
    assert builder.info.splits["train"].num_examples == 2
    assert server.requests[ZIP] == server.requests[FIRST] == 1
    assert server.requests[THIRD] == 2
