"""The threshold: chosen on images that are not trained on, kept, used."""

import json

import numpy as np
import pytest

from unet_train import Predictor, SegmentationData, Trainer
from unet_train.callbacks import BestModels, Progress
from unet_train.runs.load import best_folder, load_trained
from unet_train.scoring.counts import ThresholdCounts


@pytest.mark.parametrize(
    ("holdout", "expected"), [(0, 0), (0.01, 1), (0.4, 3), (0.99, 6)]
)
def test_share_of_the_images(make_data, holdout, expected):
    data = make_data(holdout=holdout)
    assert data.holdout_count() == expected  # Of seven; one is left to train on.
    assert data.steps_per_epoch() == (7 - expected) / 2


def red(examples):
    """Which images these are: the red channel tells (conftest.py)."""
    return [int(example.image[0, 0, 0]) for example in examples]


def test_held_out_images_are_not_trained_on(make_data):
    data = make_data(holdout=0.4, batch_size=1, tile_size=20)
    held_out = red(data.holdout_examples())
    assert len(held_out) == 3
    batches = data.train_batches(margin=2, seed=0).take(12)
    trained = {int(images[0, 0, 0, 0]) for images, _ in batches}
    assert trained | set(held_out) == set(red(data.examples("train")))
    assert not trained & set(held_out)
    assert red(data.holdout_examples(limit=2)) == held_out[:2]
    names = {example.id for example in data.holdout_examples()}
    ids = {
        name
        for step in range(12)
        for name in data.ids_of_batch(step, seed=0, limit=None, repeat_batches=None)
    }
    assert not names & ids


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_dir):
    """A run that was validated, and one of its checkpoints is not the last."""
    from unet_core import UNetConfig, build_unet
    from unet_train import SegmentationTask

    run_dir = tmp_path_factory.mktemp("threshold") / "run"
    trainer = Trainer(
        run_dir, max_steps=6, eval_every_steps=2, checkpoint_every_steps=3
    )
    model = build_unet(UNetConfig(depth=1, base_filters=4, norm_momentum=0.5))
    data = SegmentationData(
        "discs", data_dir=str(data_dir), tile_size=30, batch_size=2, holdout=0.4
    )
    trainer.fit(SegmentationTask(model), data)
    return run_dir, data


def best_on(data, predictor):
    curve = ThresholdCounts()
    for example in data.holdout_examples():
        curve.add(example.mask[..., 0], predictor.probabilities(example.image))
    return curve.best_threshold()


def test_it_is_the_best_on_the_held_out_images(trained):
    run_dir, data = trained
    predictor = Predictor.load(run_dir)
    assert predictor.threshold == best_on(data, predictor)
    scores = json.loads((run_dir / "metrics.json").read_text())
    assert scores["threshold"] == predictor.threshold


def test_a_checkpoint_has_it(trained):
    run_dir, _ = trained
    of_end = load_trained(run_dir)
    for step in (3, 6):
        state = run_dir / "checkpoints" / f"step_{step:08d}" / "state.json"
        assert 0 < json.loads(state.read_text())["task"]["threshold"] < 1
    # Without the finished model and its scores, the last checkpoint is used.
    (run_dir / "metrics.json").rename(run_dir / "away.json")
    try:
        of_checkpoint = load_trained(run_dir)
    finally:
        (run_dir / "away.json").rename(run_dir / "metrics.json")
    assert of_checkpoint.threshold == of_end.threshold
    assert of_checkpoint.step == of_end.step == 6
    for a, b in zip(of_checkpoint.model.weights, of_end.model.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_users_own_comes_first(trained, tmp_path, make_task, make_data):
    run_dir, _ = trained
    assert Predictor.load(run_dir, threshold=0.9).threshold == 0.9
    with pytest.raises(ValueError, match=r"between 0 and 1. Received: 90"):
        Predictor.load(run_dir, threshold=90)
    task = make_task(threshold=0.7)
    scores = Trainer(tmp_path, max_steps=1).fit(task, make_data(holdout=0.4))
    assert scores["threshold"] == task.threshold == 0.7
    # It may be changed when the run goes on.
    task = make_task(threshold=0.6)
    trainer = Trainer(tmp_path, max_steps=2)
    assert trainer.fit(task, make_data(holdout=0.4), resume=True)["threshold"] == 0.6


def test_without_held_out_images_it_is_a_half(tmp_path, make_task, make_data):
    scores = Trainer(tmp_path, max_steps=1).fit(make_task(), make_data(holdout=0))
    assert scores["threshold"] == 0.5


def test_images_without_foreground_are_scored_in_every_place(
    make_task, make_data, tmp_path, capsys
):
    """Metrics, progress and the best model, which finds the least on them."""
    data = make_data(foreground=[7], background=[0, 1])
    callbacks = [Progress(), BestModels(monitor="false_area", keep=9)]
    trainer = Trainer(
        tmp_path / "run", callbacks=callbacks, max_steps=4, eval_every_steps=2
    )
    trainer.fit(make_task(threshold=0.5), data)
    record = json.loads((tmp_path / "run" / "metrics.json").read_text())
    printed = " ".join(capsys.readouterr().out.split())
    assert f"false_area {record['false_area']:.3f}" in printed
    saved = [
        json.loads(path.read_text())
        for path in (tmp_path / "run" / "best").glob("*/metrics.json")
    ]
    assert [each["mode"] for each in saved] == ["min", "min"]
    least = min(saved, key=lambda each: each["false_area"])
    assert best_folder(tmp_path / "run").name == f"step_{least['step']:08d}"


def test_with_a_limit_the_last_validation_is_compared_on_the_same_images(
    tmp_path, make_task, make_both
):
    """Of both datasets, though `metrics.json` is of all images."""
    from unet_train import Callback
    from unet_train.scoring.accumulator import evaluate

    told = []

    class Listen(Callback):
        def on_eval_end(self, run, scores):
            told.append((run.evaluated_images, scores))

    data = make_both(0.5)
    trainer = Trainer(
        tmp_path, max_steps=4, eval_every_steps=2, limit_eval=10, callbacks=[Listen()]
    )
    task = make_task()
    final = trainer.fit(task, data)
    assert [images for images, _ in told] == [10, 10]
    assert final["images"] == 43
    predictor = Predictor.load(tmp_path)
    found = evaluate(predictor, data.examples(limit=10), task.make_scores())
    assert told[-1][1]["iou"] == pytest.approx(found["iou"])
    assert final["iou"] != found["iou"]
