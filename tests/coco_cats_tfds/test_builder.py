"""The TFDS builder: contract, configurations, errors, registration."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from pycocotools.coco import COCO

from coco_cats_tfds import CocoDataError
from coco_cats_tfds.annotations import InstancesIndex
from coco_cats_tfds.built import BuiltDataset
from coco_cats_tfds.choice import Choice
from coco_cats_tfds.coco_cats_dataset_builder import (
    SPLITS,
    Builder,
    CocoCatsConfig,
)
from coco_cats_tfds.inputs import CocoFolder
from coco_cats_tfds.masks import decode_segmentation
from coco_cats_tfds.verify import verify_split


def build(root, data_dir, config=None, **options):
    builder = Builder(data_dir=data_dir, config=config)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=root, **options)
    )
    return builder


def read(builder, split):
    examples = tfds.as_numpy(builder.as_dataset(split=split))
    return sorted(examples, key=lambda example: example["image/id"])


def tfds_build(arguments, cwd):
    """`tfds build` as a user calls it, in a process that imports nothing of ours."""
    command = pathlib.Path(sys.executable).parent / "tfds"
    return subprocess.run(
        [command, "build", "coco_cats", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_contract(make_coco, tmp_path):
    root = make_coco()
    builder = build(root, tmp_path / "out")
    examples = read(builder, "train")
    assert [example["image/id"] for example in examples] == [1, 3]
    assert [example["image/filename"].decode() for example in examples] == [
        "000000000001.jpg",
        "000000000003.jpg",
    ]
    for example in examples:
        assert example["image"].shape == (20, 30, 3)
        assert example["segmentation_mask"].shape == (20, 30, 1)
        assert example["segmentation_mask"].sum() == 36  # The square of 6 x 6.
    assert builder.info.splits["validation"].num_examples == 2
    assert builder.info.citation.startswith("@inproceedings{lin2014")


def test_images_keep_their_bytes(make_coco, tmp_path):
    root = make_coco()
    builder = build(root, tmp_path / "out")
    records = builder.as_dataset(
        split="train", decoders={"image": tfds.decode.SkipDecoding()}
    )
    for record in tfds.as_numpy(records):
        name = record["image/filename"].decode()
        assert record["image"] == (root / "train2017" / name).read_bytes()


def test_either_category_counts(make_coco, tmp_path):
    config = CocoCatsConfig(name="pets", categories=["cat", "dog"])
    builder = build(make_coco(), tmp_path / "out", config)
    assert [each["image/id"] for each in read(builder, "train")] == [1, 2, 3]


def test_command_from_any_directory_and_load_without_import(make_coco, tmp_path):
    root, out = make_coco(), tmp_path / "out"
    config = json.dumps({"name": "pets", "categories": ["cat", "dog"]})
    for extra in ([], ["--config", config]):
        done = tfds_build(
            ["--manual_dir", root, "--data_dir", out, *extra], cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr[-2000:]
    program = (
        "import sys, tensorflow_datasets as tfds\n"
        f"for name in ('coco_cats', 'coco_cats/pets'):\n"
        f"    print(len(list(tfds.load(name, split='train', data_dir={str(out)!r}))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.split() == ["2", "3"], done.stderr[-2000:]


def test_command_beside_a_folder_of_that_name(make_coco, tmp_path):
    """As the documentation advises, since TFDS takes the folder for a path."""
    (tmp_path / "coco_cats").mkdir()
    arguments = ["--manual_dir", make_coco(), "--data_dir", "."]
    done = tfds_build([*arguments, "--imports", "coco_cats_tfds"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert list(tmp_path.glob("coco_cats/cats/1.0.0/dataset_info.json"))


def test_command_reports_unknown_category(make_coco, tmp_path):
    config = json.dumps({"name": "kittens", "categories": ["kitten", "cta"]})
    done = tfds_build(
        ["--manual_dir", make_coco(), "--data_dir", tmp_path / "o", "--config", config],
        cwd=tmp_path,
    )
    assert done.returncode != 0
    assert "Unknown category 'kitten'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "o").glob("coco_cats/*/*/dataset_info.json"))


def test_faulty_image_stops_the_build_and_leaves_nothing(make_coco, tmp_path):
    root = make_coco()
    (root / "train2017" / "000000000003.jpg").unlink()
    with pytest.raises(CocoDataError, match="Image 3 is listed but"):
        build(root, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.tfrecord*"))


def test_a_name_stands_for_one_choice_only(make_coco, tmp_path):
    root, out = make_coco(), tmp_path / "out"
    build(root, out, CocoCatsConfig(name="pets", categories=["cat"]))
    other = CocoCatsConfig(name="pets", categories=["dog"])
    with pytest.raises(CocoDataError, match=r"was built with .*'cat'.* not with .*dog"):
        build(root, out, other)
    with pytest.raises(CocoDataError, match="another name, or build with --overwrite"):
        Builder(data_dir=out, config=other).as_dataset(split="train")
    with pytest.raises(CocoDataError, match="another name, or build with --overwrite"):
        Builder(data_dir=out, config=other).as_data_source(split="train")
    with pytest.raises(ValueError, match="Cannot name a custom BuilderConfig the same"):
        build(root, out, CocoCatsConfig(name="cats", categories=["dog"]))
    config = CocoCatsConfig(name="pets", categories=["cat"])
    assert len(read(build(root, out, config), "train")) == 2


def test_a_trial_is_not_taken_for_the_whole(make_coco, tmp_path, capsys):
    """A build of the first images says so when it is built, read and built again."""
    root, out = make_coco(), tmp_path / "out"
    trial = build(root, out, max_examples_per_split=1)
    assert "left out: 1 images that are beyond the limit" in capsys.readouterr().out
    assert trial.info.metadata["choice"]["limit"] == 1
    assert [each["image/id"] for each in read(trial, "train")] == [1]
    assert len(read(build(root, out, max_examples_per_split=1), "train")) == 1
    with pytest.raises(CocoDataError, match=r"'limit': 1.*build with --overwrite"):
        build(root, out)
    with pytest.warns(UserWarning, match="is a trial: it holds 1 images of a split"):
        assert len(read(Builder(data_dir=out), "train")) == 1
    for split, coco_split in SPLITS.items():
        verdict = verify_split(
            BuiltDataset(trial.data_path), split, CocoFolder(root), coco_split
        )
        assert (verdict.masks, verdict.images, verdict.faults) == (1, 1, [])
    mode = tfds.GenerateMode.REUSE_CACHE_IF_EXISTS
    whole = build(root, out, download_mode=mode)
    assert "limit" not in whole.info.metadata["choice"]
    assert len(read(whole, "train")) == 2


def test_a_trial_of_nothing_is_refused(make_coco, tmp_path):
    with pytest.raises(CocoDataError, match="a dataset without images"):
        build(make_coco(), tmp_path / "out", max_examples_per_split=0)


def test_a_build_of_before_a_field_was_there_is_read_on(make_coco, tmp_path):
    root, out = make_coco(), tmp_path / "out"
    path = pathlib.Path(build(root, out).data_path) / "metadata.json"
    metadata = json.loads(path.read_text())
    del metadata["choice"]["licenses"]
    path.write_text(json.dumps(metadata))
    assert len(read(build(root, out), "train")) == 2
    assert BuiltDataset(path.parent).choice == Choice()


def test_overwrite_replaces_another_choice(make_coco, tmp_path):
    root, out = make_coco(), tmp_path / "out"
    build(root, out, CocoCatsConfig(name="pets", categories=["cat"]))
    config = json.dumps({"name": "pets", "categories": ["dog"]})
    done = tfds_build(
        ["--manual_dir", root, "--data_dir", out, "--config", config, "--overwrite"],
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    info = tfds.builder("coco_cats/pets", data_dir=out).info
    assert info.metadata["choice"]["categories"] == ["dog"]


@pytest.mark.parametrize("kind", ["absent", "empty", "file"])
def test_a_manual_dir_that_is_none(tmp_path, kind):
    """It never falls back to the net."""
    root = tmp_path / "coco"
    if kind == "empty":
        root.mkdir()
    if kind == "file":
        root.write_text("")
    with pytest.raises(CocoDataError, match=r"coco does not exist|instances_train2017"):
        build(root, tmp_path / "out")


def test_a_split_without_the_categories_is_named(make_coco, tmp_path):
    config = CocoCatsConfig(name="bears", categories=["teddy bear"])
    with pytest.raises(CocoDataError, match=r"No image in .*train2017.*teddy bear"):
        build(make_coco(), tmp_path / "out", config)


def test_missing_layout_is_named(tmp_path):
    (tmp_path / "coco" / "images").mkdir(parents=True)
    with pytest.raises(CocoDataError, match="annotations/instances_train2017"):
        build(tmp_path / "coco", tmp_path / "out")


@pytest.mark.parametrize(
    ("folder", "counts"),
    [
        ("coco_real", {"train": 6, "validation": 6}),
        # 700 images, of which one (id 434) has no annotation.
        ("feral_cats", {"train": 699, "validation": 195}),
    ],
)
def test_real_data(test_data, tmp_path, folder, counts):
    root = test_data / folder
    builder = build(root, tmp_path / "out")
    for split, coco_split in SPLITS.items():
        assert builder.info.splits[split].num_examples == counts[split]
        coco = COCO(root / "annotations" / f"instances_{coco_split}.json")
        for example in read(builder, split):
            expected = np.zeros(example["image"].shape[:2], np.uint8)
            for annotation in coco.imgToAnns[int(example["image/id"])]:
                if annotation["category_id"] == 17:
                    assert not annotation["iscrowd"]
                    expected |= coco.annToMask(annotation)
            np.testing.assert_array_equal(
                example["segmentation_mask"][..., 0], expected
            )


def test_real_crowds_of_every_category(test_data):
    """All 811 annotations, the 19 crowds among them, decode as pycocotools does."""
    seen = crowds = 0
    for coco_split in SPLITS.values():
        path = test_data / "coco_real" / "annotations" / f"instances_{coco_split}.json"
        coco, index = COCO(path), InstancesIndex.load(path)
        for annotation in index.annotations:
            image = index.images[annotation.image_id]
            found = decode_segmentation(
                annotation, height=image.height, width=image.width
            )
            expected = coco.annToMask(coco.anns[annotation.id])
            np.testing.assert_array_equal(found, expected)
            seen, crowds = seen + 1, crowds + annotation.iscrowd
    assert (seen, crowds) == (811, 19)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_splits_by_other_names(name, make_coco, tmp_path):
    """Records are the same; the names of the files are not in them."""
    root = make_coco()
    expected = [*tfds.as_numpy(build(root, tmp_path / "a").as_dataset(split="all"))]
    for split, other in (("train2017", "train"), ("val2017", name)):
        (root / split).rename(root / other)
        folder = root / "annotations"
        instances = folder / f"instances_{split}.json"
        instances.rename(folder / f"instances_{other}.json")
    found = [*tfds.as_numpy(build(root, tmp_path / "b").as_dataset(split="all"))]
    assert len(found) == len(expected) > 0
    for one, another in zip(expected, found, strict=True):
        assert one["image/id"] == another["image/id"]
        np.testing.assert_array_equal(one["image"], another["image"])
        np.testing.assert_array_equal(
            one["segmentation_mask"], another["segmentation_mask"]
        )
