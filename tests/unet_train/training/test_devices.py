"""Several devices, several machines, parts of a batch: all equal one device on it all.

Devices are logical CPUs, machines are processes on the loopback interface.
"""

import contextlib
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from unet_train.options import TrainerOptions
from unet_train.runs.checkpoint import step_of
from unet_train.training.devices import configure

# The whole of a step: ignored pixels, clipping, averages, momentum, decay.
TASK = {"clip_norm": 0.5, "ema": 0.9, "weight_decay": 0.01, "learning_rate": 0.01}
TRAINER = {"max_steps": 6, "steps_per_loop": 2, "deterministic": True}


def finish(process, code=0):
    """The costs of all steps that a process reported."""
    output, errors = process.communicate(timeout=300)
    assert process.returncode == code, errors[-3000:]
    return costs_in(json.loads(line) for line in output.splitlines() if line[:1] == "{")


def costs_in(records):
    """The costs of all steps, of a process or of a run that took place here."""
    return [cost for record in records for cost in record.get("loss", [])]


@pytest.fixture
def costs_of(records_of):
    """Trains here, where conftest.py has made two devices of one."""
    assert len(tf.config.list_logical_devices("CPU")) == 2
    return lambda run_dir, **options: costs_in(records_of(run_dir, **options))


def weights_of(run_dir):
    return keras.saving.load_model(run_dir / "model.keras").get_weights()


def start_experiment(name, environment=None):
    """Starts a function of `programs/two_devices.py`."""
    program = pathlib.Path(__file__).parents[1] / "programs" / "two_devices.py"
    return subprocess.Popen(
        [sys.executable, program, name],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip


def result_of(process):
    """What a process printed last, from JSON."""
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]
    return json.loads(output.splitlines()[-1])


def assert_alike(one, other, tolerance):
    for first, second in zip(one, other, strict=True):
        np.testing.assert_allclose(first, second, atol=tolerance)


def test_in_parts_equals_in_one_piece(costs_of, tmp_path):
    """Gradient accumulation, with pixels ignored unevenly."""
    groups = {"model": {"norm": "none"}, "task": TASK}
    whole = costs_of("whole", trainer=TRAINER, **groups)
    parts = costs_of("parts", trainer={**TRAINER, "accumulate": 4}, **groups)
    np.testing.assert_allclose(parts, whole, rtol=1e-4)
    assert_alike(*map(weights_of, (tmp_path / "whole", tmp_path / "parts")), 1e-4)


@pytest.mark.parametrize(
    ("model", "data"),
    [
        ({"norm": "none"}, {"batch_size": 3}),
        ({"norm": "sync_batch"}, {"batch_size": 4}),
    ],
)
def test_two_devices_equal_one(costs_of, tmp_path, model, data):
    """One shares a batch unevenly, one takes its statistics over both devices."""
    groups = {"model": model, "data": data, "task": {**TASK, "loss": "bce_dice"}}
    one = costs_of("one", trainer={**TRAINER, "strategy": "none"}, **groups)
    two = costs_of("two", trainer={**TRAINER, "strategy": "mirrored"}, **groups)
    np.testing.assert_allclose(two, one, rtol=2e-3)
    assert_alike(*map(weights_of, (tmp_path / "one", tmp_path / "two")), 2e-3)


def test_a_second_run_in_a_process_has_the_strategy_of_the_first():
    """Another one would number its exchanges as the first did its own."""
    options = TrainerOptions(max_steps=1, strategy="mirrored")
    first, second = (configure(options).strategy for _ in range(2))
    assert first.num_replicas_in_sync == 2
    assert first is second


def test_two_devices_in_float16_resume_to_the_bit(start, costs_of, tmp_path):
    """The resumed one is a process that knows nothing of the first."""
    trainer = {**TRAINER, "strategy": "mirrored", "precision": "mixed_float16"}
    groups = {"task": TASK, "model": {"dropout": 0.2}}
    whole = costs_of("whole", trainer={**trainer, "max_steps": 8}, **groups)
    first = costs_of("parts", trainer={**trainer, "max_steps": 3}, **groups)
    trainer["max_steps"] = 8
    resumed = start("parts", devices=2, trainer=trainer, resume=True, **groups)
    second = finish(resumed)
    assert first + second == whole
    assert_alike(*map(weights_of, (tmp_path / "whole", tmp_path / "parts")), 0)


@pytest.mark.parametrize(
    ("model", "data", "trainer"),
    [
        ({"norm": "batch"}, {"batch_size": 3}, {}),
        ({"depth": 2, "padding": "same", "deep_supervision": 1}, {"tile_size": 32},
         {"accumulate": 2}),
    ],
)  # fmt: skip
def test_compiled_with_xla_two_devices_do_the_same(
    costs_of, tmp_path, model, data, trainer
):
    """A batch that does not divide evenly; heads, averages and clipping, in parts."""
    # Adam would make gradients that are mostly rounding as large as the others.
    task = {"optimizer": {"class_path": "keras.optimizers.SGD"}, "learning_rate": 0.1}
    task |= {"clip_norm": 0.5, "ema": 0.9}
    groups = {"model": model, "data": data, "task": task}
    trainer = {"max_steps": 4, "strategy": "mirrored", **trainer}
    plain = costs_of("plain", trainer=trainer, **groups)
    compiled = costs_of("compiled", trainer={**trainer, "jit_compile": True}, **groups)
    np.testing.assert_allclose(compiled, plain, rtol=1e-3)
    assert_alike(*map(weights_of, (tmp_path / "plain", tmp_path / "compiled")), 1e-3)


@pytest.mark.parametrize("option", [{"jit_compile": True}, {"accumulate": 2}])
def test_a_norm_over_all_devices_is_not_for_all_ways_to_compute(costs_of, option):
    (name,) = option
    trainer = {"max_steps": 1, "strategy": "mirrored", **option}
    with pytest.raises(ValueError, match=name) as caught:
        costs_of("run", model={"norm": "sync_batch"}, trainer=trainer)
    assert str(caught.value) == (
        f"`--trainer.{name}` on several devices does not go with the norm"
        " of 'encoder_0_norm_1', which takes its statistics over all of them. Leave it"
        " out, or use another norm, such as `--model.norm group`."
    )


def free_port():
    """A port that nobody listens at, below those that Linux gives to connections."""
    while True:
        # Not the generator of all the others: those seed it.
        port = random.SystemRandom().randrange(10_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("localhost", port))
            return port


def cluster(count):
    """TF_CONFIG of each of `count` machines."""
    addresses = [f"localhost:{free_port()}" for _ in range(count)]
    return [
        {
            "TF_CONFIG": json.dumps(
                {
                    "cluster": {"worker": addresses},
                    "task": {"type": "worker", "index": index},
                }
            )
        }
        for index in range(count)
    ]


@pytest.fixture
def start_two(start):
    def start_two(run_dir, **groups):
        return [
            start(run_dir, environment=environment, **groups)
            for environment in cluster(2)
        ]

    return start_two


def test_two_machines_equal_one_and_only_the_first_writes(
    costs_of, start_two, tmp_path
):
    groups = {"model": {"norm": "sync_batch"}, "task": TASK}
    one = costs_of("one", trainer={**TRAINER, "strategy": "none"}, **groups)
    trainer = {**TRAINER, "strategy": "multi_worker"}
    processes = start_two("two", trainer=trainer, **groups)
    first, second = (finish(process) for process in processes)
    np.testing.assert_allclose(first, one, rtol=2e-3)
    assert second == []  # Callbacks are called on the first machine only.
    assert_alike(*map(weights_of, (tmp_path / "one", tmp_path / "two")), 2e-3)
    names = {path.name for path in (tmp_path / "two").iterdir()}
    assert names == {
        "architecture.json", "best", "checkpoints", "config.yaml", "metrics.json",
        "model.keras",
    }  # fmt: skip


VALIDATED = {**TRAINER, "max_steps": 4, "eval_every_steps": 2}
# Of seven images two are held out, and there are three to validate on. The weights stay
# what they are, so that scores differ only by who computes them.
AS_IT_IS = {
    "model": {"norm": "none"}, "task": {"learning_rate": 1e-12},
    "data": {"holdout": 0.3},
}  # fmt: skip


def told_by(process, name):
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]
    records = [json.loads(line) for line in output.splitlines() if line[:1] == "{"]
    return [record[name] for record in records if name in record]


def scores_in(run_dir):
    record = json.loads((run_dir / "metrics.json").read_text())
    return {name: record[name] for name in record.keys() - {"seconds", "split"}}


def test_machines_share_out_a_validation(records_of, start_two, tmp_path):
    """Each scores some of the images, and all have the scores of them all."""
    trainer = {**VALIDATED, "strategy": "multi_worker"}
    one = records_of("one", trainer={**VALIDATED, "strategy": "none"}, **AS_IT_IS)
    machines = start_two("two", trainer=trainer, **AS_IT_IS)
    (first,), (second,) = (told_by(machine, "scored") for machine in machines)
    (every,) = (record["scored"] for record in one if "scored" in record)
    assert len(every) == 2 * (2 + 3)  # Held-out images and others, each time.
    assert sorted(first + second) == sorted(every)
    assert len(first) == 2 * (1 + 2)
    expected, found = (scores_in(tmp_path / name) for name in ("one", "two"))
    assert found["images"] == 3
    assert 0 < found["iou"] < 1
    assert found == pytest.approx(expected, rel=1e-6)


def test_devices_share_out_a_validation(records_of, tmp_path):
    """In the images' order, so that nothing changes but where they are computed."""
    for name, strategy in (("one", "none"), ("two", "mirrored")):
        records_of(name, trainer={**VALIDATED, "strategy": strategy}, **AS_IT_IS)
    expected, found = (scores_in(tmp_path / name) for name in ("one", "two"))
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_machine_that_cannot_validate_tells_the_others(start, tmp_path):
    trainer = {**VALIDATED, "strategy": "multi_worker"}
    first, second = (
        start("two", environment=machine, trainer=trainer, spoil=1)
        for machine in cluster(2)
    )
    _, errors = first.communicate(timeout=120)
    assert "Machine 1 could not validate: ValueError: " in errors
    assert "is spoilt" in second.communicate(timeout=120)[1]
    assert first.returncode
    assert second.returncode


def statistics_of(run_dir):
    """The moving statistics of the saved model."""
    weights = keras.saving.load_model(run_dir / "model.keras").weights
    return [np.array(each) for each in weights if "/moving_" in each.path]


def test_moving_statistics_are_the_mean_of_the_devices(costs_of, start_two, tmp_path):
    """The devices see the tiles that one device would see in two smaller steps."""
    momentum = 0.5
    groups = {
        "model": {"norm": "batch", "norm_momentum": momentum},
        "task": {"learning_rate": 1e-12},
    }
    for steps in (1, 2):
        trainer = {**TRAINER, "max_steps": steps, "strategy": "none"}
        data = {"batch_size": 2}
        costs_of(f"one_{steps}", trainer=trainer, data=data, **groups)
    once, twice = (statistics_of(tmp_path / name) for name in ("one_1", "one_2"))
    initial = [0.0, 1.0] * (len(once) // 2)  # Of means and of variances.
    of_second = [
        momentum * first + both - momentum * one
        for first, one, both in zip(initial, once, twice, strict=True)
    ]
    differences = [np.abs(a - b).max() for a, b in zip(once, of_second, strict=True)]
    assert max(differences) > 1e-2
    expected = [(a + b) / 2 for a, b in zip(once, of_second, strict=True)]

    trainer = {**TRAINER, "max_steps": 1}
    costs_of("devices", trainer={**trainer, "strategy": "mirrored"}, **groups)
    trainer["strategy"] = "multi_worker"
    for process in start_two("machines", trainer=trainer, **groups):
        finish(process)
    for name in ("devices", "machines"):
        found = statistics_of(tmp_path / name)
        assert_alike(found, expected, 1e-5)
        checkpoint = tmp_path / name / "checkpoints" / "step_00000001" / "tensors"
        reader = tf.train.load_checkpoint(checkpoint)
        saved = [reader.get_tensor(each) for each in reader.get_variable_to_shape_map()]
        for statistic in found:
            assert any(np.array_equal(each, statistic) for each in saved)


def test_averages_follow_the_weights_of_their_own_device():
    # Before the first step an average keeps a tenth.
    np.testing.assert_allclose(result_of(start_experiment("averages")), [[0.9], [1.8]])


def test_every_device_of_every_machine_draws_for_itself(records_of, start_two):
    """What each draws from at the end of a run: [layers, devices, 2]."""
    groups = {"model": {"dropout": 0.2, "stochastic_depth": 0.1, "norm": "none"}}
    trainer = {**TRAINER, "max_steps": 2}
    one = records_of("one", trainer={**trainer, "strategy": "none"}, **groups)[-1]
    machines = start_two(
        "two", trainer={**trainer, "strategy": "multi_worker"}, **groups
    )
    seeds = [result_of(machine)["seeds"] for machine in machines]
    of_all = np.concatenate(seeds, axis=1)
    layers, devices = of_all.shape[:2]
    assert (layers, devices) == (5, 2)
    assert len({tuple(seed) for seed in of_all.reshape(-1, 2)}) == layers * devices
    # The first draws what one device alone draws, so a run may go on on another number.
    np.testing.assert_array_equal(of_all[:, :1], one["seeds"])


def test_no_draw_is_repeated_on_another_device_or_in_another_part():
    assert result_of(start_experiment("draws")) == 4


def test_nobody_asks_before_each_step_whether_the_others_have_a_batch():
    """The batches are said to have no end."""
    assert result_of(start_experiment("asks_for_input")) == []
    machines = [start_experiment("asks_for_input", each) for each in cluster(2)]
    assert [result_of(machine) for machine in machines] == [[], []]


def test_what_is_quicker_is_measured_on_all_devices():
    processes = [start_experiment("precision", each) for each in ({}, *cluster(2))]
    for process in processes:
        assert "bfloat16 takes" in result_of(process)


def wait_for_step(process, step):
    for line in process.stdout:
        if line[:1] == "{" and json.loads(line)["step"] >= step:
            return
    raise AssertionError(process.stderr.read()[-3000:])


def test_a_killed_machines_run_resumes(start_two, tmp_path):
    groups = {"task": TASK}
    trainer = {
        **TRAINER, "strategy": "multi_worker", "max_steps": 400, "steps_per_loop": 1,
        "checkpoint_every_steps": 2,
    }  # fmt: skip
    first, second = start_two("run", trainer=trainer, **groups)
    wait_for_step(first, 10)
    second.kill()
    # The first cannot go on alone: it ends by itself, or is ended.
    time.sleep(2)
    first.kill()
    checkpoints = [
        path
        for path in (tmp_path / "run" / "checkpoints").iterdir()
        if path.name.startswith("step_")
    ]
    reached = max(map(step_of, checkpoints))
    assert reached >= 8
    last = reached + 4
    trainer = {**trainer, "max_steps": last}
    resumed, other = start_two("run", trainer=trainer, resume=True, **groups)
    costs = finish(resumed)
    finish(other)
    assert len(costs) == 4
    first, second = start_two("whole", trainer=trainer, **groups)
    whole = finish(first)
    finish(second)
    assert whole[reached:] == costs
    assert_alike(*map(weights_of, (tmp_path / "run", tmp_path / "whole")), 0)


def test_machines_that_do_not_share_the_run_folder_are_refused(start, tmp_path):
    trainer = {**TRAINER, "strategy": "multi_worker", "max_steps": 2}
    groups = {"task": TASK, "trainer": trainer}
    for process in [
        start("run", environment=machine, **groups) for machine in cluster(2)
    ]:
        finish(process)
    trainer["max_steps"] = 4
    processes = [
        start(folder, environment=machine, resume=True, **groups)
        for folder, machine in zip(("run", "elsewhere"), cluster(2), strict=True)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert "this one at step 0, the first at step 2" in errors[1]
    assert "file system that all machines share" in errors[0]
    assert all(process.returncode for process in processes)


def test_a_signal_to_one_machine_stops_both_in_good_order(start_two, tmp_path):
    trainer = {**TRAINER, "strategy": "multi_worker", "max_steps": 10_000}
    trainer["eval_every_steps"] = 2  # Only all of them together can validate.
    first, second = start_two("run", trainer=trainer, task=TASK)
    wait_for_step(first, 4)
    second.send_signal(signal.SIGTERM)
    for process in (first, second):
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 3, errors[-3000:]
        assert "which is saved; --resume goes on" in output
    assert any((tmp_path / "run" / "checkpoints").glob("step_*"))


def test_a_cluster_that_is_not_there(tmp_path, monkeypatch):
    from unet_train import Trainer

    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(RuntimeError, match="TF_CONFIG names no cluster"):
        Trainer(tmp_path, max_steps=1, strategy="multi_worker")
    monkeypatch.setenv("TF_CONFIG", "{")
    with pytest.raises(RuntimeError, match="TF_CONFIG cannot be read"):
        Trainer(tmp_path, max_steps=1)


def test_no_tpu(tmp_path, monkeypatch):
    from unet_train import Trainer

    with pytest.raises(RuntimeError, match="`--trainer.strategy tpu`, but TensorFlow"):
        Trainer(tmp_path, max_steps=1, strategy="tpu")


def test_a_batch_that_cannot_be_divided(tmp_path, make_task, make_data):
    from unet_train import Trainer

    trainer = Trainer(tmp_path, max_steps=1, accumulate=2)
    with pytest.raises(ValueError, match="A batch of 3 is 3 tiles.*multiple of 2"):
        trainer.fit(make_task(), make_data(batch_size=3))
