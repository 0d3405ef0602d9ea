"""Scores of several classes against plain loops."""

import json

import numpy as np
import pytest

from unet_train.data.source import Example
from unet_train.scoring.accumulator import MaskScores
from unet_train.scoring.compare import compare, read_evaluation
from unet_train.scoring.confusion import confusion_matrix
from unet_train.scoring.counts import boundary_counts
from unet_train.scoring.evaluation import Evaluation
from unet_train.scoring.report import write_metrics, write_report

NAMES = ("cat", "dog", "bird")


@pytest.fixture
def images():
    """Masks and probabilities of four images; birds are neither there nor found."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(4):
        shape = (20 + number, 24 - number)
        labels = [0, 1, 2, 255] if number else [0, 2]
        mask = rng.choice(labels, (*shape, 1)).astype(np.uint8)
        image = np.full((*shape, 3), number, np.uint8)
        logits = rng.normal(0, 1, (*shape, 4))
        logits[..., :3] += 2 * (mask == np.arange(3))
        logits[..., 3] = -9
        powers = np.exp(logits)
        found = (powers / powers.sum(-1, keepdims=True)).astype(np.float32)
        made.append((Example(image, mask, f"photo {number}"), found))
    return made


def counted(images, label):
    """TP, FP, FN of a class, pixel by pixel."""
    counts = dict.fromkeys(["tp", "fp", "fn"], 0)
    for example, probabilities in images:
        found = probabilities.argmax(-1)
        for true, said in zip(example.mask.flat, found.flat, strict=True):
            if true != 255:
                counts["tp"] += true == label and said == label
                counts["fp"] += true != label and said == label
                counts["fn"] += true == label and said != label
    return counts["tp"], counts["fp"], counts["fn"]


def scored(images, scores):
    for example, probabilities in images:
        scores.add(example, probabilities)
    return scores


def test_scores_of_each_class(images):
    evaluation = scored(images, Evaluation(0.5, NAMES)).scores()
    flat = scored(images, MaskScores(0.5, class_names=NAMES)).result()
    ious = []
    for label, name in ((1, "cat"), (2, "dog")):
        tp, fp, fn = counted(images, label)
        expected = {
            "iou": tp / (tp + fp + fn),
            "dice": 2 * tp / (2 * tp + fp + fn),
            "precision": tp / (tp + fp),
            "recall": tp / (tp + fn),
        }
        ious.append(expected["iou"])
        for score, value in expected.items():
            assert flat[f"{score}/{name}"] == pytest.approx(value)
            assert evaluation["classes"][name][score] == pytest.approx(value)
        near = [
            boundary_counts(
                np.where(e.mask == 255, 255, e.mask == label)[..., 0].astype(np.uint8),
                p.argmax(-1) == label,
            )
            for e, p in images
        ]
        both, either = np.sum(near, axis=0)
        boundary = evaluation["classes"][name]["boundary_iou"]
        assert boundary == pytest.approx(both / either)
        assert 0 < evaluation["classes"][name]["average_precision"] < 1
        assert 0 < evaluation["classes"][name]["calibration_error"] < 0.5
    assert evaluation["classes"]["cat"]["images"] == 3
    # What is neither there nor found is left out, of the mean too.
    assert evaluation["classes"]["bird"]["iou"] is None
    assert "iou/bird" not in flat
    assert flat["mean_iou"] == evaluation["mean_iou"] == pytest.approx(np.mean(ious))
    json.dumps(evaluation, allow_nan=False)


def test_the_other_scores_are_of_whatever_class(images):
    evaluation = scored(images, Evaluation(0.5, NAMES)).scores()
    as_one = Evaluation(0.5)
    for example, probabilities in images:
        mask = np.where((example.mask == 1) | (example.mask == 2), 1, example.mask)
        one = Example(example.image, mask.astype(np.uint8), example.id)
        as_one.add(one, np.where(probabilities.argmax(-1) > 0, 0.9, 0.1))
    expected = as_one.scores()
    for name in ("iou", "dice", "precision", "recall", "boundary_iou", "per_image"):
        assert evaluation[name] == expected[name]
    assert "threshold" not in evaluation
    assert set(expected) - {"threshold"} <= set(evaluation)
    flat = scored(images, MaskScores(0.5, class_names=NAMES)).result()
    assert flat["iou"] == expected["iou"]


@pytest.mark.parametrize(
    ("mask", "found", "ious", "mean"),
    [
        ([1, 1, 2], [1, 1, 0], [1.0, 0.0, None], 0.5),  # A dog that was missed.
        ([1, 1, 0], [1, 1, 2], [1.0, 0.0, None], 0.5),  # One that is not there.
        ([1, 1, 255], [1, 1, 2], [1.0, None, None], 1.0),  # One that does not count.
        ([0, 0, 255], [0, 0, 0], [None, None, None], 1.0),
    ],
)
def test_only_what_is_neither_there_nor_found_is_left_out(mask, found, ious, mean):
    mask = np.array(mask, np.uint8)[np.newaxis, :, np.newaxis]
    probabilities = np.eye(4, dtype=np.float32)[[found]]
    image = Example(np.zeros((1, 3, 3), np.uint8), mask)
    scores = scored([(image, probabilities)], Evaluation(0.5, NAMES)).scores()
    assert [scores["classes"][name]["iou"] for name in NAMES] == ious
    # Of nothing there is none; a validation, which is compared, has a number.
    assert scores["mean_iou"] == (None if ious == [None] * 3 else mean)
    flat = scored([(image, probabilities)], MaskScores(0.5, class_names=NAMES)).result()
    assert [flat.get(f"iou/{name}") for name in NAMES] == ious
    assert flat["mean_iou"] == mean


def test_the_matrix_is_exact(images):
    evaluation = scored(images, Evaluation(0.5, NAMES))
    matrix = np.array(evaluation.scores()["confusion_matrix"])
    for label in (1, 2, 3):
        tp, fp, fn = counted(images, label)
        assert matrix[label, label] == tp
        assert matrix[:, label].sum() - tp == fp
        assert matrix[label].sum() - tp == fn
    assert matrix.sum() == sum((e.mask != 255).sum() for e, _ in images)
    assert len(evaluation.classes.matrices) == 4


@pytest.mark.parametrize("make", [Evaluation, MaskScores])
def test_parts_merge_to_the_whole(images, make):
    whole = scored(images, make(0.5, class_names=NAMES))
    first = scored(images[:1], make(0.5, class_names=NAMES))
    second = scored(images[1:], make(0.5, class_names=NAMES))
    first.merge(second)
    assert first.result() == pytest.approx(whole.result(), rel=1e-12)
    if make is Evaluation:
        assert first.scores()["classes"] == whole.scores()["classes"]
        assert first.intervals() == whole.intervals()


def test_intervals_hold_the_score_and_leave_out_what_is_nowhere(images):
    evaluation = scored(images, Evaluation(0.5, NAMES))
    intervals, scores = evaluation.intervals(), evaluation.scores()
    for name in ("cat", "dog"):
        low, high = intervals[f"iou/{name}"]
        assert low < scores["classes"][name]["iou"] < high
    low, high = intervals["mean_iou"]
    assert low < scores["mean_iou"] < high
    assert not any("bird" in name for name in intervals)


def test_a_label_above_the_classes():
    with pytest.raises(ValueError, match=r"label 3, and labels go from 0 to 2"):
        confusion_matrix(np.array([3, 0]), np.array([0, 0]), 3)
    with pytest.raises(ValueError, match=r"shape \(2,\).*shape \(3,\)"):
        confusion_matrix(np.zeros(2, np.uint8), np.zeros(3, np.uint8), 3)


def test_the_report_has_the_matrix_and_a_row_for_each_class(images, tmp_path):
    class Fixed:
        class_names = ("cat<1>", "dog", "bird")

        def __call__(self, photo):
            return images[int(photo[0, 0, 0])][1].argmax(-1).astype(np.uint8)

    evaluation = scored(images, Evaluation(0.5, Fixed.class_names))
    about = {"run": "r", "split": "s", "dataset": "d", "step": 1, "weights": "last"}
    record = write_metrics(tmp_path, evaluation, about)
    page = write_report(
        tmp_path, evaluation, record, Fixed(), lambda ps: [images[p][0] for p in ps]
    )
    text = page.read_text()
    assert "a pixel is of its most probable class" in text
    assert "What each class was taken for" in text
    assert "<td>cat&lt;1&gt;</td><td>3</td>" in text
    assert "cat<1>" not in text
    assert "mean_iou" in text


def write(folder, images, names=NAMES):
    evaluation = scored(images, Evaluation(0.5, names))
    about = {"run": folder.name, "split": "s", "dataset": "d"}
    write_metrics(folder, evaluation, about)
    return evaluation


def better(images, label):
    """One class is found more often where it is."""
    made = []
    for example, probabilities in images:
        more = probabilities.copy()
        more[..., label] += 0.4 * (example.mask[..., 0] == label)
        made.append((example, more / more.sum(-1, keepdims=True)))
    return made


def test_comparison_class_by_class(images, tmp_path):
    runs = images, better(images, 1)
    folders = tmp_path / "first", tmp_path / "second"
    evaluations = [write(*each) for each in zip(folders, runs, strict=True)]
    rows = {row.score: row for row in compare([*map(read_evaluation, folders)])}
    # Birds are nowhere; the mean and the classes come first.
    assert list(rows)[:4] == ["mean_iou", "iou/cat", "iou/dog", "iou"]
    for name, label in (("cat", 1), ("dog", 2)):
        row, ious = rows[f"iou/{name}"], []
        for run in runs:
            tp, fp, fn = counted(run, label)
            ious.append(tp / (tp + fp + fn))
        assert row.values == pytest.approx(ious)
        assert row.differences == pytest.approx([0, ious[1] - ious[0]])
    means = [each.scores()["mean_iou"] for each in evaluations]
    assert rows["mean_iou"].values == pytest.approx(means)
    low, high = rows["iou/cat"].intervals[1]
    assert 0 < low < rows["iou/cat"].differences[1] < high
    # Paired: surer than each run's own interval.
    alone = evaluations[0].intervals()["iou/cat"]
    assert high - low < alone[1] - alone[0]


def test_comparison_of_runs_that_name_their_classes_otherwise(images, tmp_path):
    write(tmp_path / "a", images)
    write(tmp_path / "b", images, ("cat", "hound", "bird"))
    rows = compare([read_evaluation(tmp_path / name) for name in ("a", "b")])
    assert [row.score for row in rows][:2] == ["iou/cat", "iou"]


def test_comparison_with_an_evaluation_from_before_classes_were_counted(
    images, tmp_path
):
    write(tmp_path / "a", images)
    record = read_evaluation(tmp_path / "a")
    old = {key: value for key, value in record.items() if key != "class_counts"}
    assert compare([record, old])[0].score == "iou"
    counts = record["class_counts"]
    assert [list(image) for image in counts] == [["cat", "dog"]] * len(images)
