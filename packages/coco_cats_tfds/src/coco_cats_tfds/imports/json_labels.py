"""JSON of labelling tools: COCO's instances in any arrangement, labelme, VIA."""

from __future__ import annotations

import base64
import binascii
import io
import math
import pathlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import PIL.Image

from coco_cats_tfds.annotations import InstancesIndex
from coco_cats_tfds.errors import CocoDataError
from coco_cats_tfds.imports.labels import (
    Labels,
    Shape,
    ellipse,
    encode,
    rectangle,
    split_of,
)


def read_json(
    path: pathlib.Path, names: Sequence[str], attribute: str | None, left: Counter[str]
) -> Iterator[Labels]:
    """The labels in a file, whichever of these tools wrote it.

    Args:
      path: The file.
      names: Names of categories; VIA's regions without attributes take the only one.
      attribute: VIA's attribute that names the category; None for the only one.
      left: Counts what is left out, by what it is.

    Raises:
      CocoDataError: It is of no such tool, or damaged.
    """
    try:
        read = path.read_bytes()
        content = msgspec.json.decode(read.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CocoDataError(f"{path} is no JSON: {error}. Export it again.") from error
    content = content if isinstance(content, dict) else {}
    regions = content.get("_via_img_metadata", content)
    try:
        if "images" in content and "annotations" in content:
            yield from _coco(path, read, content)
        elif "shapes" in content and "imagePath" in content:
            yield _labelme(path, content, left)
        elif regions and all(_is_via(each) for each in regions.values()):
            for each in regions.values():
                yield _via(path, each, names, attribute, left)
        else:
            raise CocoDataError(
                f"{path} has no labels that are known: it is neither COCO's instances"
                " (`images` and `annotations`), nor of labelme (`shapes` and"
                " `imagePath`), nor of VIA (`regions` by `filename`). Export it as one"
                " of these, or name the right files."
            )
    except (KeyError, TypeError, AttributeError) as error:
        raise CocoDataError(
            f"{path} is damaged: {error!r}. Export it again."
        ) from error


def _coco(
    path: pathlib.Path, read: bytes, content: Mapping[str, Any]
) -> Iterator[Labels]:
    # Label Studio does not know the size of a photo on which it has no label.
    unsized = [
        each
        for each in content["images"]
        if None in (each.get("width", 0), each.get("height", 0))
    ]
    for each in unsized:
        each["width"] = each["height"] = 1
    read = msgspec.json.encode(content) if unsized else read
    index = InstancesIndex(read, origin=path)
    sizes = {id: (each.width, each.height) for id, each in index.images.items()}
    for each in unsized:
        sizes.pop(each["id"], None)
    categories = {each.id: each.name for each in index.categories}
    shapes: dict[int, list[Shape]] = {image_id: [] for image_id in index.images}
    for each, entry in zip(index.annotations, content["annotations"], strict=True):
        if each.image_id not in shapes or each.category_id not in categories:
            raise CocoDataError(
                f"{path}: the annotation {each.id} is of image {each.image_id} and"
                f" category {each.category_id}, and one of them is not in the file."
                " Export it again."
            )
        name = categories[each.category_id]
        if segmentation := msgspec.json.decode(each.segmentation):
            shape = Shape(name, segmentation, bool(each.iscrowd))
        elif box := entry.get("bbox"):
            x, y, width, height = box
            shape = Shape.box(name, (x, y), (x + width, y + height))
        else:
            # It may be anywhere: nothing but what has an outline counts.
            shape = Shape.box(name, (0, 0), (1, 1), relative=True)
        shapes[each.image_id].append(shape)
    for image_id, image in index.images.items():
        name = image.file_name.replace("\\", "/")
        size = sizes.get(image_id)
        yield Labels(path, name, shapes[image_id], size, split=split_of(path))


def _labelme(
    path: pathlib.Path, content: Mapping[str, Any], left: Counter[str]
) -> Labels:
    width, height = content["imageWidth"], content["imageHeight"]
    size = None if width is None or height is None else (int(width), int(height))
    shapes, is_partial = [], False
    for each in content["shapes"]:
        kind, points = each.get("shape_type") or "polygon", each["points"]
        if kind == "polygon":
            polygons = [[float(value) for point in points for value in point]]
            shapes.append(Shape(each["label"], polygons))
        elif kind == "rectangle":
            (x, y), (x_end, y_end) = points
            shapes.append(Shape(each["label"], rectangle(x, y, x_end, y_end)))
        elif kind == "circle":
            (x, y), (x_end, y_end) = points
            radius = math.hypot(x_end - x, y_end - y)
            shapes.append(Shape(each["label"], ellipse(x, y, radius, radius)))
        elif kind == "mask" and size is not None:
            whole = _labelme_mask(path, each, size)
            shapes.append(Shape(each["label"], encode(whole)))
        else:
            left[f"labelme shapes of type {kind!r}"] += 1
            is_partial = True
    name = content["imagePath"].replace("\\", "/")
    split = split_of(path, by_stem=True)
    return Labels(path, name, shapes, size, split=split, is_partial=is_partial)


def _labelme_mask(
    path: pathlib.Path, shape: Mapping[str, Any], size: tuple[int, int]
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """The part in the shape's rectangle, in a mask of the whole picture."""
    left, top = (round(value) for value in shape["points"][0])
    try:
        with PIL.Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as picture:
            part = np.asarray(picture.convert("L")) > 0
    except (OSError, binascii.Error, ValueError) as error:
        raise CocoDataError(
            f"{path} has a shape of type mask that is no picture: {error}."
        ) from error
    whole = np.zeros((size[1], size[0]), bool)
    window = whole[top : top + part.shape[0], left : left + part.shape[1]]
    if min(left, top) < 0 or window.shape != part.shape:
        raise CocoDataError(
            f"{path} has a shape of type mask that leaves the picture: {part.shape} at"
            f" {(top, left)} in {whole.shape} (rows, columns)."
        )
    window[...] = part
    return whole


def _is_via(entry: object) -> bool:
    return isinstance(entry, dict) and "filename" in entry and "regions" in entry


def _via(
    path: pathlib.Path,
    entry: Mapping[str, Any],
    names: Sequence[str],
    attribute: str | None,
    left: Counter[str],
) -> Labels:
    regions, shapes, is_partial = entry["regions"], [], False
    # Up to version 1 they are numbered.
    for each in regions.values() if isinstance(regions, dict) else regions:
        where = each["shape_attributes"]
        kind = where["name"]
        if kind == "polygon":
            pairs = zip(where["all_points_x"], where["all_points_y"], strict=True)
            polygons = [[float(value) for pair in pairs for value in pair]]
        elif kind == "rect":
            x, y = where["x"], where["y"]
            polygons = rectangle(x, y, x + where["width"], y + where["height"])
        elif kind == "circle":
            polygons = ellipse(where["cx"], where["cy"], where["r"], where["r"])
        elif kind == "ellipse" and not where.get("theta"):
            polygons = ellipse(where["cx"], where["cy"], where["rx"], where["ry"])
        else:
            left[f"VIA regions of type {kind!r}"] += 1
            is_partial = True
            continue
        category = _via_category(path, each["region_attributes"], names, attribute)
        shapes.append(Shape(category, polygons))
    name, split = entry["filename"], split_of(path)
    return Labels(path, name, shapes, split=split, is_partial=is_partial)


def _via_category(
    path: pathlib.Path,
    attributes: Mapping[str, Any],
    names: Sequence[str],
    attribute: str | None,
) -> str:
    if not attributes and len(names) == 1:
        return names[0]
    keys = [attribute] if attribute else [*attributes]
    found = [_chosen(attributes.get(key)) for key in keys]
    if len(found) != 1 or not isinstance(found[0], str) or not found[0]:
        raise CocoDataError(
            f"{path} has a region with the attributes {dict(attributes)}, and which of"
            " them names its category is not clear. Name the attribute with"
            " --attribute, or where there is none the only category with --names."
        )
    return found[0]


def _chosen(value: object) -> object:
    """A value; of several boxes to be ticked the only one that is."""
    if isinstance(value, dict):
        ticked = [name for name, is_ticked in value.items() if is_ticked]
        return ticked[0] if len(ticked) == 1 else None
    return value
