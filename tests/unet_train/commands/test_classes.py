"""Several classes from the command line: fit, evaluate, predict."""

import json

import numpy as np
import PIL.Image
import pytest
import yaml
from pycocotools.coco import COCO

from unet_train.cli import main

NAMES = ["disc", "square", "bar"]


@pytest.fixture
def run_dir(classes_run):
    return classes_run


@pytest.fixture
def photo(tmp_path, shapes_dir):
    from unet_train import SegmentationData

    data = SegmentationData("shapes", data_dir=str(shapes_dir), tile_size=46)
    example = list(data.examples())[1]
    PIL.Image.fromarray(example.image).save(tmp_path / "photo.png")
    return tmp_path / "photo.png", example


def test_the_configuration_has_what_was_resolved(run_dir):
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    assert config["data"]["labels"] == {name: [i] for i, name in enumerate(NAMES, 1)}
    assert config["model"]["classes"] == 4


def test_evaluate(run_dir, capsys):
    assert main(["evaluate", f"--run_dir={run_dir}", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    scores = json.loads((run_dir / "metrics.json").read_text())
    assert list(record["classes"]) == NAMES
    assert record["mean_iou"] == pytest.approx(scores["mean_iou"])
    assert record["mean_iou"] > 0.5
    for name in NAMES:
        assert record["classes"][name]["iou"] == pytest.approx(scores[f"iou/{name}"])
        assert f"iou/{name}" in record["intervals"]
    assert record["iou"] == pytest.approx(scores["iou"])
    assert "threshold" not in record
    assert (
        "What each class was taken for"
        in (run_dir / "evaluation" / "report.html").read_text()
    )
    assert main(["evaluate", f"--run_dir={run_dir}"]) == 0
    assert "square" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--threshold=0.3"], "`threshold` 0.3 is for networks of one class"),
        (
            ['--data.labels={"disc": [1], "bar": [3], "square": [2]}'],
            "tells disc, square, bar, and the data has the classes disc, bar, square",
        ),
        (
            ['--data.labels={"disc": [1]}', "--data.background=[0,2,3]"],
            "the data has the classes disc. Give --data.labels",
        ),
    ],
)
def test_evaluate_refuses(run_dir, capsys, options, fault):
    assert main(["evaluate", f"--run_dir={run_dir}", *options]) != 0
    assert fault in capsys.readouterr().err


def test_predict(run_dir, photo, tmp_path, capsys):
    from unet_train import Predictor

    path, example = photo
    output = tmp_path / "found"
    arguments = [str(path), f"--run_dir={run_dir}", f"--output={output}"]
    arguments += ["--pictures", "mask", "overlay", "probability"]
    arguments += ["--coco", "rle", "polygons"]
    assert main(["predict", *arguments]) == 0
    labels = Predictor.load(run_dir)(example.image)
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    with PIL.Image.open(output / "photo_mask.png") as mask:
        assert mask.mode == "P"
        np.testing.assert_array_equal(np.asarray(mask), labels)
        colours = np.asarray(mask.convert("RGB"))
    assert len(np.unique(colours.reshape(-1, 3), axis=0)) == 4
    overlay = np.asarray(PIL.Image.open(output / "photo_overlay.png"))
    assert overlay.shape == example.image.shape
    told = capsys.readouterr().out
    share = (labels == 2).mean()
    assert f"square {share:.1%}" in told

    coco = COCO(str(output / "coco_images.json"))
    found = coco.loadRes(str(output / "coco_results.json"))
    for coco in (found, COCO(str(output / "coco_annotations.json"))):
        assert [each["name"] for each in coco.loadCats(coco.getCatIds())] == NAMES
        annotations = coco.loadAnns(coco.getAnnIds())
        assert [each["category_id"] for each in annotations] == [1, 2, 3]
        for each in annotations:
            mask = labels == each["category_id"]
            np.testing.assert_array_equal(coco.annToMask(each), mask)
            assert 0.25 < each["score"] <= 1


def test_predict_with_numbers_of_categories(run_dir, photo, tmp_path, capsys):
    arguments = [str(photo[0]), f"--run_dir={run_dir}", "--coco", "rle", "--pictures"]
    ids = {"disc": 37, "square": 5, "bar": 9}
    given = f"--category_ids={json.dumps(ids)}"
    output = tmp_path / "found"
    assert main(["predict", *arguments, given, f"--output={output}"]) == 0
    results = json.loads((output / "coco_results.json").read_text())
    assert [each["category_id"] for each in results] == [37, 5, 9]
    capsys.readouterr()
    wrong = '--category_ids={"disc": 1, "square": 1, "bar": 2}'
    assert main(["predict", *arguments, wrong, f"--output={output}"]) != 0
    assert "a number of its own for each of the network's" in capsys.readouterr().err
