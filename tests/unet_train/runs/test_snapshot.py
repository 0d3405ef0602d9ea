"""Copies of variables that are written while the variables change."""

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from unet_core import UNetConfig, build_unet
from unet_train.runs.checkpoint import Checkpoints
from unet_train.runs.snapshot import Snapshot


@pytest.fixture
def objects():
    config = UNetConfig(depth=1, base_filters=2, norm="batch", dropout=0.5)
    model = build_unet(config)
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    averages = [tf.Variable(weight) for weight in model.weights]
    return {"model": model, "optimizer": optimizer, "averages": averages}


def read(prefix):
    reader = tf.train.load_checkpoint(str(prefix))
    return {
        name: reader.get_tensor(name) for name in reader.get_variable_to_dtype_map()
    }


def test_is_what_tensorflow_writes(objects, tmp_path):
    tf.train.Checkpoint(**objects).write(str(tmp_path / "tensorflow"))
    Snapshot(objects).write(str(tmp_path / "ours"))
    theirs, ours = read(tmp_path / "tensorflow"), read(tmp_path / "ours")
    for written in (theirs, ours):
        del written["_CHECKPOINTABLE_OBJECT_GRAPH"]  # It numbers nodes in its own way.
    assert len(theirs) > 50
    assert theirs.keys() == ours.keys()
    for name, value in theirs.items():
        np.testing.assert_array_equal(value, ours[name], strict=True)
    status = tf.train.Checkpoint(**objects).read(str(tmp_path / "ours"))
    status.assert_existing_objects_matched().assert_consumed()


def test_changes_while_it_is_written_are_not_in_it(objects, tmp_path, monkeypatch):
    first, goes_on = objects["averages"][0], threading.Event()
    before = first.numpy()
    honest = Snapshot.write

    def write(self, prefix):
        assert goes_on.wait(60)
        honest(self, prefix)

    monkeypatch.setattr(Snapshot, "write", write)
    checkpoints = Checkpoints(tmp_path, keep=1)
    state = {"note": 1}
    written = checkpoints.begin(1, objects, state)
    assert not checkpoints.all()
    state["note"] = 2
    for variable in (*objects["averages"], *objects["model"].weights):
        variable.assign(tf.ones(variable.shape))
    goes_on.set()
    assert checkpoints.restore(written.result(60), objects) == {"note": 1}
    np.testing.assert_array_equal(first.numpy(), before)


def test_refuses_what_is_no_variable(objects):
    table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, 0)
    with pytest.raises(TypeError, match="keeps variables, and .*MutableHashTable"):
        Snapshot({**objects, "table": table})
