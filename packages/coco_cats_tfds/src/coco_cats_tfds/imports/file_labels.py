"""Labels in a file for each photo: mask PNGs, and the text of YOLO's segmentation."""

from __future__ import annotations

import pathlib
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import PIL.Image

from coco_cats_tfds.errors import CocoDataError
from coco_cats_tfds.imports.labels import Labels, Shape, encode, split_of

# As `unet-train predict` calls what it writes.
MASK_SUFFIX = "_mask"
_IGNORED = 255
_BOX = 5  # Numbers in a line of YOLO's that has no outline.


def read_yolo(
    paths: Sequence[pathlib.Path], names: Sequence[str], left: Counter[str]
) -> Iterator[Labels]:
    """Text files with a line an object: its class, then x and y in turn, 0 to 1.

    Args:
      paths: The files.
      names: Of the classes from 0.
      left: Counts what is left out, by what it is.

    Raises:
      CocoDataError: A line is something else, or a class has no name.
    """
    for path in paths:
        shapes = []
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
            try:
                label, *values = line.split() or ["0"]
                index, polygon = int(label), [float(value) for value in values]
                if len(polygon) % 2 or not all(-1 <= each <= 2 for each in polygon):
                    raise ValueError("no pairs between 0 and 1")
            except ValueError as error:
                raise CocoDataError(
                    f"{path}, line {number}: {line[:60]!r} is no class with x and y in"
                    f" turn, each 0 to 1, of YOLO's segmentation ({error})."
                ) from error
            if len(polygon) + 1 == _BOX:
                left["boxes without an outline"] += 1
            elif polygon:
                if not 0 <= index < len(names):
                    raise CocoDataError(
                        f"{path}, line {number} has the class {index}, and there are"
                        f" names for {len(names)}: {list(names)}. Name them all, from"
                        " class 0 on, with --names, or in a file classes.txt, or"
                        " data.yaml, beside."
                    )
                shapes.append(Shape(names[index], [polygon], relative=True))
        split = split_of(path, by_stem=True)
        yield Labels(path, path.stem, shapes, None, by_stem=True, split=split)


def read_masks(paths: Sequence[pathlib.Path], names: Sequence[str]) -> Iterator[Labels]:
    """Mask PNGs: 0 and 255, 0 and 1, or the number of a label in each pixel.

    Where a mask has other values than 0 and 255, 255 are pixels that shall not count.

    Args:
      paths: The files.
      names: Of the labels from 1.

    Raises:
      CocoDataError: A mask is in colours, or a label has no name.
    """
    values = {path: np.unique(_read_mask(path)).tolist() for path in paths}
    found = sorted({value for each in values.values() for value in each})
    is_binary = set(found) <= {0, _IGNORED}
    labels = [1] if is_binary else [each for each in found if 0 < each < _IGNORED]
    if not names or max(labels, default=0) > len(names):
        raise CocoDataError(
            f"The masks have the values {found}, so their labels are {labels}, and"
            f" there are names for {len(names)}: {list(names)}. Name them, from 1 on,"
            " with --names, e.g. --names cat."
        )
    for path in paths:
        mask = _read_mask(path)
        if is_binary:
            mask = (mask == _IGNORED).astype(np.uint8)
        shapes = [
            Shape(names[label - 1], encode(mask == label))
            for label in np.unique(mask).tolist()
            if 0 < label < _IGNORED
        ]
        if (mask == _IGNORED).any():
            ignored = encode(mask == _IGNORED)
            shapes += [Shape(name, ignored, is_crowd=True) for name in names]
        size = mask.shape[1], mask.shape[0]
        stem = path.stem.removesuffix(MASK_SUFFIX)
        split = split_of(path, by_stem=True)
        yield Labels(path, stem, shapes, size, by_stem=True, split=split)


def _read_mask(path: pathlib.Path) -> npt.NDArray[np.uint8]:
    try:
        with PIL.Image.open(path) as picture:
            if picture.mode not in {"1", "L", "P"}:
                raise CocoDataError(
                    f"{path} has the mode {picture.mode}: colours, or more than 8 bits."
                    " A mask has one number a pixel: save it as grey or with a palette."
                )
            mask = np.asarray(picture)
    except OSError as error:
        raise CocoDataError(f"{path} is no mask that can be read: {error}.") from error
    return mask.astype(np.uint8)
