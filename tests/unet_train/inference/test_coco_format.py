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
    writer = CocoWriter([{"id": 17, "name": "cat"}], forms, folder)
    for number, mask in enumerate(found, 1):
        probabilities = np.where(mask, 0.75, 0.25).astype(np.float32)
        writer.add(number, f"day/{number}.jpg", mask, probabilities[..., None])
    writer.write()
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
def test_a_category_has_number_and_name(tmp_path, category):
    with pytest.raises(ValueError, match="whole number `id` and a `name`"):
        CocoWriter([category], ["rle"], tmp_path)


FORMS = ["rle", "polygons"]
NAMES = ["coco_annotations.json", "coco_images.json", "coco_results.json"]


def corrected(content):
    """As after an hour in an annotation tool."""
    entries = content if isinstance(content, list) else content["annotations"]
    images = [] if isinstance(content, list) else content["images"]
    [*entries, *images][0]["note"] = "corrected"
    return content


def test_what_it_wrote_itself_may_be_replaced(tmp_path):
    write(tmp_path, FORMS)
    for path in tmp_path.iterdir():  # Saved again by an editor that indents.
        path.write_text(json.dumps(json.loads(path.read_text()), indent=2))
    write(tmp_path, FORMS)
    write(tmp_path, ["polygons"])
    write(tmp_path, ["rle"])
    assert sorted(path.name for path in tmp_path.iterdir()) == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "change",
    [
        lambda text: json.dumps(corrected(json.loads(text))),
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: '{"images": [], "annotations": [], "categories": []}',
        lambda text: "7",
        lambda text: "",
    ],
)
def test_what_was_changed_since_is_not_replaced(tmp_path, name, change):
    write(tmp_path, FORMS)
    path = tmp_path / name
    path.write_text(change(path.read_text()))
    before = {each: each.read_bytes() for each in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=f"{name} is there, and.*or.*move it away"):
        write(tmp_path, FORMS)
    assert {each: each.read_bytes() for each in tmp_path.iterdir()} == before
    form = "polygons" if name == "coco_annotations.json" else "rle"
    (other,) = set(FORMS) - {form}
    write(tmp_path, [other])  # What is not to be written is nobody's concern.


def test_results_without_what_tells_whose_they_are(tmp_path):
    write(tmp_path, ["rle"])
    (tmp_path / "coco_images.json").unlink()
    with pytest.raises(ValueError, match="coco_results.json is there"):
        write(tmp_path, ["rle"])
