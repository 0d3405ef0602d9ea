"""The doctor from Python, and what it says of a run that is not good."""

import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pytest

from unet_train import doctor
from unet_train.doctor import Scope, examine
from unet_train.options import TrainerOptions


def spoilt(folder):
    """As version 0.1.0 drew it."""
    info = PIL.PngImagePlugin.PngInfo()
    info.add_text("Software", "unet-train doctor")
    path = folder / "alignment.png"
    PIL.Image.new("RGB", (2, 2)).save(path, format="PNG", pnginfo=info)
    return path


def test_from_python(make_task, make_data, tmp_path):
    lines = []
    found = examine(
        make_task(), make_data(), TrainerOptions(max_steps=10),
        Scope(images=4, steps=4), tell=lines.append,
    )  # fmt: skip
    assert [finding.check for finding in found.findings] == [
        "data", "mask values", "foreground", "alignment", "gpu", "precision", "memory",
        "output layer", "learning", "time",
    ]  # fmt: skip
    assert found.is_healthy
    assert found.conclusion.startswith("Healthy: ")
    assert lines[:2] == [
        "looking at 4 images of each split",
        "learning one batch by heart, at most 4 steps or 10 minutes",
    ]
    path = spoilt(tmp_path)
    assert doctor.write_drawings(tmp_path, found.drawings) == [str(path)]
    with PIL.Image.open(path) as picture:
        np.testing.assert_array_equal(picture, found.drawings["alignment.png"])


def test_what_is_slow_is_named_before_it(make_task, make_data, monkeypatch):
    from unet_train.doctor import examination

    lines = []
    monkeypatch.setattr(examination, "processor_flags", lambda: {"avx2"})
    found = examine(
        make_task(), make_data(),
        TrainerOptions(max_steps=10, precision="mixed_bfloat16"),
        Scope(images=2, steps=2), tell=lines.append,
    )  # fmt: skip
    assert lines[1].startswith("this processor emulates bfloat16")
    assert "Worth a look: precision" in found.conclusion


def test_a_batch_that_does_not_divide(make_task, make_data):
    options = TrainerOptions(max_steps=10, accumulate=3)
    with pytest.raises(ValueError, match="cannot compute in 3 equal parts"):
        examine(make_task(), make_data(batch_size=4), options)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"images": 1}, "`images` must be at least 2. Received: 1"),
        ({"steps": 0}, "`steps` must be at least 2. Received: 0"),
        ({"minutes": 0.0}, "`minutes` must be above 0. Received: 0.0"),
    ],
)
def test_impossible_scopes(options, text):
    with pytest.raises(ValueError) as error:
        Scope(**options)
    assert str(error.value) == text


def test_pictures_of_others_are_left_alone(tmp_path):
    path = tmp_path / "logits.png"
    path.write_bytes(b"mine")
    drawings = {"alignment.png": np.zeros((2, 2, 3), np.uint8)}
    with pytest.raises(ValueError, match="was not drawn by `unet-train doctor`"):
        doctor.write_drawings(tmp_path, drawings)
    assert list(tmp_path.iterdir()) == [path]


def scores_of_a_run(blank, painted):
    """IoU 0.55 on one photo; of each blank one a share is painted."""
    scores = doctor.Scores(0.5)
    mask = np.repeat(np.array([1, 0], np.uint8), [100, 900])
    found = np.zeros(1000, np.float32)
    found[45:100] = 0.9
    scores.add(mask, found)
    for _ in range(blank):
        found = np.zeros(1000, np.float32)
        found[: round(1000 * painted)] = 0.7
        scores.add(np.zeros(1000, np.uint8), found)
    return scores


def test_a_run_of_which_nothing_is_broken_is_not_called_good():
    scores = scores_of_a_run(blank=0, painted=0)
    ok = doctor.Finding("logits", "ok", "well")
    assert doctor.conclude([ok], str(scores)) == (
        "Nothing is broken. How good it is is another matter: IoU 0.55 on 1 validation"
        " images."
    )
    scores = scores_of_a_run(blank=3, painted=0.2)
    warning = doctor.Finding("threshold", "warning", "off")
    assert doctor.conclude([ok, warning], str(scores)) == (
        "Nothing is broken. Worth a look: threshold. How good it is is another matter:"
        " IoU 0.08 on 4 validation images, and 20.0% of the area of the 3 without"
        " foreground is painted."
    )
    fault = doctor.Finding("threshold", "fault", "it is off", "Mend it.")
    assert "another matter" not in doctor.conclude([fault], str(scores))


def test_scores_of_no_numbers():
    scores = doctor.Scores(0.5)
    scores.add(np.array([0, 1], np.uint8), np.full(2, np.nan, np.float32))
    assert scores.logits.not_finite == 2
    assert (scores.counts.pixels, scores.found, scores.curve.pixels) == (0, 0, 0)
    assert doctor.check_logits(scores, training_iou=0.0).verdict == "fault"
    assert str(doctor.Scores(0.5)) == "IoU 1.00 on 0 validation images"
