"""Several classes through a training: logits, labels, scores, what is refused."""

import json

import numpy as np
import pytest
import yaml

from unet_train import Predictor, Trainer
from unet_train.callbacks import BestModels, EarlyStopping
from unet_train.scoring.accumulator import Monitor


def test_classes_are_learnt_and_told_apart(tmp_path, make_task, make_shapes):
    model = {"classes": 4, "base_filters": 8, "norm": "batch"}
    task = make_task(model, optimizer="adam", learning_rate=0.02)
    callbacks = [BestModels(monitor="iou/bar"), EarlyStopping(monitor="iou/disc")]
    data = make_shapes(tile_size=46, batch_size=4, mirror=False, foreground_share=0.5)
    trainer = Trainer(
        tmp_path, max_steps=60, eval_every_steps=30, steps_per_loop=15,
        callbacks=callbacks,
    )  # fmt: skip
    scores = trainer.fit(task, data)
    assert scores["mean_iou"] > 0.8
    of_each = [scores[f"iou/{name}"] for name in ("disc", "square", "bar")]
    assert scores["mean_iou"] == pytest.approx(np.mean(of_each))
    assert {"loss", "iou", "dice/bar", "recall/disc"} <= set(scores)
    assert "threshold" not in scores
    assert task.monitor == Monitor("mean_iou", "max")
    (best,) = tmp_path.glob("best/*/metrics.json")
    assert json.loads(best.read_text())["monitor"] == "iou/bar"

    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert config["data"]["labels"] == {"disc": [1], "square": [2], "bar": [3]}
    predictor = Predictor.load(tmp_path)
    assert predictor.class_names == ("disc", "square", "bar")
    example = next(make_shapes().examples(limit=1))
    probabilities = predictor.probabilities(example.image)
    assert probabilities.shape == (*example.mask.shape[:2], 4)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
    found = predictor(example.image)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, probabilities.argmax(-1))
    counts = example.mask[..., 0] != 255
    assert (found == example.mask[..., 0])[counts].mean() > 0.9
    with pytest.raises(ValueError, match="0.3 is for networks of one class; this one"):
        Predictor.load(tmp_path, threshold=0.3)


def test_with_all_that_a_loss_goes_through(tmp_path, make_task, make_shapes):
    """Deep supervision, border weights, accumulation, averages and float16."""
    model = {"classes": 4, "deep_supervision": 1, "depth": 2, "padding": "same"}
    options = {"loss": "ce_dice", "ema": 0.9}
    data = {"border_weight": 5.0, "copy_paste": 0.5, "tile_size": 32, "batch_size": 4}
    trainer = Trainer(tmp_path, max_steps=2, accumulate=2, precision="mixed_float16")
    scores = trainer.fit(make_task(model, **options), make_shapes(**data))
    assert np.isfinite(scores["loss"])
    assert {"mean_iou", "iou/disc"} <= set(scores)


@pytest.mark.parametrize(
    ("classes", "options", "fault"),
    [
        (1, {}, "has 1 logits a pixel, and the data has 3 classes, disc, square, bar,"
        " for which it takes 4"),
        (5, {}, "has 5 logits.*Build it with `model.classes` 4"),
        (4, {"labels": {"disc": [1]}, "background": [0, 2, 3]}, "the data has 1 class"),
        (4, {"foreground": [1, 2, 3]}, "the data has 1 classes, foreground"),
    ],
)  # fmt: skip
def test_a_model_of_another_number_of_classes(
    tmp_path, make_task, make_shapes, classes, options, fault
):
    with pytest.raises(ValueError, match=fault):
        Trainer(tmp_path, max_steps=1).fit(
            make_task({"classes": classes}), make_shapes(**options)
        )
    assert not list(tmp_path.iterdir())


def test_a_threshold_is_for_one_class(make_task):
    with pytest.raises(ValueError, match="`threshold` is for one class.*tells 3"):
        make_task({"classes": 4}, threshold=0.4)


def test_resumed_it_ends_with_the_same_weights(tmp_path, make_task, make_shapes):
    def fit(folder, steps, *, resume=False):
        trainer = Trainer(tmp_path / folder, max_steps=steps, deterministic=True)
        task = make_task({"classes": 4, "dropout": 0.2}, loss="ce_dice", ema=0.9)
        trainer.fit(task, make_shapes(copy_paste=0.5), resume=resume)
        return [weight.numpy() for weight in task.model.weights]

    unbroken = fit("whole", 4)
    broken = fit("parts", 2)
    resumed = fit("parts", 4, resume=True)
    for whole, parts in zip(unbroken, resumed, strict=True):
        np.testing.assert_array_equal(parts, whole)
    assert any(np.any(a != b) for a, b in zip(broken, resumed, strict=True))
