"""A task with scores of its own goes through all that looks at scores."""

import dataclasses
import io
import json

import numpy as np
import pytest
import rich.console
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from unet_core import UNetConfig, build_unet
from unet_train import Callback, Predictor, SegmentationTask, Trainer
from unet_train.callbacks import BestModels, EarlyStopping, Progress, TensorBoard
from unet_train.data.share import Share
from unet_train.options import TrainerOptions
from unet_train.scoring.accumulator import Monitor, evaluate
from unet_train.training.devices import configure


class Brier:
    """The mean square of what probabilities are off, and the share of sure pixels."""

    def __init__(self):
        self.squares = self.sure = self.pixels = 0

    def add(self, example, prediction):
        mask = example.mask[..., 0]
        values = prediction[mask != 255]
        self.squares += float(((values - (mask[mask != 255] == 1)) ** 2).sum())
        self.sure += int((np.abs(values - 0.5) > 0.3).sum())
        self.pixels += values.size

    def merge(self, other):
        self.squares += other.squares
        self.sure += other.sure
        self.pixels += other.pixels

    def result(self):
        pixels = self.pixels or 1
        return {"brier": self.squares / pixels, "sure": self.sure / pixels}


class Calibrated(SegmentationTask):
    """Foreground against background, judged by its probabilities."""

    monitor = Monitor("brier", "min")

    def make_scores(self):
        return Brier()


def test_what_cannot_go_to_other_machines_is_refused():
    """Before the first step, and not at the first validation."""
    task = Calibrated(build_unet(UNetConfig(depth=1, base_filters=2)))
    options = TrainerOptions(max_steps=1)
    place = configure(options)
    two = dataclasses.replace(place, share=Share(workers=2))
    two.check(task, options)
    scores = Brier()
    scores.weigh = lambda mask: mask
    task.make_scores = lambda: scores
    place.check(task, options)
    with pytest.raises(ValueError, match="cannot be sent: .*lambda.*__getstate__"):
        two.check(task, options)


class Notes(Callback):
    def __init__(self):
        self.scores = {}

    def on_eval_end(self, run, scores):
        self.scores[run.step] = scores


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_dir):
    """A run with validations at steps 4, 8 and at its end, 12."""
    from unet_train import SegmentationData

    run_dir = tmp_path_factory.mktemp("custom") / "run"
    data = SegmentationData(
        "discs", data_dir=str(data_dir), tile_size=30, batch_size=2, holdout=0
    )
    notes, stream = Notes(), io.StringIO()
    progress = Progress(console=rich.console.Console(file=stream))
    callbacks = [notes, progress, TensorBoard(), BestModels(), EarlyStopping()]
    trainer = Trainer(
        run_dir, callbacks=callbacks, max_steps=12, steps_per_loop=4, eval_every_steps=4
    )
    task = Calibrated(build_unet(UNetConfig(depth=1, base_filters=4)))
    scores = trainer.fit(task, data)
    return run_dir, data, notes.scores, scores, stream.getvalue()


def test_fit_gives_its_scores(trained):
    run_dir, _, noted, scores, _ = trained
    assert list(noted) == [4, 8, 12]
    assert all(set(each) == {"brier", "sure"} for each in noted.values())
    assert {name: scores[name] for name in ("brier", "sure")} == noted[12]
    written = json.loads((run_dir / "metrics.json").read_text())
    assert written["brier"] == scores["brier"]
    assert "iou" not in written


def test_evaluate_gives_the_same(trained):
    run_dir, data, noted, _, _ = trained
    predictor = Predictor.load(run_dir)
    found = evaluate(predictor, data.examples("validation"), Brier())
    assert found == pytest.approx(noted[12], rel=1e-6)


def test_progress_prints_them(trained):
    *_, noted, _, printed = trained
    brier, sure = noted[8]["brier"], noted[8]["sure"]
    told = f"step 8  validation on 3 images: brier {brier:.3f}  sure {sure:.3f}"
    assert told in printed.splitlines()


def test_tensorboard_has_them(trained):
    run_dir, _, noted, _, _ = trained
    events = EventAccumulator(str(run_dir), {"tensors": 0}).Reload()
    for name in ("brier", "sure"):
        written = {
            each.step: float(tf.make_ndarray(each.tensor_proto))
            for each in events.Tensors(f"validation/{name}")
        }
        expected = {step: scores[name] for step, scores in noted.items()}
        assert written == pytest.approx(expected)
    assert "validation/iou" not in events.Tags()["tensors"]


def test_the_best_model_has_the_least(trained):
    run_dir, _, noted, _, _ = trained
    (best,) = (run_dir / "best").iterdir()
    least = min(noted, key=lambda step: noted[step]["brier"])
    assert best.name == f"step_{least:08d}"
    record = json.loads((best / "metrics.json").read_text())
    assert (record["monitor"], record["mode"]) == ("brier", "min")
    assert Predictor.load(run_dir, "best").threshold == 0.5


@pytest.mark.parametrize(
    ("options", "stops_at"),
    [({}, None), ({"monitor": "brier", "mode": "max"}, 2)],
)
def test_early_stopping_knows_the_direction(tmp_path, make_data, options, stops_at):
    """A score that falls is well for this task, and ill if the largest is best."""
    task = Calibrated(build_unet(UNetConfig(depth=1, base_filters=2)))
    script = iter(range(9))

    def make_scores():
        scores, number = Brier(), next(script)
        scores.result = lambda: {"brier": 1 - number / 10, "sure": 0.0}
        return scores

    task.make_scores = make_scores
    notes = Notes()
    early = EarlyStopping(patience=1, **options)
    trainer = Trainer(
        tmp_path, callbacks=[notes, early], max_steps=6, eval_every_steps=1
    )
    trainer.fit(task, make_data())
    assert max(notes.scores) == (stops_at or 6)
