"""A run whose machine is taken away, or that somebody stops with Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pytest

from unet_core import UNetConfig, build_unet
from unet_train import Callback, SegmentationTask, Trainer
from unet_train.training.signals import Interrupted, StopOnSignal

# So many steps would take minutes, and nothing else ends a round.
LONG = {
    "steps_per_loop": 100_000, "checkpoint_every_steps": 100_000,
    "deterministic": True,
}  # fmt: skip


def wait_for_line(process, text):
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(process.stderr.read()[-3000:])


def finish(process, code=0):
    """What a process wrote until its end."""
    output, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors[-3000:]
    return output


def costs_in(records):
    return [cost for record in records for cost in record.get("loss", [])]


def weights_in(folder):
    return keras.saving.load_model(folder / "model.keras").get_weights()


def test_sigterm_ends_a_round_after_its_step_and_nothing_is_lost(
    start, records_of, tmp_path
):
    task = {"ema": 0.9, "clip_norm": 1.0, "learning_rate": 0.01}
    groups = {"task": task, "model": {"base_filters": 8}}
    trainer = {**LONG, "max_steps": 100_000}
    process = start("run", announce=30, trainer=trainer, **groups)
    wait_for_line(process, "about to do step 30")
    process.send_signal(signal.SIGTERM)
    output = finish(process, code=3)

    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    step = int(checkpoint.name.removeprefix("step_"))
    assert 30 <= step < 100_000
    assert output.splitlines()[-1] == (
        f"stopped by SIGTERM after step {step}, which is saved; --resume goes on from"
        " there"
    )
    assert not (tmp_path / "run" / "model.keras").exists()

    trainer["max_steps"] = step + 5
    groups = {"announce": 30, "trainer": trainer, **groups}
    second = costs_in(records_of("run", resume=True, **groups))
    records = [json.loads(line) for line in output.splitlines() if line[:1] == "{"]
    assert costs_in(records) + second == costs_in(records_of("whole", **groups))
    for one, other in zip(
        weights_in(tmp_path / "run"), weights_in(tmp_path / "whole"), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_the_command_says_by_its_exit_code_what_stopped_it(
    tmp_path, data_dir, number, code
):
    progress = {
        "class_path": "unet_train.callbacks.Progress",
        "init_args": {"every_seconds": 0.001},
    }
    program = "import sys; from unet_train.cli import main; sys.exit(main())"
    arguments = [
        f"--run_dir={tmp_path / 'run'}", "--data.name=discs",
        f"--data.data_dir={data_dir}", "--data.tile_size=30", "--data.batch_size=2",
        "--model.depth=1", "--model.base_filters=2", "--trainer.max_steps=1000000",
        f"--callbacks={json.dumps([progress])}",
    ]  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-c", program, "fit", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            wait_for_line(process, "step ")
            process.send_signal(number)
            _, errors = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == code
    (checkpoint,) = (tmp_path / "run" / "checkpoints").glob("step_*")
    step = int(checkpoint.name.removeprefix("step_"))
    assert f"unet-train: stopped by {number.name} after step {step}, which" in errors


class At(Callback):
    """Gets a signal in a hook; notes what is called after it."""

    def __init__(self, hook, step, number=signal.SIGTERM):
        self.at, self.number, self.called = (hook, step), number, []

    def on_fit_start(self, run):
        self._call("on_fit_start", run)

    def on_loop_end(self, run, logs):
        self._call("on_loop_end", run)

    def on_eval_end(self, run, metrics):
        self._call("on_eval_end", run)

    def on_checkpoint(self, run, path):
        self._call("on_checkpoint", run)

    def _call(self, hook, run):
        self.called.append((hook, run.step))
        if self.called[-1] == self.at:
            signal.raise_signal(self.number)


@pytest.fixture
def fit(tmp_path, make_task, make_data):
    def fit(callback, **options):
        options = {"max_steps": 8, "steps_per_loop": 4, **options}
        trainer = Trainer(tmp_path, callbacks=[callback], **options)
        return trainer.fit(make_task(), make_data(), resume=True)

    return fit


def test_a_signal_comes_before_a_validation_which_the_resumed_run_does(fit):
    callback = At("on_loop_end", 4, signal.SIGINT)
    with pytest.raises(
        Interrupted, match="stopped by SIGINT after step 4, which is saved"
    ) as caught:
        fit(callback, eval_every_steps=4)
    assert caught.value.signal == signal.SIGINT
    assert callback.called[1:] == [("on_loop_end", 4), ("on_checkpoint", 4)]
    callback = At(None, None)
    fit(callback, eval_every_steps=4)
    assert callback.called == [
        ("on_fit_start", 4),
        ("on_eval_end", 4),
        ("on_loop_end", 8),
        ("on_checkpoint", 8),
        ("on_eval_end", 8),
    ]


def test_a_signal_before_the_first_step_costs_one_step(fit):
    callback = At("on_fit_start", 0)
    with pytest.raises(Interrupted, match="after step 1, which is saved"):
        fit(callback, max_steps=400, steps_per_loop=400)
    assert callback.called[:2] == [("on_fit_start", 0), ("on_loop_end", 1)]


def test_a_signal_during_a_validation_is_heeded_after_it(fit):
    callback = At("on_eval_end", 4)
    with pytest.raises(Interrupted, match="after step 4, which is saved"):
        fit(callback, eval_every_steps=4)
    assert callback.called[-1] == ("on_checkpoint", 4)


class Watched(SegmentationTask):
    """Gets a signal while it scores the first image after some step."""

    from_step = 0
    scored = 0

    def make_predictor(self, **options):
        predictor = super().make_predictor(**options)
        predict = predictor.many

        def many(photos):
            self.scored += len(photos)
            if int(self.optimizer.iterations) == self.from_step:
                signal.raise_signal(signal.SIGTERM)
            return predict(photos)

        predictor.many = many
        return predictor


@pytest.mark.parametrize("step", [4, 8])
def test_a_signal_breaks_off_a_validation_which_the_resumed_run_does(
    tmp_path, make_data, step
):
    def fit(from_step):
        task = Watched(build_unet(UNetConfig(depth=1, base_filters=2)))
        task.from_step = from_step
        callback = At(None, None)
        options = {"max_steps": 8, "steps_per_loop": 4, "eval_every_steps": 4}
        trainer = Trainer(tmp_path, callbacks=[callback], **options)
        try:
            trainer.fit(task, make_data(), resume=True)
        finally:
            evaluated = [at for hook, at in callback.called if hook == "on_eval_end"]
        return task.scored, evaluated

    with pytest.raises(Interrupted, match=f"after step {step}, which is saved"):
        fit(from_step=step)
    assert not (tmp_path / "metrics.json").exists()
    scored, evaluated = fit(from_step=-1)
    assert evaluated == ([4, 8] if step == 4 else [8])
    assert scored == 3 * len(evaluated)


def test_a_signal_breaks_off_the_choice_of_the_threshold(tmp_path, make_data):
    task = Watched(build_unet(UNetConfig(depth=1, base_filters=2)))
    task.from_step = 2
    with pytest.raises(Interrupted, match="after step 2, which is saved"):
        Trainer(tmp_path, max_steps=2).fit(task, make_data(holdout=0.6))
    assert task.scored <= 2  # Of four held-out images; the next was begun.
    assert task.threshold == 0.5
    task = Watched(build_unet(UNetConfig(depth=1, base_filters=2)))
    task.from_step = -1
    data = make_data(holdout=0.6)
    scores = Trainer(tmp_path, max_steps=2).fit(task, data, resume=True)
    assert task.scored == 4 + 3
    assert scores["threshold"] == task.threshold


def test_a_signal_to_another_machine_counts_as_its_end():
    error = Interrupted(7, None)
    assert error.signal == signal.SIGTERM
    assert "stopped by another machine after step 7" in str(error)


def state_of_process():
    wakeup_fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup_fd)
    return [
        signal.getsignal(signal.SIGINT),
        signal.getsignal(signal.SIGTERM),
        wakeup_fd,
    ]


@pytest.fixture
def state():
    """The handlers of the process, of which one is the caller's own."""
    kept = signal.signal(signal.SIGTERM, lambda number, frame: None)
    yield state_of_process()
    signal.signal(signal.SIGTERM, kept)


def wait_until(is_true, seconds=30):
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_notes_the_signal_and_tells_the_loop(state, number):
    with StopOnSignal() as stop:
        assert stop.received is None
        assert not stop.variable.numpy()
        os.kill(os.getpid(), number)
        wait_until(lambda: stop.received is not None)
        assert stop.received == number
        wait_until(stop.variable.numpy)


def test_other_signals_are_not_its_business(state):
    kept = signal.signal(signal.SIGUSR1, lambda number, frame: None)
    try:
        with StopOnSignal() as stop:
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGTERM)
            wait_until(stop.variable.numpy)
            assert stop.received == signal.SIGTERM
        with StopOnSignal() as stop:
            signal.raise_signal(signal.SIGUSR1)
            assert stop.received is None
    finally:
        signal.signal(signal.SIGUSR1, kept)


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_interrupts_at_once(state, second):
    with StopOnSignal() as stop:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(second)
        assert stop.received == signal.SIGINT
    assert state_of_process() == state


@pytest.mark.parametrize("error", [None, KeyError, KeyboardInterrupt])
def test_handlers_are_given_back(state, error):
    try:
        with StopOnSignal():
            assert state_of_process()[0] != state[0]
            assert state_of_process()[2] != state[2]
            if error is not None:
                raise error
    except (KeyError, KeyboardInterrupt):
        pass
    assert state_of_process() == state


def test_a_run_gives_the_handlers_back(state, fit):
    with pytest.raises(Interrupted):
        fit(At("on_loop_end", 4))
    assert state_of_process() == state
    fit(At(None, None))
    assert state_of_process() == state


def test_outside_of_the_main_thread_nothing_is_caught(state, fit):
    seen = []

    class Look(Callback):
        def on_loop_end(self, run, logs):
            seen.append(
                [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]
            )

    def work():
        seen.append(fit(Look())["images"])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [state[:2], state[:2], 3]
