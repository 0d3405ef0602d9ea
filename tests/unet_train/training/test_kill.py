"""Runs that are killed at any moment and resumed equal the unbroken one to the bit."""

import json
import random
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from unet_core import UNetConfig, build_unet
from unet_train import Callback, SegmentationData, SegmentationTask, Trainer
from unet_train.callbacks import BestModels
from unet_train.registry import find_object
from unet_train.runs.checkpoint import Checkpoints, step_of
from unet_train.runs.load import load_model

KILLS = 3

# All that a step can do and a checkpoint has to keep.
GROUPS = {
    "model": {"dropout": 0.2},
    "task": {
        "clip_norm": 0.5, "ema": 0.9, "weight_decay": 0.01, "learning_rate": 0.01,
    },
    "data": {"scale_jitter": 0.2, "color_jitter": 0.2},
}  # fmt: skip
AUGMENTED = {
    **GROUPS["data"], "rotation": 10.0, "elastic": 1.0, "blur": 0.5, "cutout": 0.2,
}  # fmt: skip
TRAINER = {
    "deterministic": True, "steps_per_loop": 3, "checkpoint_every_steps": 4,
    "eval_every_steps": 6, "limit_eval": 2,
}  # fmt: skip


def records_in(output):
    """What a process reported, but for a line that the kill tore."""
    return [json.loads(line) for line in output.splitlines(True) if line[-2:] == "}\n"]


def costs_in(records):
    """Pairs of step and cost."""
    for record in records:
        if "loss" in record:
            losses = record["loss"]
            yield from enumerate(losses, record["step"] - len(losses) + 1)


def ious_in(records):
    return [(each["step"], each["iou"]) for each in records if "iou" in each]


def tensors_in(checkpoint):
    reader = tf.train.load_checkpoint(str(checkpoint / "tensors"))
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if not name.startswith("_")  # How they hang together.
    }


def assert_same_weights(*paths):
    one, other = (keras.saving.load_model(path).get_weights() for path in paths)
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first, second)


def assert_same_runs(one, other):
    """What two runs left: model, averages, optimizer, and the best model."""
    assert_same_weights(one / "model.keras", other / "model.keras")
    first, second = (
        tensors_in(Checkpoints(run / "checkpoints", keep=1).latest())
        for run in (one, other)
    )
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    best, same = (list((run / "best").iterdir()) for run in (one, other))
    assert [path.name for path in best] == [path.name for path in same]
    assert_same_weights(best[0] / "model.keras", same[0] / "model.keras")


@pytest.mark.parametrize(("scheme", "longest"), [("", 0.7), ("file://", 2.5)])
def test_killed_at_random_moments(start, records_of, tmp_path, scheme, longest):
    """In steps, in the writing of checkpoints and models, in validations.

    At an address also while these are copied there.
    How long after its first report a process is killed is drawn from a seed.
    """
    draw, groups = random.Random(8), {**GROUPS, "data": AUGMENTED}

    def complete():  # At an address one is copied file by file.
        found = Checkpoints(tmp_path / "killed" / "checkpoints", keep=3).all()
        return [path for path in found if (path / "state.json").exists()]

    reported, kills = [], 0
    while kills < KILLS or not complete():
        kills += 1
        assert kills < 4 * KILLS, "no checkpoint was ever completed"
        trainer = {**TRAINER, "max_steps": 100_000}
        process = start(f"{scheme}killed", resume=True, trainer=trainer, **groups)
        first_line = process.stdout.readline()
        assert first_line, process.stderr.read()[-3000:]
        time.sleep(draw.uniform(0, longest))
        process.kill()
        reported += records_in(first_line + process.stdout.read())
        if complete():
            load_model(f"{scheme}{tmp_path / 'killed'}")  # Whatever the moment was.
        else:
            longest *= 1.5  # A slow machine.
    last = step_of(complete()[-1]) + 5
    trainer = {**TRAINER, "max_steps": last}
    process = start(f"{scheme}killed", resume=True, trainer=trainer, **groups)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]
    reported += records_in(output)

    unbroken = records_of("whole", trainer=trainer, **groups)
    costs, ious = dict(costs_in(unbroken)), dict(ious_in(unbroken))
    assert list(costs) == list(range(1, last + 1))
    again = [(step, cost) for step, cost in costs_in(reported) if step <= last]
    assert {step for step, _ in again} == set(costs)
    assert all(cost == costs[step] for step, cost in again)
    # The last validation is of all images.
    validated = [(step, iou) for step, iou in ious_in(reported) if step < last]
    assert all(iou == ious[step] for step, iou in validated)
    assert_same_runs(tmp_path / "killed", tmp_path / "whole")


ALL_STEPS = {"step_00000004", "step_00000008", "step_00000009"}


class Killed(BaseException):
    """Stands for a kill: nothing but a clean-up of our own could catch it."""


class Costs(Callback):
    def __init__(self):
        self.costs = {}

    def on_loop_end(self, run, logs):
        first = run.step - len(logs["loss"]) + 1
        self.costs |= dict(enumerate(logs["loss"].tolist(), first))


def train(run_dir, data_dir):
    """Goes on with a run until step 9; the costs of its steps."""
    callbacks = [Costs(), BestModels()]
    trainer = Trainer(run_dir, callbacks=callbacks, max_steps=9, **TRAINER)
    config = UNetConfig(depth=1, base_filters=4, **GROUPS["model"])
    task = SegmentationTask(build_unet(config), **GROUPS["task"])
    options = {"data_dir": str(data_dir), "tile_size": 30, **GROUPS["data"]}
    trainer.fit(task, SegmentationData("discs", **options), resume=True)
    return callbacks[0].costs


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data_dir):
    """An unbroken run: its folder and its costs."""
    run_dir = tmp_path_factory.mktemp("whole")
    return run_dir, train(run_dir, data_dir)


def kill_in(monkeypatch, name, call):
    """Has the function of this name be the last that is called, the `call`-th time."""
    honest, count = find_object(name), 0

    def deadly(*arguments):
        nonlocal count
        count += 1
        if count == call:
            raise Killed
        return honest(*arguments)

    monkeypatch.setattr(name, deadly)


@pytest.mark.parametrize(
    ("name", "call", "left"),
    [
        # A checkpoint of which the files are written; one that was just renamed.
        ("unet_train.runs.checkpoint._sync", 1, {".step_00000004.partial"}),
        ("unet_train.runs.checkpoint._sync", 5, {"step_00000004"}),
        (
            "unet_train.runs.checkpoint._sync",
            6,
            {"step_00000004", ".step_00000008.partial"},
        ),
        # The first best model, at step 6.
        ("unet_train.callbacks.best_models.write_model", 1, {"step_00000004"}),
        # The end: the model, its scores.
        (
            "unet_train.training.trainer.save_aside",
            1,
            {"step_00000004", "step_00000008"},
        ),
        ("unet_train.training.trainer.write_text", 2, ALL_STEPS),
    ],
)
def test_killed_between_two_operations(
    whole, data_dir, tmp_path, monkeypatch, name, call, left
):
    kill_in(monkeypatch, name, call)
    with pytest.raises(Killed):
        train(tmp_path, data_dir)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == left
    assert not (tmp_path / "metrics.json").exists()
    monkeypatch.undo()
    again = train(tmp_path, data_dir)
    unbroken, costs = whole
    assert again == {step: costs[step] for step in again}
    assert_same_runs(tmp_path, unbroken)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == ALL_STEPS
