"""A COCO folder of four images, small enough to check by hand."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
import pytest

CATEGORIES = [
    {"id": 17, "name": "cat", "supercategory": "animal"},
    {"id": 18, "name": "dog", "supercategory": "animal"},
    {"id": 88, "name": "teddy bear", "supercategory": "indoor"},
]
SQUARE = [[2.0, 2.0, 8.0, 2.0, 8.0, 8.0, 2.0, 8.0]]


def annotation(
    id: int, image_id: int, category_id: int, **fields: Any
) -> dict[str, Any]:
    return {
        "id": id,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": SQUARE,
        "iscrowd": 0,
        **fields,
    }


def write_split(root: pathlib.Path, split: str, **fields: Any) -> None:
    """Images 1 (cat), 2 (dog), 3 (cat and dog), 4 (nothing), each 20 x 30."""
    images = [
        {"id": id, "file_name": f"{id:012d}.jpg", "height": 20, "width": 30}
        for id in (1, 2, 3, 4)
    ]
    content = {
        "images": images,
        "annotations": [
            annotation(10, 1, 17),
            annotation(11, 2, 18),
            annotation(12, 3, 17),
            annotation(13, 3, 18),
        ],
        "categories": CATEGORIES,
        **fields,
    }
    folder = root / split
    folder.mkdir(parents=True)
    for image in images:
        pixels = np.random.default_rng(image["id"]).integers(0, 256, (20, 30, 3))
        PIL.Image.fromarray(pixels.astype(np.uint8)).save(folder / image["file_name"])
    path = root / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def make_coco(tmp_path: pathlib.Path) -> Callable[..., pathlib.Path]:
    """Writes the folder; keywords replace parts of the training split's JSON."""

    def make(**fields: Any) -> pathlib.Path:
        root = tmp_path / "coco"
        write_split(root, "train2017", **fields)
        write_split(root, "val2017")
        return root

    return make


@pytest.fixture(scope="session")
def test_data() -> pathlib.Path:
    """The folder with real photographs; tests that need it skip without it."""
    folder = os.environ.get("COCO_CATS_TEST_DATA")
    if not folder:
        pytest.skip("set COCO_CATS_TEST_DATA to the folder with coco_real/ to run this")
    return pathlib.Path(folder)
