"""The embedded sample: what it writes, and that it is what `make_sample` draws."""

import json
import pathlib
import zipfile

import numpy as np
import PIL.Image
import pytest

import coco_cats_tfds
from coco_cats_tfds.sample import write_sample
from make_sample import __main__ as maker
from make_sample.dataset import draw_sample

SAMPLE = pathlib.Path(coco_cats_tfds.__file__).with_name("sample.zip")
SPLITS = {"train2017": 64, "val2017": 16}


def read_tree(directory):
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def read_instances(directory, split):
    path = directory / "annotations" / f"instances_{split}.json"
    return json.loads(path.read_bytes())


# --- The zip -------------------------------------------------------------------------


@pytest.mark.parametrize("cups", [False, True])
def test_the_whole_sample_is_what_make_sample_draws(tmp_path, cups):
    """In labels to the byte; in pixels but for what JPEG's coders round differently."""
    write_sample(tmp_path / "written", cups=cups)
    draw_sample(tmp_path / "drawn", cups=cups)
    written, drawn = read_tree(tmp_path / "written"), read_tree(tmp_path / "drawn")
    assert list(written) == list(drawn)
    for name, content in written.items():
        if name.endswith(".json"):
            assert content == drawn[name]
        else:
            pair = [tmp_path / which / name for which in ("written", "drawn")]
            one, other = (np.asarray(PIL.Image.open(file), int) for file in pair)
            assert np.abs(one - other).mean() < 0.1


def test_the_zip_is_made_equal_to_the_byte(tmp_path, monkeypatch):
    """Of the pictures it is drawn from, whatever the day and the machine's folders."""

    def give(directory, cups=False):
        write_sample(directory, cups=cups)

    monkeypatch.setattr(maker, "draw_sample", give)
    monkeypatch.setattr(maker, "TARGET", tmp_path / "again.zip")
    maker.main()
    assert (tmp_path / "again.zip").read_bytes() == SAMPLE.read_bytes()


def test_the_zip_names_its_license():
    with zipfile.ZipFile(SAMPLE) as archive:
        assert "CC0" in archive.read("ORIGIN.txt").decode()


# --- What is written -----------------------------------------------------------------


@pytest.mark.parametrize("cups", [False, True])
def test_fewer_images_are_the_first(tmp_path, cups):
    write_sample(tmp_path / "all", cups=cups)
    write_sample(tmp_path / "few", train=7, validation=2, cups=cups)
    for split, count in {"train2017": 7, "val2017": 2}.items():
        every = read_instances(tmp_path / "all", split)
        few = read_instances(tmp_path / "few", split)
        assert len(every["images"]) == SPLITS[split]
        assert few["images"] == every["images"][:count]
        ids = {image["id"] for image in few["images"]}
        own = [each for each in every["annotations"] if each["image_id"] in ids]
        assert few["annotations"] == own
        assert 0 < len(own) < len(every["annotations"])
        names = {image["file_name"] for image in few["images"]}
        assert {path.name for path in (tmp_path / "few" / split).iterdir()} == names
        for name in names:
            assert (tmp_path / "few" / split / name).read_bytes() == (
                tmp_path / "all" / split / name
            ).read_bytes()


@pytest.mark.parametrize(("cups", "classes"), [(False, 1), (True, 2)])
def test_cups_are_a_second_class(tmp_path, cups, classes):
    write_sample(tmp_path / "coco", cups=cups)
    annotations = read_instances(tmp_path / "coco", "val2017")["annotations"]
    assert len({each["category_id"] for each in annotations}) == classes


def test_directory_in_use_is_refused_and_unchanged(tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("keep me")
    before = read_tree(tmp_path)
    with pytest.raises(FileExistsError, match=r"used is not empty.*choose another"):
        write_sample(tmp_path / "used")
    assert read_tree(tmp_path) == before


def test_file_as_target_is_refused(tmp_path):
    (tmp_path / "file").write_text("keep me")
    with pytest.raises(FileExistsError, match="file is no directory"):
        write_sample(tmp_path / "file")


def test_empty_directory_is_filled(tmp_path):
    (tmp_path / "empty").mkdir()
    write_sample(str(tmp_path / "empty"), train=1, validation=1)
    assert len(read_tree(tmp_path / "empty")) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    write, written = pathlib.Path.write_bytes, []

    def interrupt(path, content):
        written.append(path)
        if len(written) == 7:
            raise KeyboardInterrupt
        return write(path, content)

    monkeypatch.setattr(pathlib.Path, "write_bytes", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_sample(tmp_path / "coco")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": 0}, "train=0: the sample has 1 to 64 such"),
        ({"train": 65}, "train=65: the sample has 1 to 64 such"),
        ({"validation": -1}, "validation=-1: the sample has 1 to 16 such"),
        ({"validation": 17}, "validation=17: the sample has 1 to 16 such"),
    ],
)
def test_bad_numbers_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_sample(tmp_path / "coco", **arguments)
    assert list(tmp_path.iterdir()) == []
