"""The contract of a score, and the scores of masks."""

import pickle
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from unet_train.data.source import Example
from unet_train.scoring import accumulator
from unet_train.scoring.accumulator import MaskScores, Monitor, evaluate, predictions
from unet_train.scoring.evaluation import Evaluation


class Known:
    """A predictor of which the answers are known, by the image's first value."""

    def __init__(self, predictions):
        self.predictions = predictions
        self.threshold = 0.5

    def many(self, photos):
        return [self.predictions[int(image[0, 0, 0])] for image in photos]


@pytest.fixture
def images():
    """Examples of different sizes, and what is predicted for each."""
    rng = np.random.default_rng(0)
    examples, predictions = [], []
    for number in range(5):
        shape = (4 + number, 9 - number)
        mask = rng.choice([0, 1, 255], (*shape, 1)).astype(np.uint8)
        image = np.full((*shape, 3), number, np.uint8)
        examples.append(Example(image, mask, f"photo {number}"))
        predictions.append(rng.random(shape, np.float32))
    return examples, predictions


def summed(mask, probabilities):
    """Of one image, a loss of two parts: totals, and what they are divided by."""
    error = np.abs((mask == 1) - probabilities)[mask != 255]
    return np.float32([error.sum(), error.max()]), np.float32([error.size, 1])


@pytest.mark.parametrize(
    ("at_once", "pixels", "expected"),
    [
        (1, 10**6, [1, 1, 1, 1, 1]),
        (2, 10**6, [2, 2, 1]),
        (9, 10**6, [5]),
        (9, 80, [3, 2]),  # They have 36, 40, 42, 42 and 40.
    ],
)
def test_images_are_read_and_predicted_some_at_a_time(
    images, monkeypatch, at_once, pixels, expected
):
    monkeypatch.setattr(accumulator, "PIXELS_AT_ONCE", pixels)
    predictor, seen, read = Known(images[1]), [], []
    predict = predictor.many

    def many(photos):
        # What follows may be read meanwhile, but no further.
        assert len(read) <= sum(seen) + len(photos) + at_once
        seen.append(len(photos))
        return predict(photos)

    predictor.many = many
    examples = (read.append(each) or each for each in images[0])
    found = list(predictions([predictor], examples, at_once=at_once))
    assert [each.id for each, _ in found] == [each.id for each in images[0]]
    for (_, prediction), known in zip(found, images[1], strict=True):
        np.testing.assert_array_equal(prediction, known)
    assert [each for each in seen if each] == expected


def test_devices_take_turns_and_the_order_stays(images):
    """Both compute at once: neither ends before the other has begun."""
    both, seen = threading.Barrier(2, timeout=60), [[], []]

    def many(number):
        def many(photos):
            seen[number].append(int(photos[0][0, 0, 0]))
            if seen[number][-1] < 4:  # The fifth is alone.
                both.wait()
            time.sleep(0.02 * (1 - number))  # The first is always later.
            return known(photos)

        return many

    predictors = [Known(images[1]), Known(images[1])]
    for number, each in enumerate(predictors):
        known, each.many = each.many, many(number)
    found = list(predictions(predictors, images[0], at_once=1))
    assert seen == [[0, 2, 4], [1, 3]]
    assert [each.id for each, _ in found] == [each.id for each in images[0]]
    for (_, prediction), expected in zip(found, images[1], strict=True):
        np.testing.assert_array_equal(prediction, expected)


def test_a_fault_of_a_device_comes_out(images):
    good, bad = Known(images[1]), Known(images[1][:1])
    with pytest.raises(IndexError):
        list(predictions([good, bad], images[0], at_once=1))


@pytest.mark.parametrize(("gpus", "expected"), [([], 1), (["a GPU"], 5)])
def test_several_are_predicted_together_on_a_gpu(images, monkeypatch, gpus, expected):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: gpus)
    predictor, seen = Known(images[1]), []
    predict = predictor.many
    predictor.many = lambda photos: seen.append(len(photos)) or predict(photos)
    evaluate(predictor, images[0], MaskScores(0.5))
    assert max(seen) == expected


def test_the_loss_is_a_mean_over_all_images_together(images):
    scores = MaskScores(0.5, summed)
    found = evaluate(Known(images[1]), images[0], scores)
    errors = [
        np.abs((each.mask[..., 0] == 1) - values)[each.mask[..., 0] != 255]
        for each, values in zip(*images, strict=True)
    ]
    expected = np.concatenate(errors).mean() + np.mean([each.max() for each in errors])
    assert found["loss"] == pytest.approx(expected, rel=1e-6)
    assert list(found) == ["loss", "iou", "dice", "precision", "recall"]
    assert "loss" not in MaskScores(0.5).result()


def test_what_machines_counted_comes_together(images):
    """Sent by way of `pickle`, a loss that cannot be sent included."""
    loss = lambda mask, probabilities: summed(mask, probabilities)  # noqa: E731
    whole, parts = MaskScores(0.5, loss), [MaskScores(0.5, loss) for _ in range(3)]
    for number, (example, found) in enumerate(zip(*images, strict=True)):
        whole.add(example, found)
        parts[number % 3].add(example, found)
    together = MaskScores(0.5, loss)
    for part in parts:
        together.merge(pickle.loads(pickle.dumps(part)))
    assert together.result() == pytest.approx(whole.result(), rel=1e-12)
    assert together.counts == whole.counts


def test_the_false_area_is_that_of_an_evaluation(images):
    examples, predictions = images
    every, some = [], []
    for number, example in enumerate(examples):
        mask = np.where(example.mask == 1, 0, example.mask).astype(np.uint8)
        blank = Example(example.image, mask, example.id)
        every.append(example)
        some.append(blank if number % 2 else example)
    found = evaluate(Known(predictions), some, MaskScores(0.5))
    expected = evaluate(Known(predictions), some, Evaluation(0.5))["false_area"]
    assert 0 < found["false_area"] == pytest.approx(expected)
    assert list(found) == ["iou", "dice", "precision", "recall", "false_area"]
    assert "false_area" not in evaluate(Known(predictions), every, MaskScores(0.5))


def test_the_loss_of_nothing():
    assert MaskScores(0.5, summed).result()["loss"] == 0


@pytest.mark.parametrize(
    "make", [lambda: MaskScores(0.4, summed), lambda: Evaluation(0.4)]
)
def test_parts_merge_to_the_whole(images, make):
    whole, first, second = make(), make(), make()
    for number in (1, 3):
        images[0][number].mask[images[0][number].mask == 1] = 0
    for number, (example, values) in enumerate(zip(*images, strict=True)):
        whole.add(example, values)
        (first if number < 2 else second).add(example, values)
    assert first.result() != pytest.approx(whole.result())
    first.merge(second)
    assert first.result() == pytest.approx(whole.result(), rel=1e-12)
    np.testing.assert_array_equal(first.curve.histogram, whole.curve.histogram)
    if isinstance(whole, Evaluation):
        assert first.images == whole.images
        assert first.intervals() == whole.intervals()
        for one, other in zip(
            first.reliability.bins(), whole.reliability.bins(), strict=True
        ):
            np.testing.assert_allclose(one, other)


def test_a_pixel_at_the_threshold_is_foreground():
    mask = np.array([[[1], [0]]], np.uint8)
    example = Example(np.zeros((1, 2, 3), np.uint8), mask)
    for scores in (MaskScores(0.5), Evaluation(0.5)):
        scores.add(example, np.array([[0.5, 0.499]], np.float32))
        assert scores.result()["iou"] == 1.0


@pytest.mark.parametrize(
    ("name", "mode", "expected"),
    [
        (None, None, Monitor("error", "min")),  # The task's own.
        ("error", None, Monitor("error", "min")),
        ("error", "max", Monitor("error", "max")),
        ("loss", None, Monitor("loss", "min")),
        ("edge_loss", None, Monitor("edge_loss", "min")),
        ("false_area", None, Monitor("false_area", "min")),
        ("iou", None, Monitor("iou", "max")),
        ("iou", "min", Monitor("iou", "min")),
    ],
)
def test_name_and_direction(name, mode, expected):
    monitor = Monitor.choose(name, mode, Monitor("error", "min"))
    assert monitor == expected
    worse, better = {expected.name: 2.0}, {expected.name: 1.0}
    if expected.mode == "max":
        worse, better = better, worse
    assert monitor.of(better) > monitor.of(worse)
