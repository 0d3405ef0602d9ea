"""What records hold on demand: licence, address, instances; what older ones lack."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from pycocotools.coco import COCO

from coco_cats_tfds import CocoDataError
from coco_cats_tfds.built import BuiltDataset
from coco_cats_tfds.choice import Choice
from coco_cats_tfds.cli import main
from coco_cats_tfds.coco_cats_dataset_builder import (
    SPLITS,
    Builder,
    CocoCatsConfig,
)
from coco_cats_tfds.contact_sheet import tint

URL = "http://farm5.staticflickr.com/4026/1.jpg"
LICENSES = [
    {"id": 1, "name": "Attribution License", "url": "http://example.org/by"},
    {"id": 4, "name": "No rights reserved", "url": "http://example.org/0"},
]
# Two cats side by side, one pixel row of the second under the first.
LEFT = [[2.0, 2.0, 12.0, 2.0, 12.0, 8.0, 2.0, 8.0]]
RIGHT = [[11.0, 2.0, 28.0, 2.0, 28.0, 8.0, 11.0, 8.0]]
CROWD = [[0.0, 6.0, 30.0, 6.0, 30.0, 20.0, 0.0, 20.0]]


@pytest.fixture
def root(make_coco):
    """A COCO folder whose images have licences 1 and 4, and image 3 two cats."""
    shapes = [(3, 0, RIGHT), (3, 1, CROWD), (3, 0, LEFT), (1, 0, LEFT)]
    folder = make_coco(
        annotations=[
            {
                "id": id,
                "image_id": image,
                "category_id": 17,
                "iscrowd": iscrowd,
                "segmentation": segmentation,
            }
            for id, (image, iscrowd, segmentation) in enumerate(shapes, start=1)
        ]
    )
    for split in SPLITS.values():
        change(folder, split, lambda content: content.update(licenses=LICENSES))
        change(folder, split, license_images)
    return folder


def change(root, split, how):
    path = root / "annotations" / f"instances_{split}.json"
    content = json.loads(path.read_text())
    how(content)
    path.write_text(json.dumps(content))


def license_images(content):
    for image in content["images"]:
        image["license"] = 4 if image["id"] == 3 else 1
        image["flickr_url"] = f"{URL}?{image['id']}"


def build(root, data_dir, **fields):
    builder = Builder(data_dir=data_dir, config=CocoCatsConfig(name="mine", **fields))
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=root)
    )
    return builder


def verify(root, out):
    return main(["verify", str(out), "--manual_dir", str(root)])


def read(builder, split="train"):
    examples = tfds.as_numpy(builder.as_dataset(split=split))
    return {int(example["image/id"]): example for example in examples}


# --- Licence and address -------------------------------------------------------------


def test_each_record_names_its_licence_and_address(root, tmp_path):
    builder = build(root, tmp_path, attribution=True, negatives=1)
    found = {
        id: (int(each["image/license"]), each["image/flickr_url"].decode())
        for id, each in read(builder).items()
    }
    assert found == {id: (4 if id == 3 else 1, f"{URL}?{id}") for id in (1, 2, 3, 4)}
    assert builder.info.metadata["licenses"] == dict.fromkeys(SPLITS, LICENSES)
    assert verify(root, tmp_path) == 0


def test_one_without_either_has_0_and_nothing(make_coco, tmp_path):
    root = make_coco()
    builder = build(root, tmp_path, attribution=True)
    for each in read(builder).values():
        assert (each["image/license"], each["image/flickr_url"]) == (0, b"")
    assert verify(root, tmp_path) == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [("license", "4"), ("license", True), ("license", 2**63), ("flickr_url", 7)],
)
def test_a_licence_or_address_of_another_type(root, tmp_path, field, value, capsys):
    def spoil(content):
        content["images"][2][field] = value

    change(root, "train2017", spoil)
    with pytest.raises(CocoDataError, match=f"Image 3 has a {field} that cannot be"):
        build(root, tmp_path, attribution=True)
    builder = build(root, tmp_path, attribution=True, on_invalid="omit")
    assert list(read(builder)) == [1]
    assert verify(root, tmp_path) == 0
    build(root, tmp_path / "without")


def test_a_table_of_licences_that_is_none(root, tmp_path):
    change(root, "train2017", lambda content: content.update(licenses=7))
    with pytest.raises(CocoDataError, match=r"no list of licences.*no `attribution`"):
        build(root, tmp_path, attribution=True)


def test_verify_compares_licences_and_addresses(root, tmp_path, capsys):
    build(root, tmp_path, attribution=True)

    def exchange(content):
        content["images"][2]["license"] = 1
        content["images"][0]["flickr_url"] = ""

    change(root, "train2017", exchange)
    assert verify(root, tmp_path) == 1
    printed = capsys.readouterr().out
    assert "the licence of image 3 is 4, not 1" in printed
    assert f"the address of image 1 is '{URL}?1', not ''" in printed


@pytest.mark.parametrize("wanted", [[4], ["No rights reserved"]])
def test_licences_by_number_and_by_name(root, tmp_path, wanted):
    builder = build(root, tmp_path, licenses=wanted)
    assert list(read(builder)) == [3]
    assert builder.info.metadata["choice"]["licenses"] == wanted
    assert verify(root, tmp_path) == 0


def test_an_unknown_licence_is_answered_by_those_that_are_there(root, tmp_path):
    fault = (
        r"Unknown licence 'CC BY' in .*json. It lists 1 \(Attribution License\), 4"
        r" \(No rights reserved\)"
    )
    with pytest.raises(CocoDataError, match=fault):
        build(root, tmp_path, licenses=[4, "CC BY"])


# --- Instances -----------------------------------------------------------------------


@pytest.mark.parametrize("crowd", ["ignore", "foreground"])
def test_touching_instances_are_told_apart(root, tmp_path, crowd):
    builder = build(root, tmp_path, instances=True, crowd=crowd)
    feature = builder.info.features["instance_map"]
    assert (feature.shape, feature.np_dtype) == ((None, None, 1), np.uint16)
    example = read(builder)[3]
    numbers, mask = example["instance_map"][..., 0], example["segmentation_mask"]
    assert numbers.dtype == np.uint16
    expected = np.zeros((20, 30), np.uint16)
    expected[2:8, 11:28] = 1  # By the order in the file; the crowd has no number.
    expected[2:8, 2:12] = 2  # The smaller one is on top.
    np.testing.assert_array_equal(numbers, expected)
    value = 255 if crowd == "ignore" else 1
    assert (mask[..., 0][(numbers == 0) & (np.arange(20)[:, None] > 5)] == value).all()
    assert verify(root, tmp_path) == 0


def test_verify_compares_instances(root, rewrite_maps, tmp_path, capsys):
    build(root, tmp_path, instances=True)
    rewrite_maps(
        *(tmp_path, "instance_map"), lambda map: np.minimum(map, 1), dtype="uint16"
    )
    assert verify(root, tmp_path) == 1
    assert "the map of instances of image 3 differs" in capsys.readouterr().out


def test_instances_in_the_format_for_random_access(root, tmp_path):
    config = CocoCatsConfig(name="mine", instances=True, attribution=True)
    builder = Builder(data_dir=tmp_path, config=config, file_format="array_record")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=root)
    )
    assert verify(root, tmp_path) == 0
    found = {
        each.image_id: int(each.instances.max())
        for each in BuiltDataset(builder.data_path).examples("train")
    }
    assert found == {1: 1, 3: 2}


def test_instances_are_outlined():
    pixels, mask = np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), np.uint8)
    numbers = np.repeat([[1, 1, 1, 1, 2, 2, 2, 2]], 8, axis=0)
    together, apart = tint(pixels, mask), tint(pixels, mask, numbers)
    assert len(np.unique(together.reshape(-1, 3), axis=0)) == 1
    changed = (together != apart).any(axis=-1)
    assert (np.flatnonzero(changed.any(axis=0)) == [3, 4]).all()


def test_everything_of_real_photographs(test_data, tmp_path):
    """Licences, addresses and instances against pycocotools, image by image."""
    root = test_data / "coco_real"
    builder = build(
        root,
        tmp_path,
        categories={"person": ["person"], "animal": ["animal"], "food": ["food"]},
        attribution=True,
        instances=True,
        licenses=[1, 2, 3, "Attribution License"],
    )
    most = 0
    for split, coco_split in SPLITS.items():
        coco = COCO(root / "annotations" / f"instances_{coco_split}.json")
        wanted = coco.getCatIds(supNms=["person", "animal", "food"])
        examples = read(builder, split)
        assert examples.keys() == {
            a["image_id"]
            for a in coco.anns.values()
            if a["category_id"] in wanted and coco.imgs[a["image_id"]]["license"] < 5
        }
        for id, example in examples.items():
            image = coco.imgs[id]
            assert example["image/license"] == image["license"]
            assert example["image/flickr_url"].decode() == image["flickr_url"]
            singles = [
                coco.annToMask(a) != 0
                for a in coco.imgToAnns[id]
                if a["category_id"] in wanted and not a["iscrowd"]
            ]
            numbers = example["instance_map"][..., 0]
            expected = np.zeros(numbers.shape, int)
            for number in np.argsort([-each.sum() for each in singles], kind="stable"):
                expected[singles[number]] = number + 1
            np.testing.assert_array_equal(numbers, expected)
            mask = example["segmentation_mask"][..., 0]
            np.testing.assert_array_equal(numbers > 0, (mask > 0) & (mask < 255))
            most = max(most, numbers.max())
    assert most > 9
    assert verify(root, tmp_path) == 0


# --- Older and newer builds ----------------------------------------------------------

FIRST_VERSION = {
    "categories": ["cat"],
    "crowd": "ignore",
    "min_area": 0.0,
    "negatives": 0.0,
    "negatives_like": [],
    "on_invalid": "stop",
}


def rewrite_metadata(builder, **changes):
    path = pathlib.Path(builder.data_path) / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_build_of_the_first_version_is_read_on(root, tmp_path, capsys):
    builder = build(root, tmp_path)
    rewrite_metadata(builder, choice=FIRST_VERSION)
    built = BuiltDataset(builder.data_path)
    assert (built.choice, built.class_names) == (Choice(), ())
    assert [each.instances for each in built.examples("train")] == [None, None]
    assert len(read(build(root, tmp_path))) == 2
    assert verify(root, tmp_path) == 0
    picture = str(tmp_path / "grid.png")
    assert main(["show", str(tmp_path), "--output", picture]) == 0


@pytest.mark.parametrize("field", ["attribution", "instances"])
def test_what_an_older_build_lacks_makes_another_choice(root, tmp_path, field):
    rewrite_metadata(build(root, tmp_path), choice=FIRST_VERSION)
    with pytest.raises(CocoDataError, match=f"not with .*'{field}': True"):
        build(root, tmp_path, **{field: True})


def test_a_build_of_a_later_version_is_named(root, tmp_path, capsys):
    builder = build(root, tmp_path)
    rewrite_metadata(builder, choice=Choice().as_json() | {"depth": True})
    assert verify(root, tmp_path) == 2
    error = capsys.readouterr().err
    assert "the fields ['depth'], which this version does not know. Upgrade" in error
