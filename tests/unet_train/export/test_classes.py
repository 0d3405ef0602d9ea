"""Exports of several classes: the same labels, and their names."""

import json

import numpy as np
import pytest
import tensorflow as tf

from unet_train import Predictor
from unet_train.cli import main
from unet_train.export import FORMATS
from unet_train.export.run import export

NAMES = ["background", "disc", "square", "bar"]
FORMS = [each for each in FORMATS if each != "web"]  # Its page shows one class.


@pytest.fixture(scope="module")
def exported(classes_run, tmp_path_factory):
    """In small tiles, so that labels go over their seams."""
    folder = tmp_path_factory.mktemp("exported") / "shapes"
    return folder, export(classes_run, folder, formats=FORMS, tile_size=40)


def test_every_form_agrees_with_the_predictor(exported):
    _, parity = exported
    assert set(parity) == set(FORMS)
    for found in parity.values():
        assert found.photos == 3
        assert found.difference < 1e-5
        assert found.pixels == 0


def test_a_photo_goes_in_and_labels_come_out(exported, classes_run, make_shapes):
    model = tf.saved_model.load(exported[0] / "saved_model" / "1")
    example = list(make_shapes().examples())[1]
    photo = tf.io.encode_png(example.image)
    outputs = model.signatures["serving_default"](photo=photo)
    expected = Predictor.load(classes_run)(example.image)
    assert set(np.unique(expected)) == {0, 1, 2, 3}
    assert outputs["mask"].dtype == tf.uint8
    np.testing.assert_array_equal(outputs["mask"], expected)
    assert [each.decode() for each in outputs["class_names"].numpy()] == NAMES
    assert outputs["probability"].shape == (*expected.shape, 4)
    png = model.signatures["png"](photo=photo)["mask_png_bytes"]
    np.testing.assert_array_equal(tf.io.decode_png(png)[..., 0], expected)


def test_a_published_model_knows_its_classes(exported):
    folder = exported[0]
    assert "threshold" not in json.loads((folder / "metrics.json").read_text())
    assert Predictor.load(folder).class_names == tuple(NAMES[1:])
    card = (folder / "README.md").read_text()
    assert "# U-Net for disc, square and bar, pixel by pixel" in card
    assert "has the most probable one" in " ".join(card.split())
    assert "[2] are square" in card
    assert "| `class_names` | string [4] |" in card
    assert "softmax and argmax" in card


@pytest.mark.parametrize(
    ("option", "fault"),
    [("--name=cat", "`name` 'cat' is for networks of one class"),
     ("--threshold=0.3", "`threshold` 0.3 is for networks of one class"),
     ("--formats=web", "shows one class, and this network tells disc, square, bar")],
)  # fmt: skip
def test_what_is_for_one_class(classes_run, tmp_path, capsys, option, fault):
    run = f"--run_dir={classes_run}"
    assert main(["export", run, f"--output={tmp_path / 'new'}", option]) != 0
    assert fault in capsys.readouterr().err
