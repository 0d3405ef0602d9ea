"""The folder in COCO's layout: upright photos, and their labels with them."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from coco_cats_tfds.annotations import Annotation
from coco_cats_tfds.errors import CocoDataError
from coco_cats_tfds.imports.labels import Labels, Shape, encode
from coco_cats_tfds.imports.photos import Photo
from coco_cats_tfds.imports.report import Report
from coco_cats_tfds.inputs import instances_name
from coco_cats_tfds.masks import decode_segmentation

_COCO_SPLITS = {"train": "train2017", "validation": "val2017"}


def write_coco(
    folder: pathlib.Path,
    by_photo: Mapping[pathlib.Path, Sequence[Labels]],
    split: Mapping[pathlib.Path, str],
    categories: Sequence[str],
    orientation: str | None,
    report: Report,
) -> None:
    """Photos and annotations of both splits, into a folder that is there and empty.

    Args:
      folder: The folder.
      by_photo: What was said of each photo.
      split: Of each photo; those of "test" are left out.
      categories: What is taken; numbered from 1.
      orientation: As for `import_photos`.
      report: Is told what was written.

    Raises:
      CocoDataError: A photo or a label is damaged.
    """
    ids = {name: number for number, name in enumerate(categories, start=1)}
    entries = {
        side: {
            "images": list[dict[str, Any]](),
            "annotations": list[dict[str, Any]](),
            "categories": [{"id": id, "name": name} for name, id in ids.items()],
        }
        for side in _COCO_SPLITS
    }
    for name in _COCO_SPLITS.values():
        (folder / name).mkdir()
    names: set[str] = set()
    for path, labels in by_photo.items():
        side = split[path]
        if side not in entries:
            report.left["photos of a split for tests"] += 1
            continue
        if all(each.is_partial and not each.shapes for each in labels):
            report.left["photos with marks, and no pixels of an object"] += 1
            continue
        photo, number = Photo(path), len(names) + 1
        name = _new_name(path, names)
        if photo.write(folder / _COCO_SPLITS[side] / name):
            report.encoded += 1
            report.turned += photo.orientation != 1
        width, height = photo.upright
        entries[side]["images"].append(
            {"id": number, "file_name": name, "width": width, "height": height}
        )
        report.photos[side] += 1
        for each in labels:
            made_on = photo.labelled(each.size, orientation)
            for shape in each.shapes:
                if shape.category not in ids:
                    report.left["objects of other categories"] += 1
                    continue
                mask = _mask(photo, shape, made_on, each.file)
                if not mask.any():
                    report.left["outlines without a pixel"] += 1
                    continue
                is_turned = made_on == "stored" and photo.orientation != 1
                rle, annotations = encode(mask), entries[side]["annotations"]
                polygons = shape.scaled(width, height)
                annotations.append(
                    {
                        "id": 1 + report.ignored + sum(report.objects.values()),
                        "image_id": number,
                        "category_id": ids[shape.category],
                        "iscrowd": int(shape.is_crowd),
                        "area": float(mask.sum()),
                        "bbox": coco_mask.toBbox(rle).tolist(),
                        # Turned corners are drawn a little otherwise; pixels are exact.
                        "segmentation": (
                            rle if is_turned or shape.is_crowd else polygons
                        ),
                    }
                )
                if shape.is_crowd:
                    report.ignored += 1
                else:
                    report.objects[shape.category] += 1
    (folder / "annotations").mkdir()
    for side, name in _COCO_SPLITS.items():
        (folder / instances_name(name)).write_text(json.dumps(entries[side]))


def _new_name(path: pathlib.Path, taken: set[str]) -> str:
    """The photo's own with `.jpg`, with its folder's before it if that is taken."""
    for stem in (path.stem, f"{path.parent.name}_{path.stem}"):
        name = f"{stem}.jpg"
        if name not in taken:
            break
    else:
        name = f"{path.stem}_{len(taken)}.jpg"
    taken.add(name)
    return name


def _mask(
    photo: Photo, shape: Shape, made_on: str | None, file: pathlib.Path
) -> npt.NDArray[np.bool_]:
    """The shape's pixels on the upright photo, [H, W]."""
    width, height = photo.stored if made_on == "stored" else photo.upright
    segmentation = msgspec.Raw(msgspec.json.encode(shape.scaled(width, height)))
    annotation = Annotation(0, 0, 0, segmentation)
    try:
        mask = decode_segmentation(annotation, height=height, width=width)
    except CocoDataError as error:
        raise CocoDataError(
            f"{file} has an outline of {shape.category!r} for {photo.path.name} that"
            f" cannot be drawn: {error.__cause__}. Correct it, or take it out."
        ) from error
    return photo.turned(mask) if made_on == "stored" else mask
