"""Runs: what they leave, how they go on, and what stops them."""

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml

from unet_train import Callback, Predictor, Trainer
from unet_train.callbacks import TensorBoard
from unet_train.cli import main
from unet_train.runs.checkpoint import step_of
from unet_train.runs.load import load_model, load_trained
from unet_train.scoring.accumulator import MaskScores

ADAM = {"class_path": "keras.optimizers.Adam"}


class Recorder(Callback):
    """Notes every hook and every cost; its state is the number of loops."""

    def __init__(self):
        self.hooks, self.costs, self.rates, self.loops = [], [], [], 0
        self.images = []

    def on_fit_start(self, run):
        self.hooks.append(("on_fit_start", run.step))

    def on_loop_end(self, run, logs):
        self.loops += 1
        self.hooks.append(("on_loop_end", run.step))
        self.costs.extend(logs["loss"].tolist())
        self.rates.extend(logs["learning_rate"].tolist())

    def on_eval_end(self, run, metrics):
        self.hooks.append(("on_eval_end", run.step))
        self.images.append(run.evaluated_images)

    def on_checkpoint(self, run, path):
        assert path.is_dir()
        assert step_of(path) <= run.step
        self.hooks.append(("on_checkpoint", step_of(path)))

    def on_exception(self, run, error):
        self.hooks.append((f"on_exception {type(error).__name__}", run.step))

    def on_fit_end(self, run):
        self.final_images = run.final_scores["images"]
        self.hooks.append(("on_fit_end", run.step))

    def state_dict(self):
        return {"loops": self.loops}

    def load_state_dict(self, state):
        self.loops = state["loops"]


def weights_of(task):
    variables = [*task.model.variables, *task.optimizer.variables]
    return [np.asarray(variable) for variable in variables]


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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
    checkpoint = ("on_checkpoint", 4)  # It comes when the disk has it.
    assert recorder.hooks.index(checkpoint) > recorder.hooks.index(("on_loop_end", 4))
    recorder.hooks.remove(checkpoint)
    assert recorder.hooks == [
        ("on_fit_start", 0),
        ("on_loop_end", 3),
        ("on_loop_end", 4),
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


def test_steps_per_loop_changes_nothing_else(fit, make_task):
    def task():
        keras.utils.set_random_seed(0)
        return make_task(schedule="cosine", warmup_steps=2)

    options = {"max_steps": 6, "deterministic": True}
    one, first = fit("one", task=task(), steps_per_loop=1, **options)
    many, second = fit("many", task=task(), steps_per_loop=6, **options)
    assert first.costs == second.costs
    assert first.rates == second.rates
    expected = [
        1e-3 * min(1, (s + 1) / 2) * (1 + np.cos(np.pi * s / 6)) / 2 for s in range(6)
    ]
    np.testing.assert_allclose(first.rates, expected, rtol=1e-5)
    for a, b in zip(weights_of(one), weights_of(many), strict=True):
        np.testing.assert_array_equal(a, b)


def test_learns(fit, make_task, make_data):
    task = make_task({"norm": "batch"}, optimizer=ADAM, learning_rate=1e-2)
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
    # 10 s pass with each look at the clock; a round looks at it twice.
    assert recorder.hooks[-1] == ("on_fit_end", 3)


def test_a_run_limited_by_time_resumes_at_its_learning_rate(
    tmp_path, make_task, make_data
):
    rates = []
    for minutes in (1, 2):
        now = iter(range(0, 10_000))
        recorder = Recorder()
        trainer = Trainer(
            tmp_path / "run", callbacks=[recorder], clock=lambda now=now: next(now),
            max_minutes=minutes, steps_per_loop=1, checkpoint_every_steps=1000,
        )  # fmt: skip
        trainer.fit(make_task(schedule="cosine"), make_data(), resume=True)
        rates.append(recorder.rates)
    first, second = map(np.array, rates)
    assert first[0] == pytest.approx(1e-3)
    assert first[-1] < 0.01 * first[0]
    assert (np.diff(first[2:]) < 0).all()
    # With a second minute to go it takes up the cosine half way, and falls again.
    assert second[0] == pytest.approx(0.5e-3, rel=0.15)
    assert (np.diff(second) < 1e-5).all()


def test_validation_while_training_may_take_fewer_images(fit):
    _, recorder = fit("run", max_steps=3, eval_every_steps=1, limit_eval=2)
    assert recorder.images == [2, 2, 2]  # Like with like; metrics.json has all.
    assert recorder.final_images == 3


def test_keeps_as_many_checkpoints_as_asked(fit, tmp_path):
    fit("run", max_steps=4, checkpoint_every_steps=1, keep_checkpoints=2)
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["step_00000003", "step_00000004"]


def test_options_reach_tensorflow(tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(
        tf.config.experimental, "enable_op_determinism", lambda: called.append("det")
    )
    monkeypatch.setattr(tf.debugging, "set_log_device_placement", called.append)
    Trainer(tmp_path, max_steps=1, deterministic=True, log_device_placement=True)
    Trainer(tmp_path, max_steps=1)
    assert called == ["det", True, False]


def test_a_used_folder_is_not_overwritten(fit, tmp_path):
    fit("run", max_steps=2)
    before = (tmp_path / "run" / "model.keras").read_bytes()
    with pytest.raises(ValueError, match=r"holds a run already, at step 2.*--resume"):
        fit("run", max_steps=4)
    assert (tmp_path / "run" / "model.keras").read_bytes() == before


def test_resume_without_a_checkpoint_starts(fit):
    _, recorder = fit("run", max_steps=1, resume=True)
    assert recorder.hooks[0] == ("on_fit_start", 0)


def test_resume_with_another_model_is_refused_and_changes_nothing(fit, tmp_path):
    fit("run", max_steps=1)
    before = files_of(tmp_path / "run")
    with pytest.raises(ValueError, match="does not fit the model"):
        fit("run", max_steps=2, task={"base_filters": 6}, resume=True)
    assert files_of(tmp_path / "run") == before


def tensors_of(task):
    """Weights, slots of the optimizer and averages, as numpy has them."""
    tracked = task.tracked()
    names = [*tracked["model"].variables, *tracked["optimizer"].variables]
    return [np.array(each) for each in [*names, *tracked["averages"]]]


class Start(Recorder):
    """Notes what a run starts with, before its first step."""

    def on_fit_start(self, run):
        super().on_fit_start(run)
        self.tensors = tensors_of(run.task)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("float32", "mixed_float16"),
        ("mixed_float16", "mixed_bfloat16"),
        ("mixed_bfloat16", "float32"),
    ],
)
def test_a_run_may_go_on_at_another_precision(fit, make_task, first, second):
    def task():
        keras.utils.set_random_seed(0)
        return make_task({"norm": "batch"}, ema=0.9, optimizer=ADAM)

    options = {"deterministic": True, "checkpoint_every_steps": 3}
    _, unbroken = fit("whole", task=task(), max_steps=5, precision=first, **options)
    stopped, _ = fit("run", task=task(), max_steps=3, precision=first, **options)
    recorder = Start()
    resumed, _ = fit(
        "run", task=task(), max_steps=5, precision=second, resume=True,
        recorder=recorder, **options,
    )  # fmt: skip
    assert recorder.hooks[0] == ("on_fit_start", 3)
    expected = tensors_of(stopped)
    assert len(expected) > 60
    for found, before in zip(recorder.tensors, expected, strict=True):
        assert found.dtype == before.dtype
        np.testing.assert_array_equal(found, before)
    conv = resumed.model.get_layer("encoder_0_conv_1")
    assert conv.compute_dtype == second.removeprefix("mixed_")
    # Dropout would draw other masks at another precision; without it all is rounding.
    assert recorder.costs == pytest.approx(unbroken.costs[3:], rel=0.02)
    assert recorder.costs != unbroken.costs[3:]


def test_loss_scaling_goes_on_where_it_was(fit, tmp_path):
    fit("run", max_steps=2, precision="mixed_float16")
    state = json.loads(
        (tmp_path / "run/checkpoints/step_00000002/state.json").read_text()
    )
    scaling = {"dynamic_scale": 2.0**15, "step_counter": 2}
    assert state["task"] == {"threshold": 0.5, **scaling}
    again, _ = fit("run", max_steps=3, precision="mixed_float16", resume=True)
    assert again.state_dict()["step_counter"] == 3


def test_damaged_checkpoint_is_named_with_the_cure(fit, tmp_path):
    fit("run", max_steps=1)
    whole = shutil.move(tmp_path / "run/checkpoints/step_00000001", tmp_path / "whole")
    for fault in ("cut", "no_tensors", "no_state", "bad_state"):
        path = tmp_path / "run/checkpoints/step_00000001"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(whole, path)
        tensors = path / "tensors.data-00000-of-00001"
        if fault == "cut":
            tensors.write_bytes(tensors.read_bytes()[:500])
        elif fault == "no_tensors":
            (path / "tensors.index").unlink()
        elif fault == "no_state":
            (path / "state.json").unlink()
        else:
            (path / "state.json").write_text("{")
        with pytest.raises(ValueError, match=r"step_00000001 is damaged.*Delete this"):
            fit("run", max_steps=2, resume=True)


def test_fit_again_on_the_same_objects(tmp_path, make_task, make_data):
    task, data = make_task(), make_data()
    for steps in (2, 4):
        trainer = Trainer(
            tmp_path, max_steps=steps, precision="mixed_float16",
            callbacks=[TensorBoard()],
        )  # fmt: skip
        trainer.fit(task, data, resume=True)
        trainer.fit(task, data, resume=True)
    assert int(task.optimizer.iterations) == 4


def test_a_trained_model_without_checkpoints_is_not_overwritten(fit, tmp_path):
    fit("run", max_steps=1)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(ValueError, match="holds a trained model.keras but no"):
        fit("run", max_steps=1)


def test_the_later_of_model_and_checkpoint_is_loaded(fit, tmp_path):
    fit("run", max_steps=2)
    image = np.random.default_rng(0).integers(0, 256, (30, 30, 3), np.uint8)
    early = Predictor.load(tmp_path / "run").probabilities(image)
    kept = {
        name: (tmp_path / "run" / name).read_bytes()
        for name in ("model.keras", "metrics.json")
    }
    fit("run", max_steps=6, resume=True)
    late = Predictor.load(tmp_path / "run").probabilities(image)
    for name, content in kept.items():  # As if the second run had been killed.
        (tmp_path / "run" / name).write_bytes(content)
    found = Predictor.load(tmp_path / "run").probabilities(image)
    np.testing.assert_allclose(found, late, atol=1e-6)
    assert np.abs(found - early).max() > 1e-4


@pytest.mark.parametrize("split", ["train_split", "eval_split"])
def test_a_missing_split_is_found_before_training(fit, make_data, tmp_path, split):
    with pytest.raises(ValueError, match="no split 'test'"):
        fit("run", max_steps=1, data=make_data(**{split: "test"}))
    assert not (tmp_path / "run").exists()


def test_strange_masks_are_found_before_training(fit, make_data, tmp_path):
    with pytest.raises(ValueError, match=r"values \[255\], but foreground is \[1\]"):
        fit("run", max_steps=1, data=make_data(ignored=[]))
    assert not (tmp_path / "run").exists()


def test_strange_masks_are_found_in_training(fit, make_data, monkeypatch):
    data = make_data(ignored=[])
    monkeypatch.setattr(data, "check", lambda: None)
    with pytest.raises(ValueError, match=r"training split has a value.*--data.ignored"):
        fit("run", max_steps=1, data=data)


def test_weights_that_are_not_finite_are_not_saved(fit, make_task, tmp_path):
    task = make_task()
    honest = task.train_step

    def train_step(batch):
        logs = honest(batch)
        weight = task.model.trainable_variables[0]
        weight.assign(tf.where(task.optimizer.iterations >= 4, np.nan, weight))
        return logs

    task.train_step = train_step
    with pytest.raises(
        FloatingPointError, match="step 4 the weight encoder_0_conv_1/k"
    ):
        fit("run", task=task, max_steps=9, checkpoint_every_steps=2, steps_per_loop=2)
    names = [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert names == ["step_00000002"]


def test_a_cost_that_is_not_finite_stops_and_keeps_the_checkpoint(
    fit, make_task, tmp_path
):
    task = make_task()
    honest = task.train_step

    def train_step(batch):
        logs = honest(batch)
        broken = task.optimizer.iterations >= 6
        return {**logs, "loss": tf.where(broken, np.nan, logs["loss"])}

    task.train_step = train_step
    recorder = Recorder()
    with pytest.raises(FloatingPointError, match=r"loss of step 6 is nan"):
        fit(
            "run", task=task, recorder=recorder, max_steps=20, steps_per_loop=4,
            checkpoint_every_steps=4,
        )  # fmt: skip
    assert recorder.hooks[-1] == ("on_exception FloatingPointError", 8)
    names = [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert names == ["step_00000004"]


def test_predictor_of_an_unfinished_run_takes_the_last_checkpoint(fit, tmp_path):
    fit("run", max_steps=2, precision="mixed_bfloat16")
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    expected = Predictor.load(tmp_path / "run").probabilities(image)
    (tmp_path / "run" / "model.keras").unlink()
    found = Predictor.load(tmp_path / "run").probabilities(image)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_predictor_names_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(ValueError, match="is not the folder of a run"):
        Predictor.load(tmp_path)


@pytest.mark.parametrize("predict_size", [None, 56, [40, 56]])
def test_validation_and_predictor_take_threshold_and_size_of_the_run(
    fit, tmp_path, make_task, make_data, capsys, predict_size
):
    task = make_task(threshold=0.9)
    data = make_data(image_size=40, predict_size=predict_size)
    fit("run", task=task, max_steps=1, data=data)
    predictor = Predictor.load(tmp_path / "run")
    image = np.random.default_rng(0).integers(0, 256, (90, 61, 3), np.uint8)
    model = keras.saving.load_model(tmp_path / "run" / "model.keras")
    size = predict_size or 40
    same = Predictor(model, image_size=size).probabilities(image)
    np.testing.assert_array_equal(predictor.probabilities(image), same)
    np.testing.assert_array_equal(predictor(image), same >= 0.9)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["threshold"] == 0.9
    scores = MaskScores(0.9)
    for example in data.examples():
        scores.add(
            example, Predictor(model, image_size=size).probabilities(example.image)
        )
    assert metrics["dice"] == pytest.approx(scores.result()["dice"], abs=1e-6)
    assert main(["evaluate", "--run_dir", str(tmp_path / "run"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert printed["dice"] == pytest.approx(metrics["dice"], abs=1e-6)


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
        ({"max_steps": 1, "deterministic": True, "jit_compile": True}, "exclude each"),
        ({"max_steps": 1, "seed": -1}, "`seed` must lie between 0 and"),
        ({"max_steps": 1, "precision": "float8"}, "`precision` must be one of"),
        ({"max_steps": 1, "device": "gpu"}, "TensorFlow sees no GPU"),
        (
            {"max_steps": 1, "eval_every_steps": 2, "eval_every_epochs": 1.0},
            "Both `eval_every_steps` and `eval_every_epochs` are set. Leave one",
        ),
        ({"max_steps": 1, "eval_every_epochs": 0}, "`eval_every_epochs` must be above"),
        ({"max_steps": 1, "overfit_batches": 0}, "`overfit_batches` must be above 0"),
    ],
)
def test_impossible_options(tmp_path, options, fault):
    if options.get("device") == "gpu" and tf.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU here")
    with pytest.raises((ValueError, RuntimeError), match=fault):
        Trainer(tmp_path, **options)


def warnings_of_ours(caplog):
    return [
        record.getMessage()
        for record in caplog.records
        if (record.name, record.levelname) == ("unet_train", "WARNING")
    ]


def cut(checkpoint):
    tensors = checkpoint / "tensors.data-00000-of-00001"
    tensors.write_bytes(tensors.read_bytes()[:500])


def test_a_torn_checkpoint_costs_only_itself(fit, make_task, tmp_path, caplog):
    def task():
        keras.utils.set_random_seed(0)
        return make_task(ema=0.9)

    options = {"deterministic": True, "checkpoint_every_steps": 3, "steps_per_loop": 2}
    whole, unbroken = fit("whole", task=task(), max_steps=11, **options)
    _, first = fit("torn", task=task(), max_steps=9, **options)
    checkpoints = tmp_path / "torn" / "checkpoints"
    cut(checkpoints / "step_00000009")
    caplog.clear()
    resumed, second = fit("torn", task=task(), max_steps=11, resume=True, **options)
    damaged, aside = warnings_of_ours(caplog)
    assert "step_00000009 is damaged" in damaged
    assert aside.endswith(f"it is now {checkpoints / 'damaged_step_00000009'}.")
    assert (checkpoints / "damaged_step_00000009").is_dir()
    assert second.hooks[0] == ("on_fit_start", 6)
    assert ("on_checkpoint", 9) in second.hooks
    assert first.costs[:6] + second.costs == unbroken.costs
    for one, other in zip(
        [*weights_of(whole), *map(np.asarray, whole.averages)],
        [*weights_of(resumed), *map(np.asarray, resumed.averages)],
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_only_damaged_checkpoints_are_no_reason_to_begin_anew(fit, tmp_path):
    fit("run", max_steps=4, checkpoint_every_steps=2)
    for checkpoint in (tmp_path / "run" / "checkpoints").iterdir():
        cut(checkpoint)
    before = files_of(tmp_path / "run")
    with pytest.raises(ValueError, match="step_00000002 is damaged.*Delete this"):
        fit("run", max_steps=6, resume=True)
    assert files_of(tmp_path / "run") == before


@pytest.fixture
def full_disk(monkeypatch):
    """Makes the checkpoints of some steps fail in the midst of writing."""

    def full_disk(*steps):
        honest = tf.train.Checkpoint.write

        def write(self, prefix, *arguments):
            path = honest(self, prefix, *arguments)
            if any(f"step_{step:08d}." in str(prefix) for step in steps):
                raise tf.errors.ResourceExhaustedError(None, None, "No space left")
            return path

        monkeypatch.setattr(tf.train.Checkpoint, "write", write)

    return full_disk


def test_training_goes_on_without_a_checkpoint(fit, tmp_path, caplog, full_disk):
    full_disk(2)
    _, recorder = fit("run", max_steps=6, checkpoint_every_steps=2)
    (text,) = warnings_of_ours(caplog)
    assert "step_00000002 cannot be written: No space left. Make room" in text
    assert text.endswith("Training goes on without it.")
    saved = [step for hook, step in recorder.hooks if hook == "on_checkpoint"]
    assert sorted(set(saved)) == [4, 6]
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["step_00000004", "step_00000006"]


def test_the_last_checkpoint_must_not_fail(fit, tmp_path, full_disk, monkeypatch):
    full_disk(6)
    recorder = Recorder()
    told = "lacks the last checkpoint.*Written: model.keras, .*goes on from step 4"
    with pytest.raises(OSError, match=told):
        fit("run", max_steps=6, checkpoint_every_steps=2, recorder=recorder)
    assert recorder.hooks[-1] == ("on_exception OSError", 6)
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["step_00000002", "step_00000004"]
    # The model, which fits, can be used; a run with room goes on from step 4.
    assert load_trained(tmp_path / "run").step == 6
    monkeypatch.undo()
    fit("run", max_steps=6, resume=True)


def test_a_disk_that_is_full(start, records_of, tmp_path):
    """A model may be written, but not the three numbers a weight of a checkpoint."""
    trainer = {"max_steps": 6, "steps_per_loop": 1, "checkpoint_every_steps": 2}
    process = start(
        "run", max_file_bytes=300_000, trainer=trainer, model={"base_filters": 16},
    )  # fmt: skip
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    steps = [json.loads(line)["step"] for line in output.splitlines()]
    assert steps == [*range(1, 7), 6]  # The last of them is the validation.
    # The last is that of the end, which has to be written.
    assert errors.count("Training goes on without it.") == 2
    for step in (2, 4, 6):
        assert f"step_{step:08d} cannot be written" in errors
    told = "lacks the last checkpoint"
    assert told in errors
    assert "Written: model.keras, metrics.json." in errors
    assert "no checkpoint to go on from" in errors
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []
    assert load_trained(tmp_path / "run").step == 6
    # The cure: the same run with room.
    records_of("anew", trainer=trainer, model={"base_filters": 16})
    assert load_trained(tmp_path / "anew").step == 6


def spied_on(task):
    """What a task saw: the first image's number, and a checksum, of each step."""
    seen, honest = [], task.train_step

    def note(images):
        seen.append((int(images[0, 15, 15, 0]) // 10, int(images.sum(dtype=np.int64))))
        return np.int32(0)

    def train_step(batch):
        noted = tf.numpy_function(note, [batch[0]], tf.int32)
        with tf.control_dependencies([noted]):
            return honest(batch)

    task.train_step = train_step
    return seen


def test_a_few_batches_over_and_over(fit, make_task, make_data):
    seen = {}
    for name, options in (("all", {}), ("some", {"overfit_batches": 3})):
        task = make_task()
        seen[name] = spied_on(task)
        data = make_data(color_jitter=0.3)
        fit(name, task=task, data=data, max_steps=8, **options)
    assert len(set(seen["all"])) == 8
    assert seen["some"] == (seen["all"][:3] * 3)[:8]


def test_overfitting_resumes_where_it_was(fit, make_task):
    options = {"overfit_batches": 3, "checkpoint_every_steps": 1}
    seen = []
    for steps in (4, 8):
        task = make_task()
        seen.append(spied_on(task))
        fit("run", task=task, max_steps=steps, resume=True, **options)
    first, second = seen
    assert first + second == (first[:3] * 3)[:8]


def test_a_part_of_the_images(fit, make_task, make_data):
    task = make_task()
    seen = spied_on(task)
    data = make_data(batch_size=1)
    _, recorder = fit("run", task=task, data=data, max_epochs=3, limit_train=4)
    assert recorder.hooks[-1] == ("on_fit_end", 12)
    numbers = [number for number, _ in seen]
    for epoch in (numbers[:4], numbers[4:8], numbers[8:]):
        assert len(set(epoch)) == 4
        assert set(epoch) == set(numbers)
    first = next(data.examples("train"))
    assert int(first.image[0, 0, 0]) // 10 in set(numbers)


@pytest.mark.parametrize(("epochs", "expected"), [(2, [7, 14]), (0.1, [*range(1, 15)])])
def test_validates_every_so_many_epochs(fit, epochs, expected):
    """An epoch is three and a half batches."""
    _, recorder = fit("run", max_steps=15, eval_every_epochs=epochs, limit_eval=1)
    steps = [step for hook, step in recorder.hooks if hook == "on_eval_end"]
    assert steps == [*expected, 15]
    assert recorder.images == [1] * (len(expected) + 1)
    assert recorder.final_images == 3


def test_a_trial_of_everything(fit, tmp_path):
    options = {
        "max_epochs": 1000, "max_minutes": 1000, "eval_every_epochs": 100,
        "fast_dev_run": True,
    }  # fmt: skip
    for _ in range(2):  # It may be repeated.
        _, recorder = fit("run", **options)
        assert [
            (hook, step) for hook, step in recorder.hooks if hook != "on_loop_end"
        ] == [
            ("on_fit_start", 0),
            ("on_eval_end", 2),
            ("on_checkpoint", 2),
            ("on_checkpoint", 3),
            ("on_eval_end", 3),
            ("on_fit_end", 3),
        ]
        assert recorder.images == [2, 2]
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["fast_dev_run"]
    assert (tmp_path / "run" / "fast_dev_run" / "model.keras").exists()


def test_a_trial_is_not_in_the_way_of_a_run(fit, tmp_path):
    fit("run", max_steps=9, fast_dev_run=True)
    _, recorder = fit("run", max_steps=4)
    assert recorder.hooks[0] == ("on_fit_start", 0)
    kept = {
        path: content
        for path, content in files_of(tmp_path / "run").items()
        if "fast_dev_run" not in path.parts
    }
    fit("run", max_steps=9, fast_dev_run=True)
    assert files_of(tmp_path / "run").items() >= kept.items()
    _, recorder = fit("run", max_steps=5, resume=True)
    assert recorder.hooks[0] == ("on_fit_start", 4)


@pytest.mark.parametrize("finished", [True, False])
def test_averages_are_what_a_run_gives(fit, make_task, tmp_path, finished):
    task = make_task(ema=0.5, learning_rate=0.1)
    fit("run", task=task, max_steps=3)
    if not finished:
        (tmp_path / "run" / "model.keras").unlink()
    model = load_model(tmp_path / "run")
    pairs = zip(task.averages, task.model.weights, model.weights, strict=True)
    for average, weight, found in pairs:
        np.testing.assert_array_equal(found, average)
        assert np.abs(weight.numpy() - average.numpy()).max() > 1e-6


def test_a_run_without_averages_does_not_go_on_with_them(fit, make_task):
    fit("run", max_steps=1)
    with pytest.raises(ValueError, match="does not fit the model"):
        fit("run", task=make_task(ema=0.9), max_steps=2, resume=True)


def test_callbacks_see_the_time_that_validation_and_checkpoint_took(
    tmp_path, make_task, make_data, monkeypatch
):
    """Or the speed of the round after them would be too low."""
    now, seen = [0.0], []

    class Watch(Callback):
        def on_loop_end(self, run, logs):
            seen.append(("loop", run.seconds))
            now[0] += 1

        def on_eval_end(self, run, metrics):
            seen.append(("eval", run.seconds))

    task = make_task()
    loss_of_image = task.loss.of_image

    def slow_loss(*arguments):
        now[0] += 100
        return loss_of_image(*arguments)

    monkeypatch.setattr(task.loss, "of_image", slow_loss)
    trainer = Trainer(
        tmp_path, callbacks=[Watch()], clock=lambda: now[0], max_steps=2,
        steps_per_loop=1, eval_every_steps=1, limit_eval=1, checkpoint_every_steps=1,
    )  # fmt: skip
    begin = trainer._saver._checkpoints.begin

    def slow_begin(*arguments):
        now[0] += 1000
        return begin(*arguments)

    monkeypatch.setattr(trainer._saver._checkpoints, "begin", slow_begin)
    trainer.fit(task, make_data())
    assert seen[:3] == [("loop", 0.0), ("eval", 101.0), ("loop", 1101.0)]
