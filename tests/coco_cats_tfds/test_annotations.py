"""The index of an instances file, and every way in which one can be malformed."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coco_cats_tfds import CocoDataError
from coco_cats_tfds.annotations import InstancesIndex, find_categories
from coco_cats_tfds.categories import CATEGORIES
from coco_cats_tfds.choice import Choice
from coco_cats_tfds.masks import draw_mask
from coco_cats_tfds.selection import select

GOOD = {
    "images": [{"id": 1, "file_name": "1.jpg", "height": 20, "width": 30}],
    "annotations": [
        {
            "id": 10,
            "image_id": 1,
            "category_id": 17,
            "segmentation": [[2.0, 2.0, 8.0, 2.0, 8.0, 8.0]],
            "iscrowd": 0,
            "area": 18.0,
            "bbox": [2, 2, 6, 6],
        }
    ],
    "categories": [{"id": 17, "name": "cat", "supercategory": "animal"}],
}


def read(content):
    return InstancesIndex(content, origin="instances.json")


def changed(*path, value):
    """The good file with one value replaced."""
    content = copy.deepcopy(GOOD)
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(content).encode()


def test_what_is_read():
    index = read(json.dumps(GOOD).encode())
    assert index.images[1].file_name == "1.jpg"
    (annotation,) = index.by_image({17})[1]
    assert annotation.area == 18
    assert json.loads(bytes(annotation.segmentation)) == [
        [2.0, 2.0, 8.0, 2.0, 8.0, 8.0]
    ]
    assert not index.by_image({18})


def test_fields_that_other_tools_leave_out():
    """COCO's own files have iscrowd, area and supercategory; the format is older."""
    content = copy.deepcopy(GOOD)
    for name in ("iscrowd", "area", "bbox"):
        del content["annotations"][0][name]
    del content["categories"][0]["supercategory"]
    (annotation,) = read(json.dumps(content).encode()).annotations
    assert (annotation.iscrowd, annotation.area) == (0, None)


def test_a_byte_order_mark():
    assert read(b"\xef\xbb\xbf" + json.dumps(GOOD).encode()).images.keys() == {1}


def test_types_that_other_tools_write():
    """Whole numbers as floats, and true, false and null, are what they mean."""
    content = copy.deepcopy(GOOD)
    content["images"][0] |= {"id": 1.0, "height": 20.0, "width": 30.0, "license": 4.0}
    content["annotations"][0] |= {"id": 10.0, "image_id": 1.0, "category_id": 17.0}
    content["annotations"] += [
        {**content["annotations"][0], "id": id, "iscrowd": iscrowd}
        for id, iscrowd in enumerate([False, True, None, 0.0, 1.0])
    ]
    content["categories"][0] |= {"id": 17.0, "supercategory": None}
    index = read(json.dumps(content).encode())
    assert [each.iscrowd for each in index.annotations] == [0, 0, 1, 0, 0, 1]
    assert all(type(each.iscrowd) is int for each in index.annotations)
    assert index.images[1].license == 4
    (record,) = select(index, Choice(licenses=())).records
    drawn = draw_mask(record.annotations, height=20, width=30).mask
    (record,) = select(read(json.dumps(GOOD).encode()), Choice()).records
    expected = draw_mask(record.annotations, height=20, width=30).mask
    assert (drawn == expected).all()


def test_a_placeholder_with_the_name_of_a_supercategory():
    """Roboflow's first category is the project itself; no annotation has it."""
    content = copy.deepcopy(GOOD)
    content["categories"] = [
        {"id": 0, "name": "pets", "supercategory": "none"},
        {"id": 17, "name": "cat", "supercategory": "pets"},
        {"id": 18, "name": "dog", "supercategory": "pets"},
    ]
    fault = r"'pets' is a category that no annotation has, .*of \['cat', 'dog'\]"
    with pytest.raises(CocoDataError, match=fault):
        select(read(json.dumps(content).encode()), Choice(categories=["pets"]))
    assert select(read(json.dumps(content).encode()), Choice()).records
    content["annotations"][0]["category_id"] = 0  # Here it is a category indeed.
    index = read(json.dumps(content).encode())
    assert index.category_ids(["pets"]) == {0}


def test_unknown_category_names_the_nearest():
    with pytest.raises(CocoDataError, match=r"'teddybear' in COCO.*'teddy bear'"):
        find_categories(["teddybear"], CATEGORIES, origin="COCO")


def test_all_of_coco():
    assert len(CATEGORIES) == 80
    every = find_categories([each.name for each in CATEGORIES], CATEGORIES, origin="")
    assert every == {each.id for each in CATEGORIES}
    groups = {each.supercategory for each in CATEGORIES}
    assert len(groups) == 12
    assert find_categories(sorted(groups), CATEGORIES, origin="") == every


def test_missing_file_names_path_and_layout(tmp_path):
    with pytest.raises(CocoDataError, match=r"x\.json: No such file.*must hold"):
        InstancesIndex.load(tmp_path / "x.json")


@pytest.mark.parametrize("content", [b"", b"{"])
def test_files_that_are_hardly_there(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(CocoDataError, match=r"x\.json is not a COCO instances file"):
        InstancesIndex.load(tmp_path / "x.json")


def test_a_folder_in_the_place_of_the_file(tmp_path):
    with pytest.raises(CocoDataError, match="Cannot read .*: Is a directory"):
        InstancesIndex.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "truncated"),
        (json.dumps(GOOD).encode()[:200], "truncated"),
        (b"\xff\xfe", "malformed"),
        (b"[]", "Expected `object`, got `array`"),
        (b'{"images": []}', "missing required field `annotations`"),
        (b"[" * 100_000, "not a COCO instances file"),
        (changed("images", value={}), "got `object` - at `\\$.images`"),
        (changed("images", 0, "id", value="1"), r"got `str` - at `\$.images\[0\].id`"),
        (changed("images", 0, "height", value=0), "`int` >= 1 - at .*height"),
        (changed("images", 0, "height", value=-20), "`int` >= 1"),
        (changed("images", 0, "width", value=None), "got `null`"),
        (changed("images", 0, "width", value=65_536), "`int` <= 65535"),
        (changed("images", 0, "width", value=10**30), "Expected|range"),
        (changed("images", 0, "id", value=2**63), "Expected|range"),
        (
            changed("categories", value=[*GOOD["categories"], {"id": 17, "name": "x"}]),
            "category id 17 stands for 'cat' and for 'x'",
        ),
        (changed("images", 0, "file_name", value=7), "Expected `str`, got `int`"),
        (changed("annotations", 0, "iscrowd", value=2), "`int` <= 1"),
        (changed("annotations", 0, "area", value="18"), "got `str` - at .*area"),
        (changed("annotations", 0, "area", value=float("nan")), "malformed"),
        (changed("annotations", 0, "image_id", value=[1]), "got `array`"),
        (
            changed("annotations", 0, "segmentation", value=[[float("inf")] * 6]),
            "malformed",
        ),
        (changed("categories", 0, "name", value=None), "got `null`"),
        (
            changed("images", value=GOOD["images"] * 3),
            r"1 image ids occur more than once, the first \[1\]",
        ),
    ],
)
def test_what_is_no_instances_file(content, fault):
    with pytest.raises(CocoDataError, match=rf"^instances\.json.*{fault}"):
        read(content)


@given(st.integers(0, 10_000), st.binary(max_size=6), st.integers(0, 6))
@settings(max_examples=500, deadline=None)
def test_damage_anywhere_gives_a_mask_or_our_error(position, insert, deleted):
    """Bytes replaced anywhere in the file: read, selected and drawn, or refused."""
    good = json.dumps(GOOD).encode()
    at = position % len(good)
    content = good[:at] + insert + good[at + deleted :]
    try:
        for record in select(read(content), Choice()).records:
            size = {"height": record.image.height, "width": record.image.width}
            if size["height"] * size["width"] < 1 << 20:
                mask = draw_mask(record.annotations, **size).mask
                assert mask.shape == (*size.values(), 1)
    except CocoDataError:
        pass
