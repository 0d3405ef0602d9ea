"""Datasets at an address, on fsspec's storage in memory."""

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from unet_train import SegmentationData, Trainer

OPTIONS = {"tile_size": 30, "batch_size": 2, "holdout": 0}


@pytest.fixture
def address(data_dir, tmp_path, monkeypatch):
    """Where the discs lie, and beside them what nobody asked for."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files = fsspec.filesystem("memory")
    files.put(str(data_dir), "/bucket/tfds", recursive=True)
    files.pipe_file("/bucket/tfds/others/1.0.0/large", b"0" * 1000)
    yield "memory://bucket/tfds"
    files.rm("/bucket", recursive=True)


@pytest.fixture
def copied(monkeypatch):
    """The names of the files that are copied from the storage."""
    seen, honest = [], MemoryFileSystem.get_file

    def get_file(self, path, *arguments, **options):
        seen.append(path.rpartition("/")[2])
        return honest(self, path, *arguments, **options)

    monkeypatch.setattr(MemoryFileSystem, "get_file", get_file)
    return seen


def test_it_is_copied_once_and_trained_on(
    address, copied, data_dir, tmp_path, make_task
):
    data = SegmentationData("discs", data_dir=address, **OPTIONS)
    assert len(copied) == len([each for each in data_dir.rglob("*") if each.is_file()])
    assert "large" not in copied
    here = SegmentationData("discs", data_dir=str(data_dir), **OPTIONS)
    for one, other in zip(
        data.train_batches(margin=2, seed=0).take(3),
        here.train_batches(margin=2, seed=0).take(3),
        strict=True,
    ):
        np.testing.assert_array_equal(one[0], other[0])
    # A run remembers the address, and not where the copy lies.
    Trainer(tmp_path / "run", max_steps=1).fit(make_task(), data)
    assert f"data_dir: {address}" in (tmp_path / "run" / "config.yaml").read_text()
    count = len(copied)
    SegmentationData("discs", data_dir=address, **OPTIONS)
    assert len(copied) == count


def test_what_has_another_size_is_copied_again(address, copied, tmp_path):
    SegmentationData("discs", data_dir=address, **OPTIONS)
    (file,) = (tmp_path / "cache").rglob("*train*tfrecord*")
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    copied.clear()
    SegmentationData("discs", data_dir=address, **OPTIONS)
    assert copied == [file.name]
    assert file.read_bytes() == whole


def test_what_is_broken_off_leaves_nothing(address, tmp_path, monkeypatch):
    def get_file(self, path, target, **options):
        with open(target, "wb") as file:
            file.write(b"half")
        raise ConnectionError("gone")

    monkeypatch.setattr(MemoryFileSystem, "get_file", get_file)
    fault = r"memory://bucket/tfds cannot be read: ConnectionError: gone\. See to"
    with pytest.raises(ValueError, match=fault):
        SegmentationData("discs", data_dir=address, **OPTIONS)
    assert not [each for each in (tmp_path / "cache").rglob("*") if each.is_file()]


def test_a_folder_by_its_address(data_dir):
    data = SegmentationData("discs", data_dir=f"file://{data_dir}", **OPTIONS)
    assert data.datasets["discs"].training_reader is not None


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        (
            "memory://nowhere/tfds",
            "The dataset 'discs' was not built in|finds no dataset",
        ),
        (
            "cloudy://bucket",
            r"cloudy://bucket cannot be read: ValueError: Protocol not",
        ),
    ],
)
def test_where_nothing_is(address, fault, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match=fault):
        SegmentationData("discs", data_dir=address, **OPTIONS)
