"""Records read at their places: the same, and no others."""

import dataclasses
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from unet_train.data import stream
from unet_train.data.offsets import record_offsets
from unet_train.data.records import Records
from unet_train.data.share import Share

FEATURES = ["image", "segmentation_mask"]
SPLITS = ["train", "all", "validation+train[5:-60]", "train[50:]+train[:70]"]


@pytest.fixture
def read_places(monkeypatch):
    """The places of the records that are read in training."""
    seen = []
    reader = Records.reader

    def noting(self, split):
        read = reader(self, split)

        def note(place):
            seen.append(int(place))
            return place

        return lambda place: read(
            tf.ensure_shape(tf.numpy_function(note, [place], tf.int64), [])
        )

    monkeypatch.setattr(Records, "reader", noting)
    return seen


@pytest.fixture
def one_after_the_other(monkeypatch):
    """As if files could not be read at a place."""

    def switch():
        monkeypatch.setattr(Records, "reader", lambda self, split: None)

    return switch


def test_where_records_begin(tmp_path):
    path = str(tmp_path / "file.tfrecord")
    contents = [b"", b"one", b"x" * 70_000, b"last"]
    with tf.io.TFRecordWriter(path) as writer:
        for content in contents:
            writer.write(content)
    offsets = record_offsets(path)
    np.testing.assert_array_equal(offsets, [0, 16, 35, 70_051])
    (tmp_path / "empty").write_bytes(b"")
    assert record_offsets(str(tmp_path / "empty")).tolist() == []
    whole = (tmp_path / "file.tfrecord").read_bytes()
    for length, number in ((len(whole) - 1, 4), (70_051 + 5, 4), (40, 3)):
        (tmp_path / "torn").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=f"torn ends within its record {number}"):
            record_offsets(str(tmp_path / "torn"))


@pytest.mark.parametrize("split", SPLITS)
def test_a_record_at_its_place(shards_dir, split):
    records = Records("shards", str(shards_dir), FEATURES)
    read = records.reader(split)
    stored = list(records.read(split).as_numpy_iterator())
    for place in (0, 1, 17, 300, len(stored) - 1):
        found = read(tf.constant(place, tf.int64))
        assert {name: each.numpy() for name, each in found.items()} == stored[place]


def test_a_file_that_is_not_as_long_as_the_dataset_says(shards_dir, monkeypatch):
    records = Records("shards", str(shards_dir), FEATURES)
    path = next(iter(records._counts))
    monkeypatch.setitem(records._counts, path, 99)
    with pytest.raises(ValueError, match=r"holds 35 records, and .* built with 99"):
        records.reader("train")


def test_files_that_lie_elsewhere_are_read_one_after_the_other(shards_dir):
    records = Records("shards", str(shards_dir), FEATURES)
    info = records._builder.info.splits["train"]
    elsewhere = [
        dataclasses.replace(each, filename=f"gs://bucket/{each.filename}")
        for each in info.file_instructions
    ]
    records._files |= {each.filename: 0 for each in elsewhere}

    class Splits(dict):
        def __missing__(self, name):
            info = {"file_instructions": elsewhere, "num_examples": 1}
            return type("Info", (), info)

    class Info:
        splits = Splits()
        file_format = records._builder.info.file_format

    records._builder = type("Builder", (), {"info": Info})
    assert records.reader("train") is None


def batches_of(data, start, count, **options):
    found = data.train_batches(margin=0, seed=5, start_step=start, **options)
    return list(found.take(count).as_numpy_iterator())


@pytest.mark.parametrize("options", [{}, {"copy_paste": 1.0}, {"shuffle_buffer": 50}])
def test_the_batches_are_those_of_reading_one_after_the_other(
    make_shards, one_after_the_other, options
):
    asked = [(0, 3), (170, 3), (174, 4)]
    at_places = [batches_of(make_shards(**options), *each) for each in asked]
    one_after_the_other()
    for found, each in zip(at_places, asked, strict=True):
        expected = batches_of(make_shards(**options), *each)
        for one, other in zip(found, expected, strict=True):
            for part, same in zip(one, other, strict=True):
                np.testing.assert_array_equal(part, same)


def test_of_two_datasets_as_well(make_both, one_after_the_other):
    found = batches_of(make_both(copy_paste=0.5), 3, 6)
    one_after_the_other()
    expected = batches_of(make_both(copy_paste=0.5), 3, 6)
    for one, other in zip(found, expected, strict=True):
        for part, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, same)


@pytest.mark.parametrize("start", [0, 150])
def test_no_more_records_are_read_than_are_made_ready(make_shards, read_places, start):
    data = make_shards()
    batches_of(data, start, 1)
    # Of 665 images in a buffer of 8,192; some batches are fetched ahead.
    assert 4 <= len(read_places) <= 120


def test_each_machine_reads_its_own_records(make_shards, read_places):
    seen = []
    for worker in (0, 1):
        read_places.clear()
        batches_of(make_shards(), 0, 5, share=Share(workers=2, worker=worker))
        seen.append(list(read_places))
    # Two of each batch of four; some batches are fetched ahead.
    (stream,) = make_shards()._tiles(5, None, None).streams
    order = np.array([place for _, place in stream._places(0, 400)]).reshape(-1, 2, 2)
    for worker, places in enumerate(seen):
        assert len(places) >= 10
        assert set(places) <= set(order[:, worker].ravel().tolist())
        assert set(order[:5, worker].ravel().tolist()) <= set(places)


@pytest.mark.parametrize("deterministic", [False, True])
def test_tiles_are_made_at_once_and_ahead(make_shards, monkeypatch, deterministic):
    """TensorFlow takes care of determinism by doing one thing after the other."""
    if deterministic:
        tf.keras.utils.set_random_seed(0)
        tf.config.experimental.enable_op_determinism()
    lock, now, most, made = threading.Lock(), [0], [0], [0]

    def slow(pixels):
        with lock:
            now[0] += 1
            most[0] = max(*most, *now)
        time.sleep(0.02)
        with lock:
            now[0] -= 1
            made[0] += 1
        return pixels

    honest = stream.cut_tile

    def cut_tile(*arguments, **options):
        pixels, drawn = honest(*arguments, **options)
        slowly = tf.numpy_function(slow, [pixels], tf.int32, stateful=False)
        return tf.ensure_shape(slowly, pixels.shape), drawn

    monkeypatch.setattr(stream, "cut_tile", cut_tile)
    batches = iter(make_shards().train_batches(margin=0, seed=0, finished=False))
    for _ in range(20):
        next(batches)
    assert most[0] >= 2
    deadline = time.monotonic() + 20
    while made[0] <= 80 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert made[0] > 80  # Of batches that nobody asked for yet.
