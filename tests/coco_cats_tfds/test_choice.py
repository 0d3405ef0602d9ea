"""What can be chosen, and what is refused with the cure."""

import json

import pytest

from coco_cats_tfds import CocoDataError
from coco_cats_tfds.choice import Choice
from coco_cats_tfds.coco_cats_dataset_builder import CocoCatsConfig


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"categories": []}, "at least one"),
        ({"categories": "cat"}, "must be a list"),
        ({"categories": 17}, "must be a list"),
        ({"categories": [17]}, "holds 17, which is not a name"),
        ({"labels": "all"}, r"`labels` must be one of \['one', 'each'\].*'all'"),
        ({"categories": {}}, r"at least one.*Received: \{\}"),
        ({"categories": {"pet": []}}, "The group 'pet' of `categories` is empty"),
        ({"categories": {"pet": "cat"}}, r"`categories\['pet'\]` must be a list"),
        ({"categories": {"pet": [1]}}, r"`categories\['pet'\]` holds 1"),
        ({"categories": {"pet": ["cat"]}, "labels": "one"}, "Leave `labels` out"),
        ({"categories": {"": ["cat"]}}, "The class name '' is empty"),
        ({"categories": {" cat": ["cat"]}}, "' cat' has line breaks or spaces around"),
        ({"categories": {"a\nb": ["cat"]}}, "has line breaks or spaces around"),
        ({"categories": {7: ["cat"]}}, "The class name 7 .* is no text"),
        (
            {"categories": {"background": ["cat"]}},
            "'background' is that of the label 0",
        ),
        (
            {"categories": ["cat", "dog", "cat"], "labels": "each"},
            "'cat' is there twice",
        ),
        (
            {"categories": [str(each) for each in range(255)], "labels": "each"},
            "255 classes do not fit into a mask of 8 bits, which holds 254.*Group them",
        ),
        ({"crowd": "paint"}, r"one of \['ignore', 'foreground', 'background'\]"),
        ({"on_invalid": "skip"}, r"one of \['stop', 'omit'\]"),
        ({"negatives": -1}, "`negatives` must be a number from 0 up. Received: -1"),
        ({"negatives": float("nan")}, "`negatives` must be a number"),
        ({"negatives": float("inf")}, "`negatives` must be a number"),
        ({"min_area": "12"}, "`min_area` must be a number"),
        ({"min_area": True}, "`min_area` must be a number"),
        ({"negatives_like": "dog", "negatives": 1}, "`negatives_like` must be a list"),
        ({"negatives_like": ["dog"]}, "`negatives` is 0.*Set `negatives`"),
        ({"negatives": 10**400}, "`negatives` must be a number"),
        ({"licenses": 4}, "`licenses` must be a list.*Received: 4"),
        ({"licenses": "4"}, r"`licenses` must be a list.*Received: '4'"),
        ({"licenses": [4.0]}, r"`licenses` must be a list.*Received: \[4.0\]"),
        ({"licenses": [True]}, r"numbers or names.*e.g. \[4, 5\].*\[True\]"),
        ({"attribution": 1}, "`attribution` must be true or false. Received: 1"),
        ({"instances": "yes"}, "`instances` must be true or false. Received: 'yes'"),
        ({"orientation": "upright"}, r"one of \['refuse', 'stored'\]"),
        ({"limit": -1}, "`limit` must be a whole number.*Received: -1"),
        ({"limit": 2.0}, "`limit` must be a whole number"),
        ({"name": ""}, "`name` must be letters"),
        ({"name": "../../x"}, "`name` must be letters.*'../../x'"),
        ({"name": "a/b"}, "`name` must be letters"),
        ({"name": 5}, "`name` must be letters"),
        ({"base_url": "ftp://x"}, "`base_url` must begin with http"),
        ({"base_url": None}, "`base_url` must begin with http"),
        ({"workers": -1}, "`workers` must be a whole number"),
        ({"workers": 1.5}, "`workers` must be a whole number"),
        ({"beam": "yes"}, "`beam` must be true or false"),
    ],
)
def test_impossible_configurations(fields, fault):
    with pytest.raises(CocoDataError, match=fault):
        CocoCatsConfig(**{"name": "x", **fields})


def test_what_is_recorded_makes_the_same_choice():
    choice = Choice(
        categories=["cat", "animal"],
        negatives=1,
        negatives_like=["dog"],
        min_area=9,
        licenses=["Attribution License", 5, 4],
        attribution=True,
        instances=True,
    )
    record = json.loads(json.dumps(choice.as_json()))
    assert Choice(**record) == choice
    assert choice.is_recorded_as(record)
    # Their order says nothing.
    assert record["licenses"] == [4, 5, "Attribution License"]


def test_a_field_that_an_older_version_did_not_record_counts_as_its_default():
    record = Choice(categories=["dog"]).as_json()
    del record["licenses"], record["crowd"]
    assert Choice(categories=["dog"]).is_recorded_as(record)
    assert not Choice(categories=["dog"], licenses=[4]).is_recorded_as(record)
    assert not Choice(categories=["dog"], crowd="foreground").is_recorded_as(record)
    assert not Choice().is_recorded_as({**record, "categories": ["cat"], "later": 1})
    assert not Choice().is_recorded_as(None)


def test_a_field_that_came_later_is_recorded_where_it_says_something():
    later = {"labels", "limit", "orientation", "attribution", "instances"}
    assert not later & Choice().as_json().keys()
    record = Choice(limit=2).as_json()
    assert record["limit"] == 2
    assert Choice(**record) == Choice(limit=2)
    assert not Choice().is_recorded_as(record)


def test_as_many_classes_as_a_mask_holds():
    names = [str(each) for each in range(254)]
    assert list(Choice(categories=names, labels="each").classes) == names
    assert Choice(categories=[*names, "one more"]).class_names == ()


def test_classes_in_the_order_of_their_labels():
    assert Choice(categories=["dog", "cat"]).classes == {"foreground": ("dog", "cat")}
    each = Choice(categories=["dog", "cat"], labels="each")
    assert list(each.classes.items()) == [("dog", ("dog",)), ("cat", ("cat",))]
    groups = Choice(categories={"pet": ["dog", "cat"], "bird": ["bird"]})
    assert groups.class_names == ("pet", "bird")
    assert groups.labels == "each"
    record = json.loads(json.dumps(groups.as_json()))
    assert groups.is_recorded_as(record)
    record["categories"] = dict(reversed(record["categories"].items()))
    assert not groups.is_recorded_as(record)
    assert not each.is_recorded_as(Choice(categories=["dog", "cat"]).as_json())


def test_a_record_of_a_later_version_is_named():
    with pytest.raises(CocoDataError, match=r"\['later'\].*Upgrade coco_cats_tfds"):
        Choice.of_record({"categories": ["cat"], "later": 1})


def test_how_it_is_built_is_no_part_of_the_choice():
    config = CocoCatsConfig(name="x", workers=3, beam=True, base_url="http://mirror")
    assert config.choice == Choice()
    assert config.as_json() == Choice().as_json()
