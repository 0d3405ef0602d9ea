"""Runs: what they leave, how they go on, and what stops them."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml

from unet_train import Callback, Predictor, Trainer
from unet_train.checkpoint import step_of


class Recorder(Callback):
    """Notes every hook and every cost; its state is the number of loops."""

    def __init__(self):
        self.hooks, self.costs, self.loops = [], [], 0

    def on_fit_start(self, run):
        self.hooks.append(("on_fit_start", run.step))

    def on_loop_end(self, run, logs):
        self.loops += 1
        self.hooks.append(("on_loop_end", run.step))
        self.costs.extend(logs["cost"].tolist())

    def on_eval_end(self, run, metrics):
        self.hooks.append(("on_eval_end", run.step))

    def on_checkpoint(self, run, path):
        assert step_of(path) == run.step
        self.hooks.append(("on_checkpoint", run.step))

    def on_exception(self, run, error):
        self.hooks.append((f"on_exception {type(error).__name__}", run.step))

    def on_fit_end(self, run):
        self.hooks.append(("on_fit_end", run.step))

    def state_dict(self):
        return {"loops": self.loops}

    def load_state_dict(self, state):
        self.loops = state["loops"]


def weights_of(task):
    variables = [*task.model.variables, *task.optimizer.variables]
    return [np.asarray(variable) for variable in variables]


@pytest.fixture
def fit(tmp_path, make_task, make_data):
    def fit(run_dir, *, task=None, data=None, resume=False, recorder=None, **options):
        recorder = recorder or Recorder()
        trainer = Trainer(tmp_path / run_dir, callbacks=[recorder], **options)
        task = make_task(task) if isinstance(task, dict | None) else task
        trainer.fit(task, data or make_data(), resume=resume)
        return task, recorder

    return fit


def test_order_of_hooks(fit):
    _, recorder = fit(
        "run", max_steps=7, steps_per_loop=3, eval_every_steps=5,
        checkpoint_every_steps=4,
    )  # fmt: skip
    assert recorder.hooks == [
        ("on_fit_start", 0),
        ("on_loop_end", 3),
        ("on_loop_end", 4),
        ("on_checkpoint", 4),
        ("on_loop_end", 5),
        ("on_eval_end", 5),
        ("on_loop_end", 7),
        ("on_checkpoint", 7),
        ("on_eval_end", 7),
        ("on_fit_end", 7),
    ]
    assert len(recorder.costs) == 7


def test_what_a_run_leaves(fit, tmp_path, make_data):
    fit("run", max_steps=3)
    run = tmp_path / "run"
    assert {path.name for path in run.iterdir()} == {
        "architecture.json",
        "checkpoints",
        "config.yaml",
        "metrics.json",
        "model.keras",
    }
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["data"]["tile_size"] == 30
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["images"] == 3
    assert metrics["step"] == 3
    model = keras.saving.load_model(run / "model.keras")
    example = next(make_data().examples("validation"))
    expected = Predictor.load(run).probabilities(example.image)
    np.testing.assert_array_equal(
        Predictor(model).probabilities(example.image), expected
    )


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_resumed_run_equals_the_unbroken_one_bit_for_bit(fit, make_data, precision):
    data = make_data(scale_jitter=0.2, color_jitter=0.2)
    options = {
        "data": data,
        "precision": precision,
        "deterministic": True,
        "steps_per_loop": 4,
        "checkpoint_every_steps": 5,
    }
    whole, unbroken = fit("whole", max_steps=11, **options)
    _, first = fit("parts", max_steps=5, **options)
    resumed, second = fit("parts", max_steps=11, resume=True, **options)
    assert first.costs + second.costs == unbroken.costs
    assert second.hooks[0] == ("on_fit_start", 5)
    assert (first.loops, second.loops) == (2, 5)  # 4, 1; then 4, 1, 1 more.
    for one, other in zip(weights_of(whole), weights_of(resumed), strict=True):
        np.testing.assert_array_equal(one, other)


def test_steps_per_loop_changes_nothing_else(fit):
    one, first = fit("one", max_steps=6, steps_per_loop=1, deterministic=True)
    many, second = fit("many", max_steps=6, steps_per_loop=6, deterministic=True)
    assert first.costs == second.costs
    for a, b in zip(weights_of(one), weights_of(many), strict=True):
        np.testing.assert_array_equal(a, b)


def test_learns(fit, make_task, make_data):
    task = make_task(learning_rate=1e-2)
    _, recorder = fit("run", task=task, max_steps=60, steps_per_loop=20)
    assert np.mean(recorder.costs[-10:]) < 0.5 * np.mean(recorder.costs[:5])


def test_epochs_and_minutes_end_a_run(fit, tmp_path, make_task, make_data):
    _, recorder = fit("epochs", max_epochs=2)
    assert recorder.hooks[-1] == ("on_fit_end", 7)  # 2 epochs of 7 images by 2.

    now = iter(range(0, 10_000, 10))
    recorder = Recorder()
    trainer = Trainer(
        tmp_path / "minutes", callbacks=[recorder], clock=lambda: next(now),
        max_minutes=1, steps_per_loop=1,
    )  # fmt: skip
    trainer.fit(make_task(), make_data())
    assert 0 < recorder.hooks[-1][1] < 10


def test_a_used_folder_is_not_overwritten(fit, tmp_path):
    fit("run", max_steps=2)
    before = (tmp_path / "run" / "model.keras").read_bytes()
    with pytest.raises(ValueError, match=r"holds a run already, at step 2.*--resume"):
        fit("run", max_steps=4)
    assert (tmp_path / "run" / "model.keras").read_bytes() == before


def test_resume_without_a_checkpoint_starts(fit):
    _, recorder = fit("run", max_steps=1, resume=True)
    assert recorder.hooks[0] == ("on_fit_start", 0)


def test_resume_with_another_model_is_refused(fit):
    fit("run", max_steps=1)
    with pytest.raises(ValueError, match="does not fit the model"):
        fit("run", max_steps=2, task={"base_filters": 6}, resume=True)


def test_a_cost_that_is_not_finite_stops_and_keeps_the_checkpoint(
    fit, make_task, tmp_path
):
    task = make_task()
    honest = task.train_step

    def train_step(batch):
        logs = honest(batch)
        broken = task.optimizer.iterations >= 6
        return {**logs, "cost": tf.where(broken, np.nan, logs["cost"])}

    task.train_step = train_step
    recorder = Recorder()
    with pytest.raises(FloatingPointError, match=r"cost of step 6 is nan"):
        fit(
            "run", task=task, recorder=recorder, max_steps=20, steps_per_loop=4,
            checkpoint_every_steps=4,
        )  # fmt: skip
    assert recorder.hooks[-1] == ("on_exception FloatingPointError", 8)
    names = [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert names == ["step_00000004"]


def test_predictor_of_an_unfinished_run_takes_the_last_checkpoint(fit, tmp_path):
    task, _ = fit("run", max_steps=2, precision="mixed_bfloat16")
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    expected = Predictor.load(tmp_path / "run").probabilities(image)
    (tmp_path / "run" / "model.keras").unlink()
    found = Predictor.load(tmp_path / "run").probabilities(image)
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert task.model.get_layer("encoder_0_conv_1").compute_dtype == "float32"


def test_predictor_names_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(ValueError, match="is not the folder of a run"):
        Predictor.load(tmp_path)


def test_predictor_scales_there_and_back(fit, tmp_path, make_data):
    fit("run", max_steps=1, data=make_data(image_size=40))
    image = np.random.default_rng(0).integers(0, 256, (90, 61, 3), np.uint8)
    probabilities = Predictor.load(tmp_path / "run").probabilities(image)
    assert probabilities.shape == (90, 61)


def test_unknown_hook_is_refused_with_the_nearest(tmp_path):
    class Mistaken(Callback):
        def on_loop_ends(self, run, logs): ...

    with pytest.raises(ValueError, match=r"'on_loop_ends'.*mean 'on_loop_end'"):
        Trainer(tmp_path, max_steps=1, callbacks=[Mistaken()])


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({}, "Nothing says when to stop"),
        ({"max_steps": 0}, "`max_steps` must be above 0"),
        ({"max_steps": 1, "precision": "float8"}, "`precision` must be one of"),
        ({"max_steps": 1, "device": "gpu"}, "TensorFlow sees no GPU"),
    ],
)
def test_impossible_options(tmp_path, options, fault):
    if options.get("device") == "gpu" and tf.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU here")
    with pytest.raises((ValueError, RuntimeError), match=fault):
        Trainer(tmp_path, **options)
