"""What a run takes back of a checkpoint, and what it does where it cannot."""

import errno
import json
import shutil
import threading
import time

import pytest
import tensorflow as tf

from unet_train import Callback, Trainer
from unet_train.callbacks import EarlyStopping
from unet_train.runs import checkpoint
from unet_train.runs.checkpoint import Checkpoints
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
            tmp_path, callbacks=callbacks, max_steps=max_steps,
            checkpoint_every_steps=2, steps_per_loop=1,
        )  # fmt: skip
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


class Rounds(Callback):
    """Tells at which step is trained, and of which checkpoints it was told when."""

    def __init__(self, fails_at=None):
        self.fails_at = fails_at
        self.step, self.saved, self.has_come = 0, [], threading.Condition()

    def on_loop_end(self, run, logs):
        if run.step == self.fails_at:
            raise BegunError(run.step)
        self.go_on_to(run.step)

    def on_exception(self, run, error):
        self.go_on_to(100)

    def go_on_to(self, step):
        with self.has_come:
            self.step = step
            self.has_come.notify_all()

    def on_checkpoint(self, run, path):
        self.saved.append((path.name, run.step))

    def wait_for(self, step):
        with self.has_come:
            return self.has_come.wait_for(lambda: self.step >= step, timeout=60)


@pytest.fixture
def slow_disk(monkeypatch):
    """Has the first checkpoint get to the disk when training is at some step."""

    def slow_disk(rounds, step, error=None):
        honest, was_waited = checkpoint._sync, []

        def sync(path):
            if not was_waited:
                was_waited.append(rounds.wait_for(step))
                time.sleep(0.2)
                if error is not None:
                    raise error
            honest(path)

        monkeypatch.setattr(checkpoint, "_sync", sync)
        return was_waited

    return slow_disk


def test_training_goes_on_while_a_checkpoint_is_written(
    fit, tmp_path, make_task, make_data, slow_disk
):
    rounds = Rounds()
    was_waited = slow_disk(rounds, 5)
    trainer = Trainer(
        tmp_path, callbacks=[rounds], max_steps=7, checkpoint_every_steps=4,
        steps_per_loop=1, keep_checkpoints=2,
    )  # fmt: skip
    task = make_task()
    trainer.fit(task, make_data())
    assert was_waited == [True]
    (first, at), last = rounds.saved
    assert first == "step_00000004"
    assert at >= 5
    assert last == ("step_00000007", 7)
    # What is in it is of its step, whatever was trained meanwhile.
    variables = task.tracked()
    (tmp_path / "checkpoints" / "step_00000007").rename(tmp_path / "last")
    state = Checkpoints(tmp_path / "checkpoints", keep=1).restore_newest(variables)
    assert state["step"] == 4
    assert int(task.optimizer.iterations) == 4


def test_one_checkpoint_waits_for_the_one_before(fit, tmp_path, slow_disk):
    """At step 4 the one of step 2, which a hook lets go, is not there yet."""
    rounds = Rounds()
    slow_disk(rounds, 4)
    fit(6, rounds)
    assert [name for name, _ in rounds.saved] == [
        "step_00000002", "step_00000004", "step_00000006",
    ]  # fmt: skip
    assert dict(rounds.saved)["step_00000002"] > 2
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == [name for name, _ in rounds.saved]


def test_a_disk_that_fails_later_costs_only_this_checkpoint(
    fit, tmp_path, slow_disk, caplog
):
    rounds = Rounds()
    slow_disk(rounds, 3, OSError(errno.ENOSPC, "No space left on device"))
    fit(6, rounds)
    assert "step_00000002 cannot be written: No space left" in caplog.text
    assert "Training goes on without it." in caplog.text
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step_00000004", "step_00000006"]


def test_a_disk_that_fails_at_the_last_checkpoint(fit, monkeypatch, caplog):
    honest = checkpoint._sync

    def sync(path):
        if "step_00000004" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        honest(path)

    monkeypatch.setattr(checkpoint, "_sync", sync)
    with pytest.raises(OSError, match="lacks the last checkpoint.*No space left"):
        fit(4)
    assert "Training goes on" not in caplog.text


def test_a_run_that_ends_by_an_error_has_its_checkpoint(fit, tmp_path, slow_disk):
    rounds = Rounds(fails_at=4)
    slow_disk(rounds, 100)
    with pytest.raises(BegunError):
        fit(6, rounds)
    (path,) = (tmp_path / "checkpoints").iterdir()
    assert path.name == "step_00000002"
