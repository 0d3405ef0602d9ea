"""Checkpoints are complete or absent."""

import numpy as np
import pytest
import tensorflow as tf

from unet_train.runs.checkpoint import Checkpoints, DamagedError, step_of


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

    monkeypatch.setattr("unet_train.runs.checkpoint._sync", fail)
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


def save(checkpoints, *steps):
    """Checkpoints whose value and note are their step."""
    for step in steps:
        checkpoints.save(step, {"x": tf.Variable(float(step))}, {"note": step})


def tear(path, fault):
    tensors = path / "tensors.data-00000-of-00001"
    if fault == "cut":
        tensors.write_bytes(tensors.read_bytes()[:-1])
    elif fault == "flipped":
        tensors.write_bytes(bytes(255 - byte for byte in tensors.read_bytes()))
    elif fault == "no_data":
        tensors.unlink()
    elif fault == "no_index":
        (path / "tensors.index").unlink()
    elif fault == "no_state":
        (path / "state.json").unlink()
    else:
        (path / "state.json").write_text('{"note"')


FAULTS = ["cut", "flipped", "no_data", "no_index", "no_state", "half_a_state"]


def restore_newest(checkpoints):
    """Value and state after it, and which checkpoints it called damaged."""
    variable, damaged = tf.Variable(0.0), []
    state = checkpoints.restore_newest(
        {"x": variable}, on_damaged=lambda path, _: damaged.append(path.name)
    )
    return float(variable), state, damaged


def test_the_newest_is_restored(checkpoints):
    assert restore_newest(checkpoints) == (0.0, None, [])
    save(checkpoints, 1, 2)
    assert restore_newest(checkpoints) == (2.0, {"note": 2}, [])


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_one_costs_only_itself(checkpoints, fault):
    save(checkpoints, 1, 2)
    tear(checkpoints.latest(), fault)
    assert restore_newest(checkpoints) == (1.0, {"note": 1}, ["step_00000002"])


def test_all_damaged(checkpoints):
    save(checkpoints, 1, 2)
    for path in checkpoints.all():
        tear(path, "cut")
    with pytest.raises(DamagedError, match="step_00000001 is damaged.*Delete this"):
        restore_newest(checkpoints)
    assert names(checkpoints) == ["step_00000001", "step_00000002"]


def test_a_damaged_one_is_set_aside_and_saved_anew(checkpoints):
    for _ in range(2):  # The second time another one lies there.
        save(checkpoints, 1, 2)
        aside = checkpoints.set_aside(checkpoints.latest())
        assert aside.name == "damaged_step_00000002"
        assert aside.is_dir()
        assert names(checkpoints) == ["step_00000001"]
    save(checkpoints, 2, 3)
    assert names(checkpoints) == ["step_00000002", "step_00000003"]
    assert aside.is_dir()


def test_what_a_kill_left_is_ignored_and_removed(checkpoints):
    save(checkpoints, 1, 4)
    for name in (".step_00000006.partial", ".step_00000002.old"):
        folder = checkpoints.directory / name
        folder.mkdir()
        (folder / "tensors.index").write_bytes(b"half")
    assert restore_newest(checkpoints) == (4.0, {"note": 4}, [])
    save(checkpoints, 6)
    left = sorted(path.name for path in checkpoints.directory.iterdir())
    assert left == ["step_00000004", "step_00000006"]
    assert restore_newest(checkpoints) == (6.0, {"note": 6}, [])


def test_a_full_disk_leaves_what_was_there(checkpoints, monkeypatch):
    save(checkpoints, 1, 2)

    def write(self, prefix):
        with open(f"{prefix}.index", "w") as half:
            half.write("half")
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.train.Checkpoint, "write", write)
    with pytest.raises(
        OSError,
        match="step_00000003 cannot be written: No space left on device. Make room",
    ):
        save(checkpoints, 3)
    left = sorted(path.name for path in checkpoints.directory.iterdir())
    assert left == ["step_00000001", "step_00000002"]
    monkeypatch.undo()
    save(checkpoints, 3)
    assert restore_newest(checkpoints) == (3.0, {"note": 3}, [])


def test_a_name_that_is_no_checkpoints(tmp_path):
    with pytest.raises(ValueError, match="expected a name step_<number>"):
        step_of(tmp_path / "damaged_step_1")
