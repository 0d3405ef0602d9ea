"""Datasets of several classes: labels, names, overlaps, counts, proof."""

import hashlib
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from pycocotools.coco import COCO

from coco_cats_tfds import CocoDataError
from coco_cats_tfds.built import BuiltDataset
from coco_cats_tfds.categories import CATEGORIES
from coco_cats_tfds.cli import main
from coco_cats_tfds.coco_cats_dataset_builder import (
    SPLITS,
    Builder,
    CocoCatsConfig,
)
from coco_cats_tfds.contact_sheet import color_of, draw_sheet
from coco_cats_tfds.counts import ClassCounts
from coco_cats_tfds.inputs import CocoFolder
from coco_cats_tfds.verify import verify_split

SQUARE = [[2.0, 2.0, 8.0, 2.0, 8.0, 8.0, 2.0, 8.0]]
WIDE = [[0.0, 4.0, 30.0, 4.0, 30.0, 12.0, 0.0, 12.0]]
CAT, DOG = 17, 18


def build(root, data_dir, categories=("cat", "dog"), labels="each", **fields):
    config = CocoCatsConfig(name="mine", categories=categories, labels=labels, **fields)
    builder = Builder(data_dir=data_dir, config=config)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=root)
    )
    return builder


def masks_of(builder, split="train"):
    """The masks [height, width] by image id."""
    return {
        int(example["image/id"]): example["segmentation_mask"][..., 0]
        for example in tfds.as_numpy(builder.as_dataset(split=split))
    }


def shapes_on_image_3(*shapes):
    """Annotations of image 3, and a square cat on image 1."""
    entries = [(1, CAT, 0, SQUARE), *((3, *shape) for shape in shapes)]
    return [
        {
            "id": id,
            "image_id": image,
            "category_id": category,
            "iscrowd": iscrowd,
            "segmentation": segmentation,
        }
        for id, (image, category, iscrowd, segmentation) in enumerate(entries, start=1)
    ]


def square_and_wide():
    """Where the 6 x 6 pixels of SQUARE and the 8 rows of WIDE lie."""
    square, wide = np.zeros((2, 20, 30), bool)
    square[2:8, 2:8] = True
    wide[4:12] = True
    return square, wide


def test_each_category_has_a_label_and_a_name(make_coco, tmp_path):
    builder = build(make_coco(), tmp_path)
    feature = builder.info.features["segmentation_mask"]
    assert type(feature) is tfds.features.LabeledImage
    assert feature.names == ["background", "cat", "dog"]
    values = {id: set(np.unique(mask)) for id, mask in masks_of(builder).items()}
    assert values == {1: {0, 1}, 2: {0, 2}, 3: {0, 2}}
    assert (tmp_path / "coco_cats/mine/1.0.0/segmentation_mask.labels.txt").exists()
    described = tfds.builder_from_directory(builder.data_path).info.description
    assert described.endswith("each class has a label of its own: 1 cat, 2 dog.")


def test_names_are_read_where_this_package_is_not_installed(make_coco, tmp_path):
    builder = build(make_coco(), tmp_path, {"hot dog": ["dog"], "Kätzchen": ["cat"]})
    program = (
        "import sys\n"
        "sys.modules['coco_cats_tfds'] = None\n"
        "import tensorflow_datasets as tfds\n"
        f"builder = tfds.builder_from_directory({str(builder.data_path)!r})\n"
        "print(ascii(builder.info.features['segmentation_mask'].names))\n"
        "for each in tfds.as_numpy(builder.as_dataset(split='train')):\n"
        "    mask = each['segmentation_mask']\n"
        "    print(mask.dtype, mask.max())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    names, *values = done.stdout.splitlines()
    assert names == ascii(["background", "hot dog", "Kätzchen"])
    assert sorted(values) == ["uint8 1", "uint8 1", "uint8 2"]


def test_one_label_is_as_before(make_coco, tmp_path):
    builder = build(make_coco(), tmp_path, labels="one")
    assert type(builder.info.features["segmentation_mask"]) is tfds.features.Image
    assert all(set(np.unique(mask)) == {0, 1} for mask in masks_of(builder).values())
    metadata = builder.info.metadata
    assert "labels" not in metadata["choice"]
    assert "classes" not in metadata["counts"]["train"]


def test_groups_are_classes(make_coco, tmp_path):
    groups = {"toy": ["teddy bear"], "pet": ["animal"]}
    builder = build(make_coco(), tmp_path, groups, labels=None)
    feature = builder.info.features["segmentation_mask"]
    assert feature.names == ["background", "toy", "pet"]
    assert {mask.max() for mask in masks_of(builder).values()} == {2}
    assert builder.info.metadata["choice"]["categories"] == groups
    assert builder.info.metadata["choice"]["labels"] == "each"


@pytest.mark.parametrize("first", [CAT, DOG])
@pytest.mark.parametrize("small", [CAT, DOG])
def test_the_smaller_instance_is_on_top(make_coco, tmp_path, first, small):
    large = CAT + DOG - small
    shapes = [(small, 0, SQUARE), (large, 0, WIDE)]
    shapes.sort(key=lambda shape: shape[0] != first)
    mask = masks_of(build(make_coco(annotations=shapes_on_image_3(*shapes)), tmp_path))
    square, wide = square_and_wide()
    expected = np.where(square, small - 16, np.where(wide, large - 16, 0))
    np.testing.assert_array_equal(mask[3], expected)


def test_of_two_of_one_size_the_later_is_on_top(make_coco, tmp_path):
    shapes = shapes_on_image_3((DOG, 0, SQUARE), (CAT, 0, SQUARE))
    masks = masks_of(build(make_coco(annotations=shapes), tmp_path))
    assert set(np.unique(masks[3])) == {0, 1}


@pytest.mark.parametrize(
    ("crowd", "value"), [("ignore", 255), ("foreground", 2), ("background", 0)]
)
def test_crowds_lie_under_single_instances_of_any_class(
    make_coco, tmp_path, crowd, value
):
    """The cat is larger than the crowd of dogs, and yet on top."""
    shapes = shapes_on_image_3((CAT, 0, WIDE), (DOG, 1, SQUARE))
    root = make_coco(annotations=shapes)
    square, wide = square_and_wide()
    masks = masks_of(build(root, tmp_path, crowd=crowd))
    np.testing.assert_array_equal(masks[3], np.where(wide, 1, square * value))


def test_small_instances_are_ignored_where_no_class_is(make_coco, tmp_path):
    shapes = shapes_on_image_3((CAT, 0, WIDE), (DOG, 0, SQUARE))
    shapes[2]["area"] = 5.0
    square, wide = square_and_wide()
    masks = masks_of(build(make_coco(annotations=shapes), tmp_path, min_area=10))
    np.testing.assert_array_equal(masks[3], np.where(wide, 1, square * 255))


def test_every_class_is_counted_also_one_that_is_not_there(make_coco, tmp_path, capsys):
    shapes = shapes_on_image_3((CAT, 0, WIDE), (DOG, 0, SQUARE), (DOG, 1, WIDE))
    categories = ["cat", "teddy bear", "dog"]
    builder = build(make_coco(annotations=shapes), tmp_path, categories)
    counts = BuiltDataset(builder.data_path).counts["train"]
    assert list(counts.classes) == categories
    assert counts.classes == {
        "cat": ClassCounts(images=2, instances=2, pixels=36 + 240 - 24),
        "teddy bear": ClassCounts(),
        "dog": ClassCounts(images=1, instances=1, crowds=1, pixels=36),
    }
    assert counts.foreground == sum(each.pixels for each in counts.classes.values())
    printed = capsys.readouterr().out
    assert "  dog: 1 images, 1 instances, 1 crowds; 3.00% of the pixels" in printed
    assert "  teddy bear: 0 images, 0 instances" in printed


def test_the_same_bytes_on_threads_and_on_beam(make_coco, tmp_path):
    shapes = shapes_on_image_3((CAT, 0, WIDE), (DOG, 0, SQUARE))
    root = make_coco(annotations=shapes)
    found = []
    for fields in ({"workers": 1}, {"workers": 3}, {"beam": True}):
        fields = fields | {"attribution": True, "instances": True}
        folder = build(root, tmp_path / str(len(found)), **fields).data_path
        files = [path for path in folder.iterdir() if path.name != "dataset_info.json"]
        found.append(
            {path.name: hashlib.sha256(path.read_bytes()).digest() for path in files}
        )
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 5


# --- One name, one choice ------------------------------------------------------------


@pytest.mark.parametrize("other", [["dog", "cat"], ["cat"], ["cat", "dog", "animal"]])
def test_other_classes_are_another_choice(make_coco, tmp_path, other):
    root = make_coco()
    build(root, tmp_path)
    config = CocoCatsConfig(name="mine", categories=other, labels="each")
    with pytest.raises(CocoDataError, match="another name, or build with --overwrite"):
        Builder(data_dir=tmp_path, config=config).as_dataset(split="train")
    with pytest.raises(CocoDataError, match="another name, or build with --overwrite"):
        build(root, tmp_path, labels="one")


def test_the_order_of_groups_is_that_of_labels(make_coco, tmp_path):
    root = make_coco()
    groups = {"a": ["cat"], "b": ["dog"]}
    build(root, tmp_path, groups)
    build(root, tmp_path, groups)
    with pytest.raises(CocoDataError, match=r"was built with .*'a'.*'b'.* not with"):
        build(root, tmp_path, dict(reversed(groups.items())))


def test_overwrite_replaces_the_names(make_coco, tmp_path, capsys):
    root = make_coco()
    build(root, tmp_path)
    config = json.dumps({"name": "mine", "categories": {"pet": ["dog", "cat"]}})
    arguments = ["--manual_dir", str(root), "--data_dir", str(tmp_path)]
    assert main(["build", *arguments, "--config", config, "--overwrite"]) == 0
    feature = tfds.builder("coco_cats/mine", data_dir=tmp_path).info.features[
        "segmentation_mask"
    ]
    assert feature.names == ["background", "pet"]


# --- Proof ---------------------------------------------------------------------------


@pytest.mark.parametrize("crowd", ["ignore", "foreground", "background"])
@pytest.mark.parametrize("negatives", [0, 1])
def test_verify_proves_classes(make_coco, tmp_path, crowd, negatives):
    shapes = shapes_on_image_3(
        (DOG, 0, WIDE), (CAT, 0, SQUARE), (CAT, 1, WIDE), (DOG, 1, SQUARE)
    )
    root = make_coco(annotations=shapes)
    build(root, tmp_path, crowd=crowd, negatives=negatives)
    assert main(["verify", str(tmp_path), "--manual_dir", str(root)]) == 0


def test_verify_finds_labels_that_were_exchanged(
    make_coco, rewrite_maps, tmp_path, capsys
):
    root = make_coco()
    build(root, tmp_path)
    exchanged = np.array([0, 2, 1], np.uint8)
    rewrite_maps(tmp_path, "segmentation_mask", lambda mask: exchanged[mask])
    assert main(["verify", str(tmp_path), "--manual_dir", str(root)]) == 1
    assert "differs in 36 pixels; its values are [0, 1]" in capsys.readouterr().out


def test_verify_finds_names_that_were_exchanged(make_coco, tmp_path, capsys):
    root = make_coco()
    build(root, tmp_path)
    (path,) = tmp_path.rglob("segmentation_mask.labels.txt")
    path.write_text("background\ndog\ncat\n")
    assert main(["verify", str(tmp_path), "--manual_dir", str(root)]) == 1
    fault = "the labels are named ['dog', 'cat'], not ['cat', 'dog']"
    assert fault in capsys.readouterr().out


@pytest.mark.parametrize(
    "categories",
    [
        ["cat", "dog", "bird"],
        {"person": ["person"], "pet": ["cat", "dog"], "ware": ["kitchen", "furniture"]},
        [category.name for category in CATEGORIES],
    ],
    ids=["animals", "groups", "all"],
)
@pytest.mark.parametrize("crowd", ["ignore", "foreground"])
def test_real_photographs_pixel_for_pixel(test_data, tmp_path, categories, crowd):
    """Against pycocotools, by the rule as the documentation tells it."""
    root = test_data / "coco_real"
    builder = build(root, tmp_path, categories, crowd=crowd)
    groups = (
        categories
        if isinstance(categories, dict)
        else {name: [name] for name in categories}
    )
    overlaps = 0
    for split, coco_split in SPLITS.items():
        coco = COCO(root / "annotations" / f"instances_{coco_split}.json")
        labels = {
            each["id"]: label
            for label, names in enumerate(groups.values(), start=1)
            for each in coco.dataset["categories"]
            if each["name"] in names or each["supercategory"] in names
        }
        masks = masks_of(builder, split)
        shown = {
            a["image_id"] for a in coco.anns.values() if a["category_id"] in labels
        }
        assert masks.keys() == shown
        for image_id, mask in masks.items():
            areas = [
                (a["iscrowd"], coco.annToMask(a) != 0, labels[a["category_id"]])
                for a in coco.imgToAnns[image_id]
                if a["category_id"] in labels
            ]
            expected = np.zeros(mask.shape, np.uint8)
            areas.sort(key=lambda each: (-each[0], -each[1].sum()))
            for iscrowd, where, label in areas:
                value = 255 if iscrowd and crowd == "ignore" else label
                overlaps += np.count_nonzero((expected[where] % 255) % value)
                expected[where] = value
            np.testing.assert_array_equal(mask, expected)
        verdict = verify_split(
            BuiltDataset(builder.data_path), split, CocoFolder(root), coco_split
        )
        assert (verdict.masks, verdict.faults) == (len(masks), [])
    assert overlaps > 10_000 or len(categories) == 3


# --- Refusals ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("categories", "fault"),
    [
        (["cat", "kitten"], "Unknown category 'kitten'"),
        (["animal", "dog"], "'dog' is in two classes, 'animal' and 'dog'"),
        ({"a": ["cat"], "b": ["dog", "cat"]}, "'cat' is in two classes, 'a' and 'b'"),
        ({"a": ["cat"], "b": ["animal"]}, "take it out of either, or name single"),
    ],
)
def test_categories_that_are_no_classes(make_coco, tmp_path, categories, fault):
    with pytest.raises(CocoDataError, match=fault):
        build(make_coco(), tmp_path, categories)
    # Without a folder, before anything is fetched.
    config = CocoCatsConfig(
        name="mine",
        categories=categories,
        labels="each",
        base_url="http://127.0.0.1:9",
    )
    with pytest.raises(CocoDataError, match=fault):
        Builder(data_dir=tmp_path, config=config).download_and_prepare()


def test_a_group_that_is_there_twice(make_coco, tmp_path, capsys):
    """JSON's reader would silently take the second."""
    config = '{"name": "mine", "categories": {"pet": ["cat"], "pet": ["dog"]}}'
    arguments = ["--manual_dir", str(make_coco()), "--data_dir", str(tmp_path)]
    assert main(["build", *arguments, "--config", config]) == 2
    assert "--config has 'pet' twice" in capsys.readouterr().err


# --- Contact sheet -------------------------------------------------------------------


def test_the_sheet_has_a_colour_and_a_line_a_class(make_coco, tmp_path, capsys):
    shapes = shapes_on_image_3((DOG, 0, WIDE))
    build(make_coco(annotations=shapes), tmp_path / "out")
    picture = tmp_path / "grid.png"
    arguments = ["show", str(tmp_path / "out"), "--output", str(picture)]
    assert main(arguments) == 0
    assert "  dog: 1 images, 1 instances" in capsys.readouterr().out
    built = BuiltDataset(next(tmp_path.rglob("dataset_info.json")).parent)
    plain = draw_sheet(built.examples("train"), 24)
    sheet = tf.io.decode_png(pathlib.Path(picture).read_bytes()).numpy()
    legend = sheet[plain.height :]
    assert len(legend) > 10
    for label in (1, 2):
        assert (legend == color_of(label)).all(axis=-1).sum() == 11 * 11
        assert (sheet[: plain.height] == color_of(label)).all(axis=-1).any()


def test_colours_of_classes_can_be_told_apart():
    colors = np.array([color_of(label) for label in range(1, 81)], int)
    distances = np.abs(colors[:, None] - colors[None]).sum(axis=-1)
    assert distances[np.triu_indices(80, 1)].min() > 5
    assert distances[:12, :12][np.triu_indices(12, 1)].min() > 50
