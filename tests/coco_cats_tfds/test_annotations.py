"""The index of an instances file."""

import json

import pytest

from coco_cats_tfds import CocoDataError
from coco_cats_tfds.annotations import InstancesIndex


def load(root, split="train2017"):
    return InstancesIndex.load(root / "annotations" / f"instances_{split}.json")


def test_an_image_with_either_category_counts(make_coco):
    index = load(make_coco())
    records = index.select(index.category_ids(["cat", "dog"]))
    assert [record.image.id for record in records] == [1, 2, 3]
    assert [len(record.annotations) for record in records] == [1, 1, 2]


def test_only_annotations_of_the_chosen_category_are_selected(make_coco):
    index = load(make_coco())
    records = index.select(index.category_ids(["cat"]))
    assert [[each.id for each in record.annotations] for record in records] == [
        [10],
        [12],
    ]


def test_unknown_category_names_the_nearest(make_coco):
    with pytest.raises(CocoDataError, match=r"'teddybear'.*nearest.*'teddy bear'"):
        load(make_coco()).category_ids(["teddybear"])


def test_missing_file_names_path_and_layout(tmp_path):
    with pytest.raises(CocoDataError, match=r"instances_train2017\.json: No such file"):
        load(tmp_path)


def test_cut_off_file_is_named(make_coco):
    root = make_coco()
    path = root / "annotations" / "instances_train2017.json"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CocoDataError, match=r"instances_train2017.*truncated"):
        load(root)


def test_file_of_another_kind_is_named(make_coco):
    with pytest.raises(CocoDataError, match=r"missing required field `segmentation`"):
        load(make_coco(annotations=[{"id": 1, "image_id": 1, "category_id": 17}]))


def test_annotation_of_an_unlisted_image_is_named(make_coco):
    annotations = [
        {"id": 7, "image_id": 99, "category_id": 17, "segmentation": [], "iscrowd": 0}
    ]
    index = load(make_coco(annotations=annotations))
    with pytest.raises(CocoDataError, match="annotation 7 belongs to image 99"):
        index.select({17})


def test_an_image_id_that_occurs_twice_is_refused(make_coco):
    root = make_coco()
    path = root / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    content["images"].append(content["images"][0])
    path.write_text(json.dumps(content))
    with pytest.raises(CocoDataError, match="an image id occurs twice among 5 images"):
        load(root)
