"""A folder that has photos to train on only, divided by the names of their files."""

import hashlib
import json
import shutil

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from coco_cats_tfds import CocoCatsConfig, CocoDataError
from coco_cats_tfds.cli import main
from coco_cats_tfds.coco_cats_dataset_builder import Builder
from coco_cats_tfds.imports import import_photos
from coco_cats_tfds.places import is_for_validation


def write_photos(root, names, name="train"):
    """A folder with one split, of photos that all show a cat."""
    folder, square = root / name, [[2, 2, 8, 2, 8, 8, 2, 8]]
    images, annotations = [], []
    for id, file_name in enumerate(names, start=1):
        path = folder / file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(id).integers(0, 256, (20, 30, 3))
        PIL.Image.fromarray(pixels.astype(np.uint8)).save(path)
        images.append({"id": id, "file_name": file_name, "height": 20, "width": 30})
        annotations.append(
            {"id": id, "image_id": id, "category_id": 1, "segmentation": square}
        )
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cat"}],
    }
    path = root / "annotations" / f"instances_{name}.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    return root


def build(root, out, validation=0.3, **fields):
    config = CocoCatsConfig(name="mine", validation=validation, **fields)
    builder = Builder(config=config, data_dir=out)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=root)
    )
    return builder


def names_in(builder, split):
    examples = tfds.as_numpy(builder.as_dataset(split=split))
    return {example["image/filename"].decode() for example in examples}


NAMES = [f"day_{n % 3}/photo_{n}.jpg" for n in range(30)]


@pytest.mark.parametrize("name", ["train", "train2017"])
def test_each_photo_is_on_the_side_that_its_name_says(tmp_path, name, capsys):
    builder = build(write_photos(tmp_path / "photos", NAMES, name), tmp_path / "out")
    sides = {split: names_in(builder, split) for split in ("train", "validation")}
    validated = {
        each
        for each in NAMES
        if int(hashlib.sha256(each[6:].encode()).hexdigest()[:12], 16) < 0.3 * 16**12
    }
    assert 3 < len(validated) < 15
    assert sides == {"train": set(NAMES) - validated, "validation": validated}
    arguments = [str(tmp_path / "out"), "--manual_dir", str(tmp_path / "photos")]
    assert main(["verify", *arguments]) == 0
    assert f"of {len(validated)} records {len(validated)} masks" in (
        capsys.readouterr().out
    )


def test_more_photos_and_a_larger_share_move_none_back(tmp_path):
    few = build(write_photos(tmp_path / "few", NAMES[:20]), tmp_path / "a")
    all_of_them = write_photos(tmp_path / "all", NAMES)
    more = build(all_of_them, tmp_path / "b")
    larger = build(all_of_them, tmp_path / "c", validation=0.5)
    before, after, at_most = (
        names_in(each, "validation") for each in (few, more, larger)
    )
    assert before == after & set(NAMES[:20])
    assert after < at_most


def test_an_import_takes_the_same_photos(tmp_path):
    root = write_photos(tmp_path / "photos", [name[6:] for name in NAMES])
    labels = [root / "annotations" / "instances_train.json"]
    imported = tmp_path / "imported"
    import_photos([root / "train"], labels, imported, validation=0.3)
    builder = build(root, tmp_path / "out")
    found = {path.name for path in (imported / "val2017").iterdir()}
    assert found == names_in(builder, "validation")


def test_verify_finds_a_photo_on_the_other_side(tmp_path, capsys):
    """The built dataset is of another share than its record says."""
    root, out = write_photos(tmp_path / "photos", NAMES), tmp_path / "out"
    build(root, out)
    path = out / "coco_cats" / "mine" / "1.0.0" / "metadata.json"
    metadata = json.loads(path.read_text())
    assert metadata["choice"]["validation"] == 0.3
    metadata["choice"]["validation"] = 0.4
    path.write_text(json.dumps(metadata))
    assert main(["verify", str(out), "--manual_dir", str(root)]) == 1
    printed = capsys.readouterr().out
    assert "is there, but the annotations do not select it" in printed
    assert "is missing" in printed


def test_what_has_a_side_of_its_own_is_not_divided(tmp_path):
    root = write_photos(tmp_path / "photos", NAMES)
    shutil.copytree(root / "train", root / "valid")
    instances = root / "annotations" / "instances_train.json"
    shutil.copy(instances, root / "annotations" / "instances_valid.json")
    with pytest.raises(CocoDataError, match=r"there is .*_valid.json. Leave"):
        build(root, tmp_path / "out")
    config = CocoCatsConfig(name="mine", validation=0.3)
    builder = Builder(config=config, data_dir=tmp_path)
    with pytest.raises(CocoDataError, match="COCO has a split of its own"):
        builder.download_and_prepare()


def test_without_a_share_the_cure_is_named(tmp_path):
    root = write_photos(tmp_path / "photos", NAMES)
    with pytest.raises(CocoDataError, match='`"validation": 0.2` has a fifth'):
        build(root, tmp_path / "out", validation=0)
    one = write_photos(tmp_path / "one", ["a.jpg"])
    fault = r"No image for validation in .*_train.json \(`validation` 0.3\).* Give"
    with pytest.raises(CocoDataError, match=fault):
        build(one, tmp_path / "out")


def test_a_class_of_one_side_alone_is_no_placeholder(tmp_path):
    """Roboflow's have no annotation in the whole file."""
    root = write_photos(tmp_path / "photos", NAMES)
    path = root / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    kitten = {"id": 2, "name": "kitten", "supercategory": "cat"}
    content["categories"].append(kitten)
    for each, image in zip(content["annotations"], content["images"], strict=True):
        each["category_id"] = 1 + is_for_validation(image["file_name"], 0.3)
    path.write_text(json.dumps(content))
    builder = build(root, tmp_path / "out", categories=["cat", "kitten"])
    count = builder.info.splits["validation"].num_examples
    assert count == sum(is_for_validation(name, 0.3) for name in NAMES)


@pytest.mark.parametrize("share", [1, -0.1, "0.2", True, float("nan")])
def test_no_share(share):
    with pytest.raises(CocoDataError, match="`validation` must be a share from 0"):
        CocoCatsConfig(name="mine", validation=share)


def test_a_share_of_numpy():
    assert CocoCatsConfig(name="mine", validation=np.float64(0.2)).validation == 0.2


def test_a_dataset_without_it_is_the_same_file_as_before(tmp_path):
    assert "validation" not in CocoCatsConfig(name="mine").as_json()
    assert not is_for_validation("any.jpg", 0.0)


def test_what_tools_write_otherwise_is_built_and_proven(tmp_path, capsys):
    """No licences but null, and run lengths that are whole numbers as floats."""
    root = write_photos(tmp_path / "photos", NAMES)
    path = root / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    content["licenses"] = None
    content["annotations"][0]["segmentation"] = {
        "size": [20.0, 30.0],
        "counts": [100.0, 40.0, 460.0],
    }
    path.write_text(json.dumps(content))
    build(root, tmp_path / "out")
    assert main(["verify", str(tmp_path / "out"), "--manual_dir", str(root)]) == 0
    assert "0 faults" in capsys.readouterr().out
