"""What the doctor says of several classes."""

import json

import numpy as np
import pytest

from unet_train import doctor
from unet_train.cli import main
from unet_train.data.source import Example
from unet_train.doctor import Scores
from unet_train.options import DataOptions

PETS = DataOptions(labels={"cat": [1], "dog": [2, 3], "bird": [4]})


def survey(*images, options=PETS):
    """Of masks with so many pixels of each value."""
    values = np.zeros((len(images), 256), np.int64)
    for row, counts in zip(values, images, strict=True):
        for value, count in counts.items():
            row[value] = count
    return doctor.Survey(options, values, [], [])


def test_how_much_there_is_of_each_class():
    images = {0: 60, 1: 10, 2: 20, 3: 10}, {0: 90, 4: 10, 255: 7}
    finding = doctor.check_classes(survey(*images))
    assert finding.verdict == "ok"
    assert "cat 5.0% in 1, dog 15.0% in 1, bird 5.0% in 1" in finding.text
    found = doctor.check_foreground(survey(*images))
    assert "25.0% of the labelled pixels are foreground" in found.text
    assert [each.verdict for each in doctor.check_values(survey(*images))] == ["ok"] * 2


def test_a_class_that_is_nowhere():
    finding = doctor.check_classes(survey({0: 90, 1: 10}, {0: 50, 2: 50}))
    assert finding.verdict == "warning"
    assert finding.text.startswith("bird in none of the images")
    assert "--data.labels" in finding.cure


@pytest.mark.parametrize(
    ("counts", "text", "cure"),
    [
        ({0: 9, 7: 1}, "the masks are of 0 and 7, so that they tell", "leave"),
        ({0: 9, 1: 1, 7: 1}, r"the values [7] of the masks are not named", "labels"),
        ({0: 9, 255: 1}, "the masks are of 0 and 255, so that they tell", "Leave"),
    ],
)
def test_values_out_of_range_and_masks_of_0_and_255(counts, text, cure):
    *_, finding = doctor.check_values(survey(counts))
    assert finding.verdict == "fault"
    assert text in finding.text
    assert "{'cat': [1], 'dog': [2, 3], 'bird': [4]}" in finding.text
    assert cure.lower() in finding.cure.lower()


def scores_of(found):
    """Of one photo whose truth is cat, dog, dog, background; what was found."""
    scores = Scores(0.5, ("cat", "dog", "bird"))
    probabilities = np.eye(4, dtype=np.float32)[np.array([found])] * 0.9 + 0.025
    scores.add(np.array([[1, 2, 2, 0]], np.uint8), probabilities)
    return scores


def test_a_class_that_is_never_predicted():
    finding = doctor.check_classes_found(scores_of([1, 1, 1, 0]))
    assert finding.verdict == "warning"
    assert finding.text.startswith("dog never predicted")
    assert "cat 0.33, dog 0.00" in finding.text
    assert "bird" not in finding.text
    fine = doctor.check_classes_found(scores_of([1, 2, 0, 0]))
    assert (fine.verdict, fine.text) == ("ok", "IoU of each class: cat 1.00, dog 0.50")
    assert doctor.check_classes_found(scores_of([0, 0, 0, 3])).verdict == "fault"
    assert str(scores_of([1, 2, 0, 0])).startswith("mean IoU of the classes 0.75, IoU")


def test_of_a_run(classes_run, tmp_path, capsys):
    output = f"--output={tmp_path / 'pictures'}"
    status = main(
        ["doctor", f"--run_dir={classes_run}", "--images=5", "--json", output]
    )
    found = json.loads(capsys.readouterr().out)
    checks = {each["check"]: each for each in found["findings"]}
    assert status == 0, found
    assert "threshold" not in checks
    assert "disc" in checks["classes"]["text"]
    assert "mean IoU of the classes" in found["conclusion"]


def test_before_training(shapes_dir, tmp_path, capsys):
    options = [
        "--data.name=shapes", f"--data.data_dir={shapes_dir}", "--data.tile_size=46",
        "--data.batch_size=2", "--model.depth=1", "--model.base_filters=8",
        "--task.learning_rate=0.02", "--trainer.max_steps=5", "--images=4",
        "--steps=40", "--json", f"--output={tmp_path / 'pictures'}",
    ]  # fmt: skip
    main(["doctor", *options])
    found = json.loads(capsys.readouterr().out)
    checks = {each["check"]: each for each in found["findings"]}
    assert checks["learning"]["verdict"] == "ok"
    assert checks["output layer"]["verdict"] == "ok"


def test_an_example_with_classes_has_an_outline():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 50, (90, 90, 3)).astype(np.uint8)
    mask = np.zeros((90, 90, 1), np.uint8)
    mask[20:40, 20:40], mask[50:70, 50:70] = 2, 3
    image[mask[..., 0] > 0] += 150
    drawn = doctor.alignment.draw_alignment([Example(image, mask)])
    assert (drawn == [255, 255, 0]).all(-1).sum() > 100
