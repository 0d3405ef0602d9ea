"""Early stopping, best models and profiles, in runs and by themselves."""

import io
import json
import pathlib
from unittest import mock

import keras
import numpy as np
import PIL.Image
import pytest
import rich.console

from unet_train import Callback, Predictor, Trainer
from unet_train.callbacks import BestModels, EarlyStopping, Profile, Progress, Run
from unet_train.cli import main
from unet_train.runs.load import best_folder
from unet_train.scoring.accumulator import MaskScores, Monitor

PHOTO = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)


@pytest.fixture
def run(tmp_path):
    """A run for callbacks that need little of it; its model is a folder's number."""
    model = mock.Mock()
    model.save = lambda path: pathlib.Path(path).write_text("weights")
    return Run(
        directory=tmp_path, task=mock.Mock(monitor=Monitor("iou")), data=mock.Mock(),
        predictor=mock.Mock(model=model, settings={"threshold": 0.4}),
        options=mock.Mock(), batch_size=2, steps_per_epoch=10.0, evaluated_images=8,
    )  # fmt: skip


@pytest.fixture
def fit(tmp_path, make_task, make_data):
    """Trains with scripted IoUs, one a validation; the other scores are honest."""

    def fit(*callbacks, ious=(), resume=False, **options):
        task = make_task({"base_filters": 2, "norm": "batch"})
        honest, script = task.make_scores, iter(ious)

        def make_scores():
            scores = honest()
            result = scores.result
            if (iou := next(script, None)) is not None:
                scores.result = lambda: {**result(), "iou": iou}
            return scores

        task.make_scores = make_scores
        options = {"steps_per_loop": 2, "eval_every_steps": 2, **options}
        trainer = Trainer(tmp_path, callbacks=callbacks, **options)
        trainer.fit(task, make_data(), resume=resume)
        return task

    return fit


class Steps(Callback):
    """Notes at which steps the run was validated."""

    def __init__(self):
        self.evaluated, self.scores = [], []

    def on_eval_end(self, run, scores):
        self.data = run.data
        self.evaluated.append(run.step)
        self.scores.append(scores)


def validations_until_stop(run, callback, scores, name="iou"):
    """After how many of the scores the run is to stop; None if it is not."""
    for count, score in enumerate(scores, 1):
        callback.on_eval_end(run, {name: score})
        if run.stop_reason:
            return count
    return None


@pytest.mark.parametrize(
    ("options", "scores", "expected"),
    [
        ({"patience": 1}, [0.5, 0.5], 2),
        ({"patience": 1}, [0.5, 0.51, 0.52, 0.53], None),
        ({"patience": 2}, [0.5, 0.4, 0.6, 0.5, 0.6], 5),
        ({"patience": 3}, [0.0, 0.0, 0.0, 0.0], 4),
        # Each is better by too little than the best; the best is not the last.
        ({"patience": 2, "min_delta": 0.1}, [0.5, 0.55, 0.59], 3),
        ({"patience": 2, "min_delta": 0.1}, [0.5, 0.55, 0.61, 0.62, 0.63], 5),
        ({"patience": 2, "min_delta": 0.1}, [0.5, 0.55, 0.61, 0.62, 0.72], None),
    ],
)
def test_patience(run, options, scores, expected):
    assert validations_until_stop(run, EarlyStopping(**options), scores) == expected


def test_the_reason_names_score_and_validations(run):
    validations_until_stop(run, EarlyStopping(patience=2), [0.25, 0.2, 0.1])
    assert run.stop_reason == "iou has not risen above 0.2500 in 2 validations"


def test_another_score(run):
    callback = EarlyStopping(monitor="recall", patience=1)
    callback.on_eval_end(run, {"iou": 0.5, "recall": 0.5})
    callback.on_eval_end(run, {"iou": 0.1, "recall": 0.6})
    assert not run.stop_reason
    callback.on_eval_end(run, {"iou": 0.9, "recall": 0.6})
    assert run.stop_reason.startswith("recall has not risen above 0.6000")


@pytest.mark.parametrize("scores", [[], [0.5], [0.5, 0.4, 0.45]])
def test_patience_survives_a_checkpoint(run, scores):
    """As JSON, at each moment."""
    first = EarlyStopping(patience=3)
    assert validations_until_stop(run, first, scores) is None
    second = EarlyStopping(patience=3)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    second.on_fit_start(run)
    assert not run.stop_reason
    more = [0.5, 0.4, 0.3, 0.2]
    whole = EarlyStopping(patience=3)
    expected = validations_until_stop(run, whole, [*scores, *more])
    run.stop_reason = ""
    found = validations_until_stop(run, second, more)
    assert found == expected - len(scores)


@pytest.mark.parametrize(
    "state",
    [
        {},
        [],
        {"best": "x", "waited": 0},
        {"best": [], "waited": 0},
        {"best": 1, "waited": {}},
    ],
)
def test_early_stopping_takes_no_other_state(state):
    with pytest.raises((LookupError, TypeError, ValueError)):
        EarlyStopping().load_state_dict(state)


@pytest.mark.parametrize("callback", [EarlyStopping, BestModels])
def test_a_score_that_is_not_there(run, callback):
    with pytest.raises(
        ValueError, match=r"no score 'IoU', only \['dice', 'iou'\]. Correct `monitor`"
    ):
        callback(monitor="IoU").on_eval_end(run, {"iou": 0.1, "dice": 0.2})


@pytest.mark.parametrize(
    ("make", "received"),
    [
        (lambda: EarlyStopping(patience=0), "Received: 0 and 0.0"),
        (lambda: EarlyStopping(min_delta=-1), "Received: 5 and -1"),
        (lambda: BestModels(keep=0), "`keep` must be at least 1. Received: 0"),
        (lambda: Profile(first_step=0), "Received: 0 and 10"),
        (lambda: Profile(steps=0), "Received: 10 and 0"),
    ],
)
def test_impossible_options(make, received):
    with pytest.raises(ValueError, match=received):
        make()


def test_a_run_stops_early_in_good_order(fit, tmp_path):
    stream, steps = io.StringIO(), Steps()
    progress = Progress(console=rich.console.Console(file=stream))
    fit(
        progress, EarlyStopping(patience=2), steps,
        ious=[0.1, 0.3, 0.2, 0.3, 0.25], max_steps=100,
    )  # fmt: skip
    # The last is the validation at the end.
    assert steps.evaluated == [2, 4, 6, 8, 8]
    assert keras.saving.load_model(tmp_path / "model.keras")
    assert json.loads((tmp_path / "metrics.json").read_text())["step"] == 8
    assert (tmp_path / "checkpoints" / "step_00000008").is_dir()
    lines = stream.getvalue().splitlines()
    assert "Stopped: iou has not risen above 0.3000 in 2 validations" in lines
    assert lines[-1].startswith("Done: 8 steps")


def test_a_run_that_stopped_early_stays_stopped(fit, tmp_path):
    early = EarlyStopping(patience=1)
    fit(early, ious=[0.3, 0.2], max_steps=100)
    again = Steps()
    fit(EarlyStopping(patience=1), again, ious=[0.9], max_steps=100, resume=True)
    assert again.evaluated == [4]  # It is scored anew, but not trained.
    # With more patience it goes on.
    longer = Steps()
    fit(
        EarlyStopping(patience=3), longer, ious=[0.1, 0.1, 0.1],
        max_steps=100, resume=True,
    )  # fmt: skip
    assert longer.evaluated == [6, 8, 8]


def test_two_of_a_class_keep_their_own_states(fit):
    def make():
        return [EarlyStopping(patience=4), EarlyStopping("recall", patience=1000)]

    first, second = make(), make()
    fit(*first, ious=[0.3, 0.2], max_steps=4)
    fit(*second, ious=[0.1], max_steps=4, resume=True)
    states = [callback.state_dict() for callback in second]
    assert states[0]["best"] == 0.3
    recall = first[1].state_dict()["best"]
    assert recall != 0.3
    # The last validation is done again; a pixel may change sides.
    assert states[1]["best"] == pytest.approx(recall, abs=0.01)


def kept(tmp_path):
    return sorted(path.name for path in (tmp_path / "best").iterdir())


def test_the_best_are_kept(run, tmp_path):
    callback = BestModels(keep=2)
    callback.on_fit_start(run)
    seen = []
    for step, score in enumerate([0.5, 0.2, 0.1, 0.6, 0.55, 0.55, 0.9], 1):
        run.step = step
        callback.on_eval_end(run, {"iou": score, "dice": 0.0})
        seen.append([int(name.removeprefix("step_")) for name in kept(tmp_path)])
    # Of two that are alike, the first stays.
    assert seen == [[1], [1, 2], [1, 2], [1, 4], [4, 5], [4, 5], [4, 7]]
    path = tmp_path / "best" / "step_00000007"
    assert json.loads((path / "metrics.json").read_text()) == {
        "iou": 0.9, "dice": 0.0, "threshold": 0.4, "images": 8, "monitor": "iou",
        "mode": "max", "step": 7,
    }  # fmt: skip
    assert (path / "model.keras").read_text() == "weights"


def test_what_is_later_than_the_step_of_a_resume_is_dropped(run, tmp_path):
    callback = BestModels(keep=3)
    for step, score in ((10, 0.3), (20, 0.4), (30, 0.5)):
        run.step = step
        callback.on_eval_end(run, {"iou": score})
    run.step = 20
    callback = BestModels(keep=3)
    callback.on_fit_start(run)
    assert kept(tmp_path) == ["step_00000010", "step_00000020"]


def test_a_model_that_was_being_written_does_not_count(run, tmp_path):
    """As a kill leaves it; the next validation of that step writes it anew."""
    partial = tmp_path / "best" / ".step_00000005.partial"
    partial.mkdir(parents=True)
    (partial / "model.keras").write_text("half")
    callback = BestModels()
    callback.on_fit_start(run)
    run.step = 5
    callback.on_eval_end(run, {"iou": 0.1})
    assert kept(tmp_path) == ["step_00000005"]


def test_the_best_model_is_the_one_that_scored_so(fit, tmp_path):
    predictions = {}

    class Predict(Callback):
        def on_eval_end(self, run, metrics):
            predictions[run.step] = run.predictor.probabilities(PHOTO)

    fit(BestModels(), Predict(), ious=[0.1, 0.8, 0.3, 0.2], max_steps=6)
    assert kept(tmp_path) == ["step_00000004"]
    best = Predictor.load(tmp_path, "best").probabilities(PHOTO)
    np.testing.assert_array_equal(best, predictions[4])
    last = Predictor.load(tmp_path).probabilities(PHOTO)
    np.testing.assert_array_equal(last, predictions[6])
    assert np.abs(best - last).max() > 1e-4


@pytest.mark.parametrize("weights", ["last", "best"])
def test_commands_take_the_best_weights(fit, tmp_path, capsys, weights):
    fit(BestModels(), ious=[0.9, 0.1, 0.2], max_steps=4, eval_every_steps=2)
    expected = Predictor.load(tmp_path, weights)
    arguments = [f"--run_dir={tmp_path}", f"--weights={weights}"]

    PIL.Image.fromarray(PHOTO).save(tmp_path / "photo.png")
    output = tmp_path / "out"
    photo = str(tmp_path / "photo.png")
    assert main(["predict", *arguments, photo, f"--output={output}"]) == 0
    mask = np.asarray(PIL.Image.open(output / "photo_mask.png"))
    np.testing.assert_array_equal(mask, 255 * expected(PHOTO))

    capsys.readouterr()
    assert main(["evaluate", *arguments, "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    recorded = tmp_path / "metrics.json"
    if weights == "best":
        recorded = tmp_path / "best" / "step_00000002" / "metrics.json"
    recorded = json.loads(recorded.read_text())
    assert scores["recall"] == recorded["recall"]
    assert scores["precision"] == recorded["precision"]


def test_the_best_by_the_least_loss(run, tmp_path):
    callback = BestModels(monitor="loss")
    for step, loss in enumerate([0.5, 0.2, 0.3], 1):
        run.step = step
        callback.on_eval_end(run, {"loss": loss, "iou": loss})
    assert kept(tmp_path) == ["step_00000002"]
    assert best_folder(tmp_path).name == "step_00000002"
    callback = BestModels(monitor="loss", keep=2)
    run.step = 4
    callback.on_eval_end(run, {"loss": 0.1, "iou": 0.1})
    assert kept(tmp_path) == ["step_00000002", "step_00000004"]
    assert best_folder(tmp_path).name == "step_00000004"


def test_early_stopping_by_the_loss_survives_a_checkpoint(run):
    first = EarlyStopping(monitor="loss", patience=2)
    assert validations_until_stop(run, first, [0.5, 0.4, 0.45], "loss") is None
    second = EarlyStopping(monitor="loss", patience=2)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert validations_until_stop(run, second, [0.41, 0.1], "loss") == 1
    assert run.stop_reason == "loss has not fallen below 0.4000 in 2 validations"


def test_the_last_validation_is_compared_on_the_same_images(fit, tmp_path):
    """Not all images against the first of them, which may be easier."""
    steps = Steps()
    fit(BestModels(keep=9), steps, max_steps=4, limit_eval=1)
    records = [
        json.loads((tmp_path / "best" / name / "metrics.json").read_text())
        for name in kept(tmp_path)
    ]
    assert {record["images"] for record in records} == {1}
    final = json.loads((tmp_path / "metrics.json").read_text())
    assert final["images"] == 3
    assert steps.scores[-1]["iou"] != final["iou"]
    of_first = Predictor.load(tmp_path)
    example = next(steps.data.examples("validation"))
    scores = MaskScores(of_first.threshold)
    scores.add(example, of_first.probabilities(example.image))
    assert steps.scores[-1]["iou"] == scores.result()["iou"]


def test_a_run_without_best_models(fit, tmp_path, capsys):
    fit(max_steps=1)
    fault = "has kept no best model. Train it with the callback"
    with pytest.raises(ValueError, match=fault):
        Predictor.load(tmp_path, "best")
    arguments = [f"--run_dir={tmp_path}", "--weights=best"]
    assert main(["evaluate", *arguments, "--json"]) == 2
    assert fault in capsys.readouterr().err
    assert main(["predict", *arguments, "x.png", f"--output={tmp_path / 'o'}"]) == 2
    assert fault in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.fixture
def profiler(monkeypatch):
    """Notes when TensorFlow's profiler is started and stopped."""
    import tensorflow as tf

    called = []
    monkeypatch.setattr(tf.profiler.experimental, "start", called.append)
    monkeypatch.setattr(tf.profiler.experimental, "stop", lambda: called.append("end"))
    return called


def rounds(run, callback, steps, size=5):
    """In which rounds of steps, counted from 1, the profiler was called."""
    logs = {"loss": np.zeros(size)}
    for step in steps:
        run.step = step
        callback.on_loop_end(run, logs)


def test_profiles_so_many_steps_once(run, profiler, tmp_path):
    callback = Profile(first_step=10, steps=7)
    rounds(run, callback, [5])
    assert profiler == []
    rounds(run, callback, [10])
    assert profiler == [str(tmp_path)]
    rounds(run, callback, [15])
    assert profiler == [str(tmp_path)]
    rounds(run, callback, [20])
    assert profiler == [str(tmp_path), "end"]
    rounds(run, callback, [25, 30, 35])
    callback.on_fit_end(run)
    callback.on_exception(run, KeyError())
    assert profiler == [str(tmp_path), "end"]


def test_a_resumed_run_beyond_the_first_step_has_no_profile(run, profiler):
    callback = Profile(first_step=10, steps=5)
    rounds(run, callback, [100, 105, 110])
    callback.on_fit_end(run)
    assert profiler == []


@pytest.mark.parametrize("hook", ["on_fit_end", "on_exception"])
def test_a_run_that_ends_ends_the_profile(run, profiler, tmp_path, hook):
    callback = Profile(first_step=10, steps=100)
    rounds(run, callback, [10])
    getattr(callback, hook)(run, *([KeyError()] if hook == "on_exception" else []))
    assert profiler == [str(tmp_path), "end"]


def test_a_profile_of_a_run(fit, tmp_path):
    fit(Profile(first_step=2, steps=2), max_steps=6)
    (profile,) = (tmp_path / "plugins" / "profile").glob("*/*.xplane.pb")
    assert b"train_loop" in profile.read_bytes()
