"""Event files of a run that was killed: after the resume every step is there once."""

import collections
import os
import time

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.proto import event_pb2

from unet_train import Callback, Trainer
from unet_train.callbacks import TensorBoard
from unet_train.writers import TensorBoardWriter
from unet_train.writers.events import drop_events_after


def files_in(folder):
    return sorted(folder.glob("events.out.tfevents.*"))


def steps_in(folder):
    """The steps under each tag, over all files, by TensorBoard's own reader."""
    steps = collections.defaultdict(list)
    for path in files_in(folder):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                steps[value.tag].append(event.step)
    return steps


def write(folder, steps, tag="cost"):
    writer = TensorBoardWriter(folder)
    for step in steps:
        writer.scalars(step, {tag: float(step)})
    writer.close()
    return files_in(folder)[-1]


@pytest.mark.parametrize(
    ("last", "kept"), [(0, 0), (1, 1), (6, 6), (9, 9), (10, 10), (99, 10)]
)
def test_drops_what_is_later(tmp_path, last, kept):
    write(tmp_path, range(1, 11))
    drop_events_after(tmp_path, last)
    assert steps_in(tmp_path)["cost"] == list(range(1, kept + 1))


def test_the_values_stay(tmp_path):
    write(tmp_path, range(1, 11))
    drop_events_after(tmp_path, 3)
    (path,) = files_in(tmp_path)
    values = [
        tf.make_ndarray(event.summary.value[0].tensor)
        for event in EventFileLoader(str(path)).Load()
        if event.summary.value
    ]
    assert values == [1, 2, 3]


def test_what_is_of_no_step_stays(tmp_path, make_task):
    """The graph and the version of the file, without which nobody reads it."""
    writer = TensorBoardWriter(tmp_path)
    writer.graph(make_task().model)
    writer.scalars(5, {"cost": 1.0})
    writer.close()
    drop_events_after(tmp_path, 1)
    (path,) = files_in(tmp_path)
    events = [
        event_pb2.Event.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(str(path))
    ]
    assert [event.WhichOneof("what") for event in events] == [
        "file_version",
        "graph_def",
    ]


@pytest.mark.parametrize("step", [10, 11])
def test_without_anything_to_drop_no_file_is_touched(tmp_path, step):
    write(tmp_path, range(1, 11))
    (path,) = files_in(tmp_path)
    before = path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns
    drop_events_after(tmp_path, step)
    assert (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns) == before
    assert list(tmp_path.iterdir()) == [path]


def test_only_files_with_something_to_drop_are_rewritten(tmp_path):
    first = write(tmp_path, [1, 2])
    first = first.rename(tmp_path / "events.out.tfevents.1.first")
    inode = first.stat().st_ino
    write(tmp_path, [3, 4])
    drop_events_after(tmp_path, 3)
    assert first.stat().st_ino == inode
    assert steps_in(tmp_path)["cost"] == [1, 2, 3]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("lost", [1, 4, 5, 20])
def test_a_torn_record_is_dropped(tmp_path, lost):
    path = write(tmp_path, range(1, 11))
    path.write_bytes(path.read_bytes()[:-lost])
    drop_events_after(tmp_path, 99)
    assert steps_in(tmp_path)["cost"] == list(range(1, 10))
    # The file is whole again, so a second time changes nothing.
    inode = path.stat().st_ino
    drop_events_after(tmp_path, 99)
    assert path.stat().st_ino == inode


@pytest.mark.parametrize("content", [b"", b"\x18\x00\x00"])
def test_a_file_that_was_hardly_begun(tmp_path, content):
    write(tmp_path, [1, 2])
    (tmp_path / "events.out.tfevents.9.begun").write_bytes(content)
    drop_events_after(tmp_path, 1)
    assert steps_in(tmp_path)["cost"] == [1]


def test_an_empty_folder(tmp_path):
    drop_events_after(tmp_path / "none", 3)
    assert list(tmp_path.iterdir()) == []


def save(folder, step, *, age=-1.0):
    """A checkpoint that was written so many seconds ago."""
    state = folder / "checkpoints" / f"step_{step:08d}" / "state.json"
    state.parent.mkdir(parents=True)
    state.write_text("{}")
    os.utime(state, (time.time() - age, time.time() - age))


@pytest.fixture
def read(monkeypatch):
    """The event files that are read from their beginning."""
    names = []
    dataset = tf.data.TFRecordDataset

    def noted(path):
        names.append(path.rpartition("/")[2])
        return dataset(path)

    monkeypatch.setattr(tf.data, "TFRecordDataset", noted)
    return names


def test_what_ended_before_the_checkpoint_is_not_read(tmp_path, read):
    first = write(tmp_path, range(1, 5))
    first = first.rename(tmp_path / "events.out.tfevents.1.first")
    second = write(tmp_path, range(5, 9))
    save(tmp_path, 6)
    drop_events_after(tmp_path, 6)
    assert read == [second.name]
    assert steps_in(tmp_path)["cost"] == [1, 2, 3, 4, 5, 6]
    drop_events_after(tmp_path, 6)
    assert read == [second.name]


@pytest.mark.parametrize("side", [1, 300, 900])
def test_nor_what_ended_with_a_picture(tmp_path, read, side):
    picture = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), np.uint8)
    writer = TensorBoardWriter(tmp_path)
    writer.scalars(5, {"cost": 1.0})
    writer.images(5, {"picture": picture})
    writer.close()
    save(tmp_path, 5)
    drop_events_after(tmp_path, 5)
    assert read == []


def test_a_checkpoint_whose_time_was_lost_in_a_copy(tmp_path):
    write(tmp_path, range(1, 11))
    save(tmp_path, 4, age=-1000)
    drop_events_after(tmp_path, 4)
    assert steps_in(tmp_path)["cost"] == [1, 2, 3, 4]


def test_a_file_that_ends_with_an_earlier_step(tmp_path):
    """It was written to after the checkpoint, and so may tell of later steps."""
    save(tmp_path, 4, age=100)
    write(tmp_path, [*range(1, 11), 0])
    drop_events_after(tmp_path, 4)
    assert steps_in(tmp_path)["cost"] == [1, 2, 3, 4, 0]


@pytest.mark.parametrize(
    ("harm", "left"),
    [(lambda data: data[:-5], 10), (lambda data: data + bytes(64), 11)],
    ids=["cut", "zeros"],
)
def test_a_torn_end_is_seen_before_the_checkpoint_too(tmp_path, harm, left):
    """As a kill leaves it, and as a power failure may."""
    path = write(tmp_path, range(1, 11))
    path.write_bytes(harm(path.read_bytes()))
    save(tmp_path, 99)
    drop_events_after(tmp_path, 99)
    # The version of the file, and the steps.
    assert len(list(tf.data.TFRecordDataset(str(path)))) == left


class Killed(BaseException):
    """Stands for a kill."""


class KillAt(Callback):
    def __init__(self, step):
        self.step = step

    def on_loop_end(self, run, logs):
        if run.step == self.step:
            raise Killed


def test_a_resumed_run_shows_every_step_once(tmp_path, make_task, make_data):
    options = {
        "steps_per_loop": 1, "checkpoint_every_steps": 4, "eval_every_steps": 3,
        "limit_eval": 1,
    }  # fmt: skip

    def fit(max_steps, *callbacks):
        board = TensorBoard(images_every_steps=2, histograms_every_steps=2)
        callbacks = [board, *callbacks]
        trainer = Trainer(tmp_path, max_steps=max_steps, callbacks=callbacks, **options)
        trainer.fit(make_task(), make_data(), resume=True)

    with pytest.raises(Killed):
        fit(20, KillAt(7))
    (path,) = files_in(tmp_path)
    assert steps_in(tmp_path)["cost"] == [1, 2, 3, 4, 5, 6, 7]
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(Killed):
        fit(20, KillAt(10))  # From step 4, and beyond the checkpoint of step 8.
    fit(12)
    steps = steps_in(tmp_path)
    for tag in ("cost", "learning_rate", "gradient_norm", "input_wait"):
        assert sorted(steps[tag]) == list(range(1, 13))
    assert sorted(steps["images_a_second"]) == list(range(1, 13))
    for tag in ("validation/iou", "validation/pr/pr_curves"):
        assert sorted(steps[tag]) == [3, 6, 9, 12]
    assert sorted(steps["config"]) == [0, 4, 8]
    assert len(files_in(tmp_path)) == 3
