"""Image files: every fault gets an error with file, record and cure."""

import io

import numpy as np
import PIL.Image
import pytest

from coco_cats_tfds import CocoDataError
from coco_cats_tfds.annotations import Image
from coco_cats_tfds.sources import LocalSource


def encoded(height, width, kind="JPEG"):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "train2017"
    folder.mkdir()
    return folder


def read(folder, name="a.jpg", height=20, width=30):
    return LocalSource(folder).read(Image(7, name, height, width))


def test_gives_the_bytes_of_the_file(folder):
    content = encoded(20, 30)
    (folder / "a.jpg").write_bytes(content)
    assert read(folder) == content


def test_missing_folder(tmp_path):
    with pytest.raises(CocoDataError, match="nix does not exist.*extract"):
        LocalSource(tmp_path / "nix")


def test_absent_image(folder):
    with pytest.raises(CocoDataError, match=r"Image 7 is listed but .*a\.jpg.*No such"):
        read(folder)


def test_other_size_than_recorded(folder):
    (folder / "a.jpg").write_bytes(encoded(20, 30))
    with pytest.raises(CocoDataError, match="is 30 x 20 pixels, recorded as 20 x 30"):
        read(folder, height=30, width=20)


def test_not_a_jpeg(folder):
    (folder / "a.jpg").write_bytes(encoded(20, 30, "PNG"))
    with pytest.raises(CocoDataError, match="not a JPEG but PNG"):
        read(folder)


@pytest.mark.parametrize("length", [0, 10, 400])
def test_cut_off_jpeg(folder, length):
    (folder / "a.jpg").write_bytes(encoded(20, 30)[:length])
    with pytest.raises(CocoDataError, match=r"Image 7, .*a\.jpg.*not a JPEG that"):
        read(folder)


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/passwd", "x/../../a.jpg", ""])
def test_names_that_leave_the_folder(folder, name):
    (folder.parent / "secret.jpg").write_bytes(encoded(20, 30))
    with pytest.raises(CocoDataError, match="leaves its folder"):
        read(folder, name)


def test_a_relative_folder(folder, monkeypatch):
    (folder / "a.jpg").write_bytes(encoded(20, 30))
    monkeypatch.chdir(folder)
    assert read(".")
