"""Checkpoints are complete or absent."""

import numpy as np
import pytest
import tensorflow as tf

from unet_train.checkpoint import Checkpoints, step_of


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "checkpoints", keep=2)


def names(checkpoints):
    return [path.name for path in checkpoints.all()]


def test_gives_back_what_it_took(checkpoints):
    path = checkpoints.save(7, {"x": tf.Variable([1.0, 2.0])}, {"note": "ä"})
    assert step_of(path) == 7
    variable = tf.Variable([0.0, 0.0])
    assert checkpoints.restore(path, {"x": variable}) == {"note": "ä"}
    np.testing.assert_array_equal(variable, [1, 2])


def test_keeps_the_newest(checkpoints):
    for step in (5, 90, 100):
        checkpoints.save(step, {"x": tf.Variable(0.0)}, {})
    assert names(checkpoints) == ["step_00000090", "step_00000100"]
    assert step_of(checkpoints.latest()) == 100


def test_none_at_first(checkpoints):
    assert checkpoints.latest() is None


def test_an_interrupted_write_does_not_count(checkpoints, monkeypatch):
    checkpoints.save(1, {"x": tf.Variable(1.0)}, {})

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("unet_train.checkpoint._sync", fail)
    with pytest.raises(OSError, match="disk full"):
        checkpoints.save(2, {"x": tf.Variable(2.0)}, {})
    assert names(checkpoints) == ["step_00000001"]
    monkeypatch.undo()
    checkpoints.save(2, {"x": tf.Variable(2.0)}, {})
    assert names(checkpoints) == ["step_00000001", "step_00000002"]


def test_checkpoint_of_another_model_is_refused(checkpoints, make_task):
    path = checkpoints.save(1, {"model": make_task().model}, {})
    other = make_task({"base_filters": 6}).model
    with pytest.raises(ValueError, match="does not fit the model"):
        checkpoints.restore(path, {"model": other})
