"""What a run takes back of a checkpoint, and what it does where it cannot."""

import errno
import json
import shutil

import pytest
import tensorflow as tf

from unet_train import Callback, Trainer
from unet_train.callbacks import EarlyStopping
from unet_train.runs.load import load_model


class BegunError(Exception):
    """A run was prepared, and would go on from this step."""


class Stop(Callback):
    def on_fit_start(self, run):
        raise BegunError(run.step)


@pytest.fixture
def fit(tmp_path, make_task, make_data):
    """Trains to a step."""

    def fit(max_steps, *callbacks):
        trainer = Trainer(
            tmp_path, callbacks=callbacks, max_steps=max_steps, checkpoint_every_steps=2
        )
        trainer.fit(make_task(), make_data(), resume=True)

    return fit


@pytest.fixture
def begin(fit):
    """Prepares to go on; the step from which it would."""

    def begin(*callbacks):
        with pytest.raises(BegunError) as begun:
            fit(100, *callbacks, Stop())
        return begun.value.args[0]

    return begin


def change_state(run_dir, step, function):
    """As version 0.1.0 would have written it: without a checksum."""
    path = run_dir / "checkpoints" / f"step_{step:08d}" / "state.json"
    state = json.loads(path.read_text())
    state.pop("checksum", None)
    function(state)
    path.write_text(json.dumps(state))


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_state_of_another_shape_is_damage(fit, begin, tmp_path):
    fit(4)
    whole = tmp_path / "checkpoints" / "step_00000004"
    damaged = whole.with_name(f"damaged_{whole.name}")
    shutil.copytree(whole, tmp_path / "kept")
    wrong = {
        "step": "4", "evaluated_step": 0.5, "seconds": None, "seconds_a_step": True,
        "task": [], "callbacks": "none",
    }  # fmt: skip
    for key, value in wrong.items():
        change_state(tmp_path, 4, lambda state, new={key: value}: state.update(new))
        assert begin() == 2
        assert damaged.is_dir()
        shutil.copytree(tmp_path / "kept", whole)
    assert begin() == 4
    change_state(tmp_path, 4, lambda state: state.pop("callbacks"))
    assert begin() == 2
    fit(4)
    assert whole.is_dir()


def test_a_fault_of_the_machine_changes_no_file(fit, begin, tmp_path, monkeypatch):
    fit(4)
    before = contents(tmp_path)

    def read(self, prefix):
        raise tf.errors.OpError(None, None, f"{prefix}.index; Permission denied", 2)

    monkeypatch.setattr(tf.train.Checkpoint, "read", read)
    told = (
        "step_00000004 cannot be read: .*tensors.index; Permission denied.* try again"
    )
    with pytest.raises(OSError, match=told):
        fit(6)
    assert contents(tmp_path) == before
    monkeypatch.undo()
    assert begin() == 4


def test_nothing_is_set_aside_before_all_is_taken_back(
    fit, begin, tmp_path, monkeypatch
):
    fit(6)
    state = tmp_path / "checkpoints" / "step_00000006" / "state.json"
    state.write_text("{")
    before, honest = contents(tmp_path), tf.train.Checkpoint.read

    def read(self, prefix):
        if "step_00000004" in prefix:
            raise OSError(errno.EIO, "Input/output error", prefix)
        return honest(self, prefix)

    monkeypatch.setattr(tf.train.Checkpoint, "read", read)
    with pytest.raises(OSError, match="step_00000004 cannot be read: .*Input/output"):
        fit(8)
    assert contents(tmp_path) == before
    monkeypatch.undo()
    assert begin() == 4


def test_a_state_that_does_not_fit_the_callback(fit, begin, tmp_path):
    name = "unet_train.callbacks.early_stopping.EarlyStopping"
    fit(2, EarlyStopping())
    for state in ({"best": 0.5}, [0.5]):
        change_state(
            tmp_path, 2, lambda all, new=state: all["callbacks"].update({name: new})
        )
        before = contents(tmp_path)
        told = f"state of the callback {name} in the checkpoint does not fit.*left out"
        with pytest.raises(ValueError, match=told):
            fit(4, EarlyStopping())
        assert contents(tmp_path) == before
    assert begin() == 2  # The cure.


def test_a_state_that_does_not_fit_the_task(fit, tmp_path):
    fit(2)
    change_state(tmp_path, 2, lambda all: all.update(task={"threshold": "high"}))
    with pytest.raises(
        ValueError, match="state of the task in the checkpoint does not"
    ):
        fit(4)
    (tmp_path / "model.keras").unlink()
    with pytest.raises(ValueError, match="step 2 in .* does not tell the threshold"):
        load_model(tmp_path)
