"""Labels in a file for each photo: mask PNGs, and the text of YOLO's segmentation."""

from __future__ import annotations

import pathlib
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import PIL.Image

from coco_cats_tfds.errors import CocoDataError
from coco_cats_tfds.imports.labels import SUFFIXES, Labels, Shape, encode, split_of

# As `unet-train predict` calls what it writes.
MASK_SUFFIX = "_mask"
_IGNORED = 255
_OPAQUE = 255
# Channels of colour, in which a picture may be grey all the same.
_GREY_IN = {"LA": 1, "RGB": 3, "RGBA": 3}
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
        lines, shapes = _lines(path), []
        if lines and all(pathlib.PurePath(x).suffix.lower() in SUFFIXES for x in lines):
            left["lists of photos"] += 1
            continue
        for number, line in enumerate(lines, start=1):
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
            if polygon:
                if not 0 <= index < len(names):
                    raise CocoDataError(
                        f"{path}, line {number} has the class {index}, and there are"
                        f" names for {len(names)}: {list(names)}. Name them all, from"
                        " class 0 on, with --names, or in a file classes.txt, obj.names"
                        " or data.yaml beside."
                    )
                if len(polygon) + 1 == _BOX:
                    x, y, half_width, half_height = np.divide(polygon, [1, 1, 2, 2])
                    start = x - half_width, y - half_height
                    end = x + half_width, y + half_height
                    shape = Shape.box(names[index], start, end, relative=True)
                else:
                    shape = Shape(names[index], [polygon], relative=True)
                shapes.append(shape)
        split = split_of(path, by_stem=True)
        yield Labels(path, path.stem, shapes, None, by_stem=True, split=split)


def read_masks(paths: Sequence[pathlib.Path], names: Sequence[str]) -> Iterator[Labels]:
    """Mask PNGs: 0 and 255, 0 and 1, or the number of a label in each pixel.

    Where masks have other values than 0 and 255, 255 are pixels that shall not count.

    Args:
      paths: The files.
      names: Of the labels from 1.

    Raises:
      CocoDataError: A mask is in colours, a label has no name, or 255 may be an object
        in some and pixels that shall not count in others.
    """
    values = {path: np.unique(_read_mask(path)).tolist() for path in paths}
    found = sorted({value for each in values.values() for value in each})
    numbered = [path for path, each in values.items() if {*each} - {0, _IGNORED}]
    is_binary = not numbered
    with_it = [path for path, each in values.items() if _IGNORED in each]
    # Where one has both, it is known what 255 is.
    if numbered and with_it and not {*numbered} & {*with_it}:
        one, other = with_it[0], numbered[0]
        raise CocoDataError(
            f"{one} has the values {values[one]}, and {other} has"
            f" {values[other]}: is 255 an object there, or what shall not count? Save"
            " all masks with the same values."
        )
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
            mask, mode = np.asarray(picture), picture.mode
    except OSError as error:
        raise CocoDataError(f"{path} is no mask that can be read: {error}.") from error
    if mode in _GREY_IN:
        colours, alpha = mask[..., : _GREY_IN[mode]], mask[..., _GREY_IN[mode] :]
        if (colours == colours[..., :1]).all() and (alpha == _OPAQUE).all():
            mask, mode = colours[..., 0], "L"
    if mode not in {"1", "L", "P"}:
        raise CocoDataError(
            f"{path} has the mode {mode}: colours, or more than 8 bits, or pixels that"
            " are transparent. A mask has one number a pixel: save it as grey or with a"
            " palette."
        )
    return mask.astype(np.uint8)


def _lines(path: pathlib.Path) -> list[str]:
    try:
        return path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise CocoDataError(f"{path} is no text in UTF-8: {error}.") from error
