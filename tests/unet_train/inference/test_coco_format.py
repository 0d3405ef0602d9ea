"""What pycocotools reads back is what was found."""

import contextlib
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from unet_train.inference.coco_format import (
    CocoWriter,
    bounding_box,
    polygons,
    run_lengths,
)

masks = hnp.arrays(
    np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.booleans()
)


def filled(found, shape):
    if not found:
        return np.zeros(shape, bool)
    runs = coco_mask.merge(coco_mask.frPyObjects(found, *shape))
    return coco_mask.decode(runs).astype(bool)


@given(masks)
def test_polygons_are_the_mask(mask):
    np.testing.assert_array_equal(filled(polygons(mask), mask.shape), mask)


def test_a_ring_in_a_ring_and_pixels_that_touch_at_corners():
    rows, columns = np.mgrid[:41, :41]
    distance = np.hypot(rows - 20, columns - 20)
    rings = (distance < 19) & ~((distance > 6) & (distance < 12)) & (distance > 3)
    chess = (rows + columns) % 2 == 0
    for mask in (rings, chess, rings & chess, ~chess | rings):
        np.testing.assert_array_equal(filled(polygons(mask), mask.shape), mask)
    square = np.zeros((9, 9), bool)
    square[2:5, 3:7] = True
    assert polygons(square) == [[3, 2, 7, 2, 7, 5, 3, 5]]


def test_many_holes_on_a_diagonal():
    """Each cut goes through the middle, so they do not follow one upon the other."""
    mask = np.ones((1300, 1300), bool)
    holes = np.arange(2, 1298, 4)
    mask[holes, holes] = False
    np.testing.assert_array_equal(filled(polygons(mask), mask.shape), mask)


@given(masks)
def test_run_lengths_are_the_mask(mask):
    runs = json.loads(json.dumps(run_lengths(mask)))
    np.testing.assert_array_equal(coco_mask.decode(runs), mask)
    if mask.any():
        assert bounding_box(mask) == coco_mask.toBbox(runs).tolist()


def write(folder, forms):
    rng = np.random.default_rng(0)
    found = [rng.random((20 + i, 30)) < 0.2 * i for i in range(4)]
    writer = CocoWriter({"id": 17, "name": "cat"}, forms)
    for number, mask in enumerate(found, 1):
        probabilities = np.where(mask, 0.75, 0.25).astype(np.float32)
        writer.add(number, f"day/{number}.jpg", mask, probabilities)
    writer.write(folder)
    return found


def read(folder, *names):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / names[0]))
        return coco.loadRes(str(folder / names[1])) if names[1:] else coco


@pytest.mark.parametrize(
    ("form", "names"),
    [
        ("rle", ["coco_images.json", "coco_results.json"]),
        ("polygons", ["coco_annotations.json"]),
    ],
)
def test_pycocotools_reads_it_back(tmp_path, form, names):
    found = write(tmp_path, [form])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    coco = read(tmp_path, *names)
    assert [image["file_name"] for image in coco.loadImgs([1, 4])] == [
        "day/1.jpg", "day/4.jpg",
    ]  # fmt: skip
    assert coco.getCatIds(["cat"]) == [17]
    for number, mask in enumerate(found, 1):
        annotations = coco.loadAnns(coco.getAnnIds(number))
        assert len(annotations) == mask.any()
        for each in annotations:
            np.testing.assert_array_equal(coco.annToMask(each), mask)
            assert each["area"] == mask.sum()
            assert each["score"] == 0.75
            assert each["category_id"] == 17


@pytest.mark.parametrize("category", [{}, {"id": "17", "name": "cat"}, {"id": 1}])
def test_a_category_has_number_and_name(category):
    with pytest.raises(ValueError, match="whole number `id` and a `name`"):
        CocoWriter(category, ["rle"])
