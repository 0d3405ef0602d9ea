"""Which images are taken: categories, negatives, areas, crowds, strays."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coco_cats_tfds import CocoDataError
from coco_cats_tfds.annotations import InstancesIndex
from coco_cats_tfds.choice import Choice
from coco_cats_tfds.plainly import PlainCoco
from coco_cats_tfds.selection import select

CATEGORIES = [
    {"id": 17, "name": "cat", "supercategory": "animal"},
    {"id": 18, "name": "dog", "supercategory": "animal"},
    {"id": 1, "name": "person", "supercategory": "person"},
    {"id": 88, "name": "teddy bear", "supercategory": "indoor"},
]
CAT, DOG, PERSON, BEAR = 17, 18, 1, 88
SQUARE = [[2.0, 2.0, 8.0, 2.0, 8.0, 8.0, 2.0, 8.0]]  # 36 pixels.


def make_content(shown, licenses=(), **annotation_fields):
    """An instances file of images 1, 2, ... from what each shows.

    That is (category, fields) pairs, or categories alone. Each has the licence at its
    place in `licenses`, and none if that is None.
    """
    annotations = []
    for image_id, objects in enumerate(shown, start=1):
        for each in objects:
            category, fields = each if isinstance(each, tuple) else (each, {})
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category,
                    "segmentation": SQUARE,
                    **fields,
                    **annotation_fields,
                }
            )
    images = [
        {"id": id, "file_name": f"{id}.jpg", "height": 20, "width": 30}
        for id in range(1, len(shown) + 1)
    ]
    for image, license in zip(images, licenses, strict=False):
        image |= {} if license is None else {"license": license}
    table = [{"id": 1, "name": "NC"}, {"id": 4, "name": "Attribution", "url": "http:"}]
    return {
        "images": images,
        "annotations": annotations,
        "categories": CATEGORIES,
        "licenses": table,
    }


def make_index(shown, licenses=(), **annotation_fields):
    content = make_content(shown, licenses, **annotation_fields)
    return InstancesIndex(json.dumps(content).encode(), origin="test.json")


def ids(selection):
    return [record.image.id for record in selection.records]


MIXED = [[CAT], [DOG], [CAT, DOG], [], [PERSON], [BEAR, PERSON]]


@pytest.mark.parametrize(
    ("categories", "expected"),
    [
        (["cat"], [1, 3]),
        (["cat", "dog"], [1, 2, 3]),
        (["animal"], [1, 2, 3]),
        (["person"], [5, 6]),
        (["indoor", "cat"], [1, 3, 6]),
    ],
)
def test_names_and_supercategories(categories, expected):
    selection = select(make_index(MIXED), Choice(categories=categories))
    assert ids(selection) == expected
    assert selection.omitted.left_out == {
        "show none of the categories": len(MIXED) - len(expected)
    }


def test_only_annotations_of_the_categories_are_drawn():
    (_, both) = select(make_index(MIXED), Choice()).records
    assert [each.category_id for each in both.annotations] == [CAT]


def test_unknown_names():
    with pytest.raises(CocoDataError, match=r"'kat' in test.json.*'cat'"):
        select(make_index(MIXED), Choice(categories=["kat"]))
    choice = Choice(negatives=1, negatives_like=["teddy"])
    with pytest.raises(CocoDataError, match=r"'teddy' in test.json.*'teddy bear'"):
        select(make_index(MIXED), choice)


@pytest.mark.parametrize(("share", "count"), [(0, 0), (0.5, 1), (1, 2), (99, 4)])
def test_negatives_are_a_share_of_the_positives(share, count):
    records = select(make_index(MIXED), Choice(negatives=share)).records
    assert sum(not record.annotations for record in records) == count
    assert len(records) == 2 + count


@given(
    shown=st.lists(
        st.lists(
            st.tuples(
                st.sampled_from([CAT, DOG, PERSON, BEAR, 99]),
                st.fixed_dictionaries(
                    {"iscrowd": st.booleans()},
                    optional={"area": st.sampled_from([None, 3.0, 36.0])},
                ),
            ),
            max_size=3,
        ),
        min_size=1,
        max_size=12,
    ),
    choice=st.builds(
        Choice,
        categories=st.sampled_from([["cat"], ["animal"], ["cat", "person"]]),
        crowd=st.sampled_from(["ignore", "foreground", "background"]),
        min_area=st.sampled_from([0, 10]),
        negatives=st.sampled_from([0.5, 1, 3]),
        negatives_like=st.sampled_from([[], ["teddy bear"]]),
        licenses=st.sampled_from([[], [4]]),
        limit=st.sampled_from([0, 1, 4]),
        on_invalid=st.just("omit"),
    ),
)
def test_the_plain_selection_of_verify_is_the_same(shown, choice):
    licenses = [1 + 3 * (place % 2) for place in range(len(shown))]
    content = make_content(shown, licenses)
    index = InstancesIndex(json.dumps(content).encode(), origin="test.json")
    ours = {each.image.id: each for each in select(index, choice).records}
    plain = PlainCoco(content)
    theirs = plain.select(choice, "train2017")
    assert ours.keys() == theirs.keys()
    for id, record in ours.items():
        for name in ("annotations", "ignored"):
            found = [each["id"] for each in getattr(theirs[id], name)]
            assert found == [each.id for each in getattr(record, name)]


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 4, 9])
def test_a_limit_takes_the_first_and_their_share_of_negatives(limit):
    index = make_index([[CAT], [], [CAT], [], [CAT], [], [CAT]])
    whole = select(index, Choice(negatives=0.5))
    assert len(whole.records) == 6
    selection = select(index, Choice(negatives=0.5, limit=limit))
    left_out = selection.omitted.left_out["are beyond the limit"]
    assert len(selection.records) + left_out == 6
    shown = [each.image.id for each in selection.records if each.annotations]
    assert shown == [1, 3, 5, 7][: len(shown)]
    if limit in (0, 9):
        assert ids(selection) == ids(whole)
    else:
        assert len(selection.records) == limit
        assert limit - len(shown) == limit * 2 // 6


@given(st.integers(1, 20), st.integers(0, 20))
def test_a_larger_share_keeps_all_of_a_smaller(first, more):
    index = make_index([[CAT]] * 4 + [[]] * 200)
    small = ids(select(index, Choice(negatives=first)))
    large = ids(select(index, Choice(negatives=first + more)))
    assert set(small) <= set(large)
    assert len(small) == 4 + 4 * first


def test_the_choice_of_negatives_depends_on_their_ids_alone():
    """Other images that come and go do not change the order."""
    alone = ids(select(make_index([[CAT]] + [[]] * 30), Choice(negatives=5)))
    more = ids(
        select(make_index([[CAT]] + [[]] * 30 + [[DOG]] * 9), Choice(negatives=5))
    )
    assert set(more) - set(alone) <= set(range(32, 41))
    assert alone == [1, 2, 6, 17, 18, 29]  # By blake2b of the decimal id.


def test_look_alikes_are_preferred():
    index = make_index([[CAT], [CAT]] + [[]] * 50 + [[DOG], [BEAR], [PERSON]])
    choice = Choice(negatives=1, negatives_like=["dog", "teddy bear"])
    assert ids(select(index, choice)) == [1, 2, 53, 54]
    more = Choice(negatives=2, negatives_like=["dog", "teddy bear"])
    assert {1, 2, 53, 54} < set(ids(select(index, more)))


def test_an_image_with_the_category_is_never_a_negative():
    shown = [[CAT], [DOG, (CAT, {"iscrowd": 1})], [(CAT, {"area": 3.0}), DOG]]
    choice = Choice(
        negatives=5, negatives_like=["dog"], min_area=10, crowd="background"
    )
    assert ids(select(make_index(shown), choice)) == [1]


def test_small_instances_are_ignored_and_images_of_nothing_else_left_out():
    shown = [[(CAT, {"area": 40.0}), (CAT, {"area": 5.0})], [(CAT, {"area": 5.0})]]
    selection = select(make_index(shown), Choice(min_area=10))
    (record,) = selection.records
    assert [each.area for each in record.annotations] == [40.0]
    assert [each.area for each in record.ignored] == [5.0]
    assert selection.omitted.left_out == {"show only instances under min_area": 1}


@pytest.mark.parametrize(("least", "expected"), [(36, [1]), (37, [])])
def test_an_area_that_is_not_recorded_is_counted(least, expected):
    assert ids(select(make_index([[CAT]]), Choice(min_area=least))) == expected


@pytest.mark.parametrize(
    ("crowd", "expected"),
    [("ignore", [1, 2]), ("foreground", [1, 2]), ("background", [1])],
)
def test_images_of_nothing_but_crowds(crowd, expected):
    index = make_index([[CAT, (CAT, {"iscrowd": 1})], [(CAT, {"iscrowd": 1})]])
    assert ids(select(index, Choice(crowd=crowd))) == expected


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"image_id": 99}, "annotation 1 belongs to image 99, which the file"),
        ({"category_id": 99}, "annotation 1 of image 1 has the category id 99"),
    ],
)
def test_strays_stop_or_are_counted(fields, fault):
    index = make_index([[(CAT, fields), CAT], [CAT]])
    with pytest.raises(CocoDataError, match=f"test.json: {fault}"):
        select(index, Choice())
    selection = select(index, Choice(on_invalid="omit"))
    assert ids(selection) == [1, 2]
    assert len(selection.records[0].annotations) == 1
    ((image, text),) = selection.omitted.invalid
    assert image is None
    assert fault in text


def test_an_image_with_a_stray_is_no_negative():
    """It may show a cat that lost its category."""
    index = make_index([[CAT], [(CAT, {"category_id": 99})], []])
    choice = Choice(negatives=5, on_invalid="omit")
    selection = select(index, choice)
    assert ids(selection) == [1, 3]
    assert selection.omitted.negatives_lacking == 4


def test_a_stray_of_another_category_concerns_nobody():
    index = make_index([[CAT, (DOG, {"image_id": 99})]])
    assert ids(select(index, Choice())) == [1]


def test_two_annotations_of_one_id_are_both_drawn():
    index = make_index([[CAT, CAT]], id=5)
    (record,) = select(index, Choice()).records
    assert len(record.annotations) == 2


def test_only_images_of_the_licences_are_taken():
    """Also as negatives, look-alikes among them."""
    index = make_index([[CAT], [CAT], [DOG], [DOG], [], []], [4, 1, 1, 4, 4, 1])
    selection = select(index, Choice(licenses=[4]))
    assert ids(selection) == [1]
    assert selection.omitted.left_out == {
        "have none of the licences": 3,
        "show none of the categories": 2,
    }
    assert ids(select(index, Choice(licenses=[1, 4]))) == [1, 2]
    negatives = Choice(licenses=[4], negatives=9, negatives_like=["dog"])
    assert ids(select(index, negatives)) == [1, 4, 5]
    one = Choice(licenses=[4], negatives=1, negatives_like=["dog"])
    assert ids(select(index, one)) == [1, 4]


def test_without_licences_asked_for_nothing_is_read_of_them():
    index = make_index([[CAT], [CAT], [CAT]], [None, "CC BY", [4]])
    assert ids(select(index, Choice())) == [1, 2, 3]


@pytest.mark.parametrize("license", [None, "4", 4.0, True])
def test_an_image_without_a_licence_stops_or_is_counted(license):
    index = make_index([[CAT], [CAT], [DOG]], [4, license, license])
    fault = f"image 2 has no licence number, but {license!r}"
    with pytest.raises(CocoDataError, match=f"test.json: {fault}.*any licence"):
        select(index, Choice(licenses=[4]))
    selection = select(index, Choice(licenses=[4], on_invalid="omit"))
    assert ids(selection) == [1]
    # That of the dog concerns nobody, unless it could be a negative.
    assert selection.omitted.invalid == [(2, fault)]
    assert selection.omitted.left_out == {"have none of the licences": 1}
    negatives = Choice(licenses=[4], on_invalid="omit", negatives=1)
    assert [id for id, _ in select(index, negatives).omitted.invalid] == [2, 3]


def test_unknown_licences():
    index = make_index([[CAT]], [4])
    fault = r"Unknown licence 9 in test.json. It lists 1 \(NC\), 4 \(Attribution\)"
    with pytest.raises(CocoDataError, match=fault):
        select(index, Choice(licenses=[4, 9]))
    content = {"images": [], "annotations": [], "categories": CATEGORIES}
    for table, fault in [
        ({}, "Unknown licence 4 in test.json. It lists none"),
        ({"licenses": [{"name": "mine"}]}, "`licenses` is no list.*`id`.*Correct it"),
        ({"licenses": "CC BY"}, "`licenses` is no list of licences"),
    ]:
        index = InstancesIndex(json.dumps(content | table).encode(), origin="test.json")
        select(index, Choice())
        with pytest.raises(CocoDataError, match=fault):
            select(index, Choice(licenses=[4]))
