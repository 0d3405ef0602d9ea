"""Scores of images and their intervals, against plain loops and Keras."""

import html
import json

import keras
import numpy as np
import pytest

from unet_train.data.source import Example
from unet_train.scoring.compare import compare, read_evaluation
from unet_train.scoring.counts import ThresholdCounts
from unet_train.scoring.evaluation import (
    Evaluation,
    ImageCounts,
    average_precision,
    boundary_counts,
)
from unet_train.scoring.report import rows_of, write_metrics, write_report

ABOUT = {
    "run": "runs/<a>", "weights": "last", "step": 7, "dataset": "discs",
    "split": "validation", "threshold_from": "set for the run",
}  # fmt: skip


def make_images(count=6, seed=0, shift=0.15):
    """Masks, and probabilities that know something of them, of different sizes."""
    rng = np.random.default_rng(seed)
    images = []
    for index in range(count):
        shape = (20 + 3 * index, 31 - 2 * index)
        mask = np.zeros(shape, np.uint8)
        mask[4 : 10 + index, 3:14] = 1
        mask[:2] = 255
        noise = rng.normal(0.35, 0.2, shape) + shift * 2 * (mask == 1)
        images.append((mask, noise.clip(0, 1).astype(np.float32)))
    return images


def evaluate(images, threshold=0.5):
    evaluation = Evaluation(threshold)
    for index, (mask, probabilities) in enumerate(images):
        example = Example(mask, mask[..., None], f"image {index}")
        evaluation.add(example, probabilities)
    return evaluation


def flat(images):
    valid = [(m[m != 255] == 1, p[m != 255]) for m, p in images]
    return (np.concatenate(part) for part in zip(*valid, strict=True))


def exact_average_precision(truth, probabilities):
    """The precision at each probability that occurs, weighted by the gain in recall."""
    total = 0.0
    recall = 0.0
    for threshold in np.unique(probabilities)[::-1]:
        found = probabilities >= threshold
        gained = (found & truth).sum() / truth.sum()
        total += (gained - recall) * truth[found].mean()
        recall = gained
    return total


@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_scores_against_keras(threshold):
    images = make_images()
    scores = evaluate(images, threshold).scores()
    truth, probabilities = flat(images)
    peers = {
        "iou": keras.metrics.BinaryIoU([1], threshold),
        "dice": keras.metrics.F1Score("micro", threshold),
        "precision": keras.metrics.Precision(threshold),
        "recall": keras.metrics.Recall(threshold),
    }
    for name, peer in peers.items():
        value = peer(truth[:, np.newaxis], probabilities[:, np.newaxis])
        assert scores[name] == pytest.approx(float(value), rel=1e-6), name
    rounded = np.floor(probabilities * 256) / 256
    expected = exact_average_precision(truth, rounded)
    assert scores["average_precision"] == pytest.approx(expected, rel=1e-12)
    exact = exact_average_precision(truth, probabilities)
    assert scores["average_precision"] == pytest.approx(exact, abs=2e-3)
    ious = [evaluate([each], threshold).scores()["iou"] for each in images]
    assert scores["mean_image_iou"] == pytest.approx(np.mean(ious))
    assert scores["per_image"]["iou"]["50%"] == pytest.approx(np.median(ious))
    dices = [evaluate([each], threshold).scores()["dice"] for each in images]
    assert scores["per_image"]["dice"]["mean"] == pytest.approx(np.mean(dices))
    assert scores["per_image"]["dice"]["95%"] == np.quantile(dices, 0.95)
    assert 0 < scores["iou"] < 1


def test_calibration_error_against_a_loop():
    images = make_images()
    truth, probabilities = flat(images)
    bins = np.minimum((probabilities.astype(np.float64) * 16).astype(int), 15)
    expected = sum(
        abs(probabilities[bins == b].astype(np.float64).sum() - truth[bins == b].sum())
        for b in range(16)
    ) / len(truth)
    evaluation = evaluate(images)
    assert evaluation.scores()["calibration_error"] == pytest.approx(expected)
    pixels, stated, true = evaluation.reliability.bins()
    assert pixels.sum() == len(truth)
    assert ((stated >= 0) & (stated <= 1) & (true >= 0) & (true <= 1)).all()


def test_who_says_what_is_true_is_calibrated():
    truth = np.zeros((10, 10), np.uint8)
    truth[:3] = 1
    said = np.full((10, 10), 0.3, np.float32)
    evaluation = evaluate([(truth, said)])
    assert evaluation.scores()["calibration_error"] == pytest.approx(0, abs=1e-7)
    sure = evaluate([(truth, np.ones((10, 10), np.float32))])
    assert sure.scores()["calibration_error"] == pytest.approx(0.7)


def slow_boundary(region, ignored, distance):
    """Pixels of a region with something else, or the end, within a square."""
    height, width = region.shape
    result = np.zeros_like(region)
    for y, x in np.argwhere(region):
        for dy in range(-distance, distance + 1):
            for dx in range(-distance, distance + 1):
                there = 0 <= y + dy < height and 0 <= x + dx < width
                if not there or not (region | ignored)[y + dy, x + dx]:
                    result[y, x] = True
    return result & ~ignored


@pytest.mark.parametrize("shape", [(9, 14), (60, 80)])
def test_boundary_against_a_loop(shape):
    rng = np.random.default_rng(1)
    coarse = rng.choice([0, 1, 255], (6, 8), p=[0.45, 0.45, 0.1])
    rows, columns = (
        np.arange(size) * n // size for size, n in zip(shape, (6, 8), strict=True)
    )
    mask = coarse[rows][:, columns].astype(np.uint8)
    predicted = np.roll(mask == 1, 1, axis=1)
    distance = max(1, round(0.02 * np.hypot(*shape)))
    ignored = mask == 255
    truth, found = (
        slow_boundary(region, ignored, distance) for region in (mask == 1, predicted)
    )
    expected = np.count_nonzero(truth & found), np.count_nonzero(truth | found)
    assert boundary_counts(mask, predicted) == expected
    assert 0 < expected[0] < expected[1]


def test_empty_masks():
    nothing = np.zeros((8, 8), np.uint8)
    silent, loud = np.zeros((8, 8), np.float32), np.zeros((8, 8), np.float32)
    loud[:2] = 1
    right = evaluate([(nothing, silent)]).scores()
    assert (right["iou"], right["boundary_iou"], right["false_area"]) == (1, 1, 0)
    assert right["average_precision"] is None
    wrong = evaluate([(nothing, silent), (nothing, loud)])
    scores = wrong.scores()
    assert (scores["iou"], scores["dice"], scores["boundary_iou"]) == (0, 0, 0)
    assert scores["mean_image_iou"] == 0.5
    assert scores["images_without_foreground"] == 2
    assert scores["false_area"] == 0.125
    assert "average_precision" not in wrong.intervals()
    everything_ignored = evaluate([(np.full((8, 8), 255, np.uint8), loud)])
    assert everything_ignored.scores()["iou"] == 1
    assert evaluate([]).intervals() == {}


def test_intervals_against_drawing_one_by_one():
    images = make_images(12)
    evaluation = evaluate(images)
    rng = np.random.default_rng(5)
    ious, precisions = [], []
    for _ in range(400):
        curve = ThresholdCounts()
        tp = wrong = 0
        for i in rng.integers(0, 12, 12):
            image: ImageCounts = evaluation.images[i]
            tp += image.true_positives
            wrong += image.false_positives + image.false_negatives
            curve.add(*images[i])
        ious.append(tp / (tp + wrong))
        precisions.append(average_precision(curve))
    intervals = evaluation.intervals()
    for name, samples in (("iou", ious), ("average_precision", precisions)):
        expected = np.quantile(samples, [0.025, 0.975])
        width = expected[1] - expected[0]
        assert np.abs(intervals[name] - expected).max() < 0.25 * width
    assert intervals == evaluation.intervals()
    assert intervals != evaluation.intervals(seed=1)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.3])
def test_best_threshold_against_trying_all(shift):
    images = make_images(shift=shift)
    curve = ThresholdCounts()
    for each in images:
        curve.add(*each)
    ious = [evaluate(images, k / 256).scores()["iou"] for k in range(1, 256)]
    chosen = curve.best_threshold()
    assert ious[round(chosen * 256) - 1] == max(ious)


def test_best_threshold_lies_in_the_middle_where_several_are_as_good():
    curve = ThresholdCounts()
    curve.add(np.array([1, 0], np.uint8), np.array([0.75, 0.25], np.float32))
    # From 65/256, the first above the background, to 192/256, the foreground itself.
    assert curve.best_threshold() == (65 + (192 - 65) // 2) / 256
    assert ThresholdCounts().best_threshold() == 0.5
    nothing = ThresholdCounts()
    nothing.add(np.ones(4, np.uint8), np.zeros(4, np.float32))
    assert nothing.best_threshold() == 0.5


class Fixed:
    """A predictor that knows the answers."""

    threshold = 0.5

    def __init__(self, images):
        self._again = {m.shape: p for m, p in images}

    def many(self, photos):
        return [self._again[photo.shape[:2]] for photo in photos]

    def probabilities(self, photo):
        return self.many([photo])[0]

    def __call__(self, photo):
        return self.probabilities(photo) >= self.threshold

    class_names = ("foreground",)


def write(folder, images, **about):
    rng = np.random.default_rng(0)
    examples = [
        Example(
            rng.integers(0, 256, (*m.shape, 3)).astype(np.uint8),
            m[..., None],
            f"<{i}>",
            f"<{i}>.jpg",
        )
        for i, (m, _) in enumerate(images)
    ]
    predictor = Fixed(images)
    evaluation = Evaluation.of(predictor, examples)
    record = write_metrics(folder, evaluation, {**ABOUT, **about})
    write_report(
        *(folder, evaluation, record, predictor),
        lambda places: [examples[place] for place in places],
    )
    return evaluation


def test_files_of_an_evaluation(tmp_path):
    images = make_images(11)
    images[3] = (np.where(images[3][0] == 1, 0, images[3][0]), images[3][1])
    evaluation = write(tmp_path / "new", images)
    record = json.loads((tmp_path / "new" / "metrics.json").read_text())
    assert record["iou"] == evaluation.scores()["iou"]
    low, high = record["intervals"]["iou"]
    assert low < record["iou"] < high
    assert [each["id"] for each in record["image_counts"]] == [
        f"<{i}>" for i in range(11)
    ]
    page = (tmp_path / "new" / "report.html").read_text()
    assert 'src="data:image/jpeg;base64,' in page
    assert page.count("<figure>") == 10  # Three each, and the one without foreground.
    assert page.count("<svg") == 2
    assert "runs/&lt;a&gt;" in page
    assert "runs/<a>" not in page
    assert "http://" not in page.replace("http://www.w3.org", "").replace(
        "http://purl.org", ""
    ).replace("http://creativecommons.org", "")
    shown = page[page.index("Worst") :].split("<figcaption>")[1]
    worst = min(
        (image for image in evaluation.images if image.foreground), key=lambda i: i.iou
    )
    assert shown.startswith(f"&lt;{worst.id[1:-1]}&gt;.jpg: truth")
    assert [each["name"] for each in record["image_counts"]] == [
        f"<{i}>.jpg" for i in range(11)
    ]


def test_evaluations_from_before_images_had_names(tmp_path):
    write(tmp_path / "new", make_images(3))
    record = json.loads((tmp_path / "new" / "metrics.json").read_text())
    for each in record["image_counts"]:
        del each["name"]
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "metrics.json").write_text(json.dumps(record))
    records = [read_evaluation(tmp_path / name) for name in ("old", "new")]
    assert all(row.differences == [0.0, 0.0] for row in compare(records))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_report_of_few_images_shows_each_once(tmp_path, count):
    write(tmp_path, make_images(count))
    page = (tmp_path / "report.html").read_text()
    assert page.count("<figure>") == count


def test_memory_does_not_grow_much_with_the_images():
    """5,000 took 34 MB and, with their intervals, 106; 2 kB an image are needed."""
    import tracemalloc

    rng = np.random.default_rng(0)
    mask = rng.choice([0, 1], (8, 8, 1)).astype(np.uint8)
    example = Example(np.zeros((8, 8, 3), np.uint8), mask, "some_name.tfrecord__123")
    probabilities = rng.random((8, 8), np.float32)
    evaluation = Evaluation(0.5)
    tracemalloc.start()
    for _ in range(5000):
        evaluation.add(example, probabilities)
    held, _ = tracemalloc.get_traced_memory()
    intervals = evaluation.intervals()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 15e6
    assert peak < 60e6
    assert set(intervals) >= {"iou", "average_precision", "mean_image_iou"}


def test_false_area_is_a_mean_over_images():
    """Not a ratio of sums: a large photo counts as much as a small one."""
    evaluation = Evaluation(0.5)
    for side, wrong in ((10, 50), (100, 0)):
        found = np.zeros(side * side, np.float32)
        found[:wrong] = 1
        mask = np.zeros((side, side, 1), np.uint8)
        example = Example(np.zeros((side, side, 3), np.uint8), mask)
        evaluation.add(example, found.reshape(side, side))
    assert evaluation.scores()["false_area"] == 0.25  # Of 0.5 and 0.


def some_without_foreground(count=12):
    """Every other one has none; of some of these much is found."""
    images = make_images(count)
    for i in range(0, count, 2):
        images[i] = (np.where(images[i][0] == 1, 0, images[i][0]), images[i][1])
    return images


def test_the_interval_of_the_false_area_against_drawing_one_by_one():
    evaluation = evaluate(some_without_foreground())
    rng = np.random.default_rng(5)
    shares = [
        image.false_positives / (image.false_positives + image.true_negatives)
        for image in evaluation.images
        if not image.foreground
    ]
    samples = []
    for _ in range(400):
        drawn = rng.integers(0, 12, 12)
        samples.append(np.mean([shares[i // 2] for i in drawn if i % 2 == 0]))
    low, high = evaluation.intervals()["false_area"]
    expected = np.nanquantile(samples, [0.025, 0.975])
    width = expected[1] - expected[0]
    assert np.abs(np.array([low, high]) - expected).max() < 0.25 * width
    assert low < evaluation.scores()["false_area"] < high
    assert "false_area" not in evaluate(make_images(4)).intervals()


def test_the_false_area_stands_beside_the_iou(tmp_path):
    evaluation = write(tmp_path, some_without_foreground())
    record = json.loads((tmp_path / "metrics.json").read_text())
    names = [name for name, *_ in rows_of(record)]
    assert names[:2] == ["iou", "false_area"]
    low, high = record["intervals"]["false_area"]
    page = (tmp_path / "report.html").read_text()
    assert f"{low:.3f} to {high:.3f}" in page[page.index("<td>false_area") :]
    shown = page[page.index("Most found where there is nothing") :]
    blank = [image for image in evaluation.images if not image.foreground]
    shares = {
        image.name: image.false_positives
        / (image.false_positives + image.true_negatives)
        for image in blank
    }
    worst = sorted(shares, key=shares.get)[::-1][:3]
    captions = [
        f"{html.escape(name)}: truth, prediction; {shares[name]:.1%} of it found"
        for name in worst
    ]
    assert [shown.index(caption) for caption in captions] == sorted(
        shown.index(caption) for caption in captions
    )
    assert shown.count("<figure>") == 3


def test_comparison_of_false_areas(tmp_path):
    images = some_without_foreground()
    less = [
        (m, np.where((m == 0) & (p < 0.6), 0.1, p).astype(np.float32))
        for m, p in images
    ]
    first = write(tmp_path / "a", images).scores()["false_area"]
    second = write(tmp_path / "b", less).scores()["false_area"]
    rows = compare([read_evaluation(tmp_path / name) for name in ("a", "b")])
    row = {row.score: row for row in rows}["false_area"]
    assert row.values == [pytest.approx(first), pytest.approx(second)]
    assert row.intervals[1][0] < second - first < row.intervals[1][1] < 0
    write(tmp_path / "c", make_images(4))
    rows = compare([read_evaluation(tmp_path / "c")] * 2)
    assert "false_area" not in {row.score for row in rows}


def test_comparison_is_paired(tmp_path):
    images = make_images(12)
    # A little better on every image: sure, though the images differ much.
    better = [
        (m, np.where((m == 1) & (p > 0.45), 0.9, p).astype(np.float32))
        for m, p in images
    ]
    first = write(tmp_path / "a", images)
    second = write(tmp_path / "b" / "evaluation", better)
    rows = compare([read_evaluation(tmp_path / name) for name in ("a", "b")])
    iou = {row.score: row for row in rows}["iou"]
    difference = second.scores()["iou"] - first.scores()["iou"]
    assert iou.differences == [0.0, pytest.approx(difference)]
    low, high = iou.intervals[1]
    assert 0 < low < difference < high
    alone = first.intervals()["iou"]
    assert high - low < alone[1] - alone[0]
