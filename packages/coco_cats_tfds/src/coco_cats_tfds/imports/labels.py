"""What labelling tools say of a photo, in one form."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

Polygons = list[list[float]]
Rle = dict[str, Any]
Corner = tuple[float, float]

SUFFIXES = {
    *(".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif", ".bmp", ".tif", ".tiff"),
}
"""Of photos."""

_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
_KINDS = {"labels", "masks", "annotations", "images"}


@dataclasses.dataclass(frozen=True)
class Shape:
    """One object, or one region that is not to count.

    Attributes:
      category: Its name.
      segmentation: Polygons of x and y in turn, or COCO's run lengths.
      is_crowd: A region that is not to count: a crowd, as COCO has it, or the box of an
        object without an outline, or the whole photo if it has no box either.
      relative: Polygons are in shares of the picture's width and height, not in pixels.
    """

    category: str
    segmentation: Polygons | Rle
    is_crowd: bool = False
    relative: bool = False

    @classmethod
    def box(
        cls, category: str, start: Corner, end: Corner, *, relative: bool = False
    ) -> Shape:
        """The box of an object without an outline: its pixels are not to count."""
        corners = rectangle(*start, *end)
        return cls(category, corners, is_crowd=True, relative=relative)

    def scaled(self, width: int, height: int) -> Polygons | Rle:
        """The segmentation in pixels of the labelled picture."""
        if not self.relative or isinstance(self.segmentation, dict):
            return self.segmentation
        return [
            [
                value * (height if place % 2 else width)
                for place, value in enumerate(polygon)
            ]
            for polygon in self.segmentation
        ]


@dataclasses.dataclass(frozen=True)
class Labels:
    """What one file says of one photo.

    Attributes:
      file: That file.
      photo: The photo's name there, with `/` between folders; without a suffix where
        `by_stem`.
      shapes: May be none: nothing of what was looked for is in the photo.
      size: Width and height of the picture that was labelled, if the file tells.
      by_stem: The photo has the name of this file, and a suffix of its own.
      split: "train", "validation" or "test", if a folder's or the file's name says so.
      is_partial: Something else is marked in the photo, of which no pixels are known,
        such as a point.
    """

    file: pathlib.Path
    photo: str
    shapes: Sequence[Shape]
    size: tuple[int, int] | None = None
    by_stem: bool = False
    split: str | None = None
    is_partial: bool = False


def split_of(path: pathlib.Path, *, by_stem: bool = False) -> str | None:
    """The split that the name of a folder, or of a file of many photos in it, tells.

    A folder that is named for what it holds, as in `train/labels/cat.txt`, tells it by
    the one above.
    """
    folder = path.parent
    if folder.name.lower() in _KINDS:
        folder = folder.parent
    name = folder.name if by_stem else f"{folder.name} {path.stem}"
    words = re.split(r"[^a-z]+", name.lower())
    found = {_SPLITS[word] for word in words if word in _SPLITS}
    return found.pop() if len(found) == 1 else None


def rectangle(x: float, y: float, x_end: float, y_end: float) -> Polygons:
    """The polygon of a box."""
    corners = [x, y, x_end, y, x_end, y_end, x, y_end]
    return [[float(value) for value in corners]]


def ellipse(x: float, y: float, x_radius: float, y_radius: float) -> Polygons:
    """A polygon of an ellipse about a centre, of 128 corners."""
    angles = np.linspace(0, 2 * np.pi, 128, endpoint=False)
    corners = (x + x_radius * np.cos(angles), y + y_radius * np.sin(angles))
    return [np.stack(corners, -1).ravel().tolist()]


def encode(mask: npt.NDArray[np.bool_]) -> Rle:
    """Run lengths, as JSON can have them, of a mask [H, W]."""
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")}
