"""Draws a small data set in COCO's layout, as `coco_cats_tfds.sample` describes it.

```python
draw_sample(pathlib.Path("sample"), seed=0, train=64, validation=16)
```

The cat is Chelsea, in a photograph (CC0) that ships with scikit-image: cut out along
an outline drawn by hand, turned, mirrored, scaled and lit at random, and pasted on
other pictures of the same wheel. A fifth of the images show no cat. In some a bar
hides a strip of the cat, so the annotation has several polygons; one image of the
training split shows a group of cats annotated as a crowd, with an uncompressed RLE.
The splits share no background picture. Nothing is downloaded.

What else the backgrounds show (a person, a clock, a cup) is not annotated.

With `cups=True` more than half of the pictures also show a cup (of scikit-image's
`coffee.png`, CC0, which is then no background), annotated as COCO's category "cup": a
second class.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image
from pycocotools import mask as coco_mask

from coco_cats_tfds.categories import CAT_ID, CATEGORIES, CUP_ID
from make_sample import scenes
from make_sample.polygons import Polygon
from make_sample.scenes import Backgrounds, Scene, SceneKind

_JPEG_QUALITY = 92
_BAR_PERIOD = 5
_IDS_PER_SPLIT = 1_000_000
"""Keeps the ids of images and annotations unique across the splits."""

_INFO = {
    "description": "Chelsea the cat on pictures from scikit-image, in COCO's layout",
    "url": "https://scikit-image.org/docs/stable/api/skimage.data.html",
    "version": "1.0",
}
_INFO_WITH_CUPS = _INFO | {
    "description": "Chelsea the cat and a cup on pictures from scikit-image, in COCO's"
    " layout"
}
_LICENSES = [
    {
        "id": 1,
        "name": "CC0 1.0 or public domain; skimage.data names the source of each",
        "url": "https://creativecommons.org/publicdomain/zero/1.0/",
    }
]


@dataclasses.dataclass(frozen=True)
class _Split:
    """One split: its number in the seed, COCO's name, its pictures, its crowds."""

    number: int
    name: str
    backgrounds: Backgrounds
    has_crowd: bool


_TRAIN = _Split(0, "train2017", scenes.TRAIN, has_crowd=True)
_VALIDATION = _Split(1, "val2017", scenes.VALIDATION, has_crowd=False)


def draw_sample(
    directory: pathlib.Path,
    *,
    seed: int = 0,
    train: int = 64,
    validation: int = 16,
    cups: bool = False,
) -> None:
    """Draws a sample data set; the same arguments give the same bytes.

    Args:
      directory: Where to write; nothing may be there.
      seed: 0 or above. Another seed gives other images.
      train: Number of training images.
      validation: Number of validation images.
      cups: Show cups too, a second class. The images are others than without.

    Raises:
      ValueError: scikit-image is missing.
      FileExistsError: There is a `directory` already.
    """
    directory.mkdir(parents=True)
    (directory / "annotations").mkdir()
    _write_split(directory, _TRAIN, seed, train, cups)
    _write_split(directory, _VALIDATION, seed, validation, cups)


def _write_split(
    draft: pathlib.Path, split: _Split, seed: int, count: int, cups: bool
) -> None:
    """Writes the images and the instances file of one split."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    folder = draft / split.name
    folder.mkdir()
    first_id = split.number * _IDS_PER_SPLIT + 1
    for index, kind in enumerate(_plan_kinds(count, split)):
        rng = np.random.default_rng([seed, split.number, index])
        scene = scenes.draw_scene(rng, split.backgrounds, kind, with_cups=cups)
        image = _image_entry(first_id + index, scene)
        Image.fromarray(scene.pixels).save(
            folder / image["file_name"], "JPEG", quality=_JPEG_QUALITY
        )
        images.append(image)
        for entry in _scene_annotations(scene):
            identity = {"id": first_id + len(annotations), "image_id": image["id"]}
            annotations.append(identity | entry)
    instances = {
        "info": _INFO_WITH_CUPS if cups else _INFO,
        "licenses": _LICENSES,
        "images": images,
        "annotations": annotations,
        "categories": msgspec.to_builtins(CATEGORIES),
    }
    path = draft / "annotations" / f"instances_{split.name}.json"
    path.write_bytes((json.dumps(instances) + "\n").encode("ascii"))


def _plan_kinds(count: int, split: _Split) -> list[SceneKind]:
    """Returns the kind of each scene, from the count alone.

    A fifth has no cat, evenly spread. Of the rest the first and every fifth after it
    have a bar; the second is the crowd, if the split has one.
    """
    empty = round(count / 5)
    kinds: list[SceneKind] = []
    with_cat = 0
    for index in range(count):
        if (index + 1) * empty // count > index * empty // count:
            kinds.append("empty")
            continue
        if with_cat % _BAR_PERIOD == 0:
            kinds.append("bar")
        elif with_cat == 1 and split.has_crowd:
            kinds.append("crowd")
        else:
            kinds.append("plain")
        with_cat += 1
    return kinds


def _image_entry(image_id: int, scene: Scene) -> dict[str, Any]:
    height, width, _ = scene.pixels.shape
    return {
        "id": image_id,
        "file_name": f"{image_id:012d}.jpg",
        "height": height,
        "width": width,
        "license": 1,
    }


def _scene_annotations(scene: Scene) -> list[dict[str, Any]]:
    """Returns the entries of `annotations` for a scene, without their ids."""
    height, width, _ = scene.pixels.shape
    entries = [
        _polygon_entry(parts, height, width, category_id)
        for category_id, shown in ((CAT_ID, scene.cats), (CUP_ID, scene.cups))
        for parts in shown
    ]
    if scene.crowd:
        entries.append(_crowd_entry(scene.crowd, height, width))
    return entries


def _polygon_entry(
    parts: Sequence[Polygon], height: int, width: int, category_id: int
) -> dict[str, Any]:
    segmentation = [_flat(part) for part in parts]
    rle = _encode(segmentation, height, width)
    return _entry(segmentation, rle, category_id, crowd=False)


def _crowd_entry(parts: Sequence[Polygon], height: int, width: int) -> dict[str, Any]:
    rle = _encode([_flat(part) for part in parts], height, width)
    counts = _run_lengths(coco_mask.decode(rle))
    segmentation = {"counts": counts, "size": [height, width]}
    return _entry(segmentation, rle, CAT_ID, crowd=True)


def _entry(
    segmentation: object, rle: Any, category_id: int, *, crowd: bool
) -> dict[str, Any]:
    """Returns an entry whose area and box are those of the rasterised mask."""
    return {
        "category_id": category_id,
        "segmentation": segmentation,
        "area": float(coco_mask.area(rle)),
        "bbox": [float(value) for value in coco_mask.toBbox(rle)],
        "iscrowd": int(crowd),
    }


def _flat(polygon: Polygon) -> list[float]:
    """Returns [x0, y0, x1, y1, ...] in hundredths of a pixel, as COCO has it."""
    return [round(float(value), 2) for value in polygon.ravel()]


def _encode(segmentation: list[list[float]], height: int, width: int) -> Any:
    """Returns the compressed RLE of the union of some flat polygons."""
    return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))


def _run_lengths(mask: npt.NDArray[np.uint8]) -> list[int]:
    """Returns the run lengths of a binary mask down its columns, zeros first."""
    pixels = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(pixels, prepend=np.uint8(0)))
    runs = np.diff(changes, prepend=0, append=pixels.size)
    return [int(run) for run in runs]
