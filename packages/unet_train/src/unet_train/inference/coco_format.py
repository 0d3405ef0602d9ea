"""Masks in COCO's own formats: run lengths for results, polygons for annotations.

pycocotools reads both back, pixel by pixel:

```python
found = COCO("coco_images.json").loadRes("coco_results.json")
found = COCO("coco_annotations.json")
```
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask
from scipy import ndimage

from unet_train.inference.marked_json import is_unchanged, is_unchanged_list, marked
from unet_train.inference.photos import WRITER
from unet_train.runs.folder import write_text

RESULTS, IMAGES = "coco_results.json", "coco_images.json"
ANNOTATIONS = "coco_annotations.json"

Mask = npt.NDArray[np.bool_]

# Pixels that touch at a corner: of the background they are one region.
_EIGHT = np.ones((3, 3))


class CocoWriter:
    """Collects the masks of photos and writes them in COCO's formats.

    One entry for each class of a photo: the network tells cats from background, not one
    from another. What was not found has none.

    ```python
    import pathlib

    import numpy as np

    from unet_train.inference.coco_format import CocoWriter

    mask = np.zeros((60, 80), bool)
    mask[20:40, 30:50] = True
    writer = CocoWriter([{"id": 17, "name": "cat"}], ["rle"], pathlib.Path("."))
    writer.add(1, "photo.jpg", mask, np.float32(mask)[..., np.newaxis])
    writer.write()  # coco_results.json, coco_images.json
    ```

    Attributes:
      categories: COCO's number and name of each class: `id` and `name`.
      forms: "rle" for results, "polygons" for annotations.
      folder: That the files go to.
    """

    def __init__(
        self,
        categories: Sequence[Mapping[str, Any]],
        forms: Sequence[str],
        folder: pathlib.Path,
    ) -> None:
        """Writes nothing yet.

        Raises:
          ValueError: A category is none, or a file to be written is there and is
            not as a prediction wrote it.
        """
        for each in categories:
            if set(each) != {"id", "name"} or not isinstance(each["id"], int):
                raise ValueError(
                    "A category has a whole number `id` and a `name`, such as"
                    f' {{"id": 17, "name": "cat"}}. Received: {dict(each)}'
                )
        self.categories = [dict(each) for each in categories]
        self.forms = forms
        self.folder = folder
        _require_ours(folder, forms)
        self._images: list[dict[str, Any]] = []
        self._results: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(
        self,
        number: int,
        name: str,
        mask: npt.NDArray[Any],
        probabilities: npt.NDArray[np.float32],
    ) -> None:
        """Takes one photo.

        Args:
          number: Of the photo, from 1: its `image_id`.
          name: Its `file_name`.
          mask: bool or labels [H, W]: 1 for the first category, and so on.
          probabilities: [H, W, categories]; their mean over what is of the category is
            its `score`.
        """
        if not self.forms:
            return
        height, width = mask.shape
        self._images.append(
            {"id": number, "file_name": name, "height": height, "width": width}
        )
        for index, category in enumerate(self.categories):
            of_it = mask == index + 1
            if of_it.any():
                score = float(probabilities[..., index][of_it].mean())
                self._add(number, category["id"], score, of_it)

    def _add(self, number: int, category: int, score: float, mask: Mask) -> None:
        common = {"image_id": number, "category_id": category, "score": score}
        if "rle" in self.forms:
            # Without a box: with one, pycocotools would take its area for the mask's.
            self._results.append({**common, "segmentation": run_lengths(mask)})
        if "polygons" in self.forms:
            self._annotations.append(
                {
                    **common,
                    "id": len(self._annotations) + 1,
                    "iscrowd": 0,
                    "bbox": bounding_box(mask),
                    "area": int(mask.sum()),
                    "segmentation": polygons(mask),
                }
            )

    def write(self) -> None:
        """Writes the files that `forms` asks for, each with a mark of whose it is."""
        images = {"images": self._images, "categories": self.categories}
        files: dict[str, Any] = {}
        if "rle" in self.forms:
            files[RESULTS] = self._results
            files[IMAGES] = marked(
                {**images, "annotations": []}, WRITER, {RESULTS: self._results}
            )
        if "polygons" in self.forms:
            annotations = {**images, "annotations": self._annotations}
            files[ANNOTATIONS] = marked(annotations, WRITER)
        for name, content in files.items():
            write_text(self.folder / name, json.dumps(content) + "\n")


def _require_ours(folder: pathlib.Path, forms: Sequence[str]) -> None:
    """Refuses to replace what no prediction wrote, or what was corrected by hand."""
    is_ours = {}
    if "rle" in forms:
        results, images = folder / RESULTS, folder / IMAGES
        is_ours[images] = is_unchanged(images, WRITER)
        is_ours[results] = is_unchanged_list(results, images, WRITER)
    if "polygons" in forms:
        is_ours[folder / ANNOTATIONS] = is_unchanged(folder / ANNOTATIONS, WRITER)
    for path, is_it in is_ours.items():
        if path.exists() and not is_it:
            raise ValueError(
                f"{path} is there, and `{WRITER}` did not write it, or it was changed"
                " since. Give another --output, or move it away."
            )


def run_lengths(mask: Mask) -> dict[str, Any]:
    """Compressed run lengths of bool [H, W], as JSON can hold them."""
    encoded = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode()}


def polygons(mask: Mask) -> list[list[float]]:
    """Polygons that pycocotools fills to exactly this mask.

    They follow the edges of the pixels. COCO's polygons have no holes, so that a region
    with a hole is cut in two through it.

    Args:
      mask: bool [H, W].

    Returns:
      x, y, x, y, ... of each, in pixels from the image's upper left corner.
    """
    found = []
    for top, left, piece in _pieces(mask, 0, 0):
        corners = _outline(piece) + np.array([left, top])
        found.append([float(value) for value in corners.ravel()])
    return found


def bounding_box(mask: Mask) -> list[float]:
    """x, y, width, height of the pixels of a mask that has some."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = rows[0], columns[0]
    sides = columns[-1] + 1 - left, rows[-1] + 1 - top
    return [float(value) for value in (left, top, *sides)]


def _pieces(mask: Mask, top: int, left: int) -> Iterator[tuple[int, int, Mask]]:
    """Regions without holes that make up the mask, each with its place."""
    regions, _ = ndimage.label(mask)
    for number, (rows, columns) in enumerate(ndimage.find_objects(regions), 1):
        region = regions[rows, columns] == number
        y, x = top + rows.start, left + columns.start
        holes, count = ndimage.label(np.pad(~region, 1, constant_values=True), _EIGHT)
        if count == 1:
            yield y, x, region
            continue
        # The first pixel outside is of region 1, which goes all around. The hole
        # nearest to the middle is cut, across the longer side: few cuts follow on cuts.
        axis = int(np.argmax(region.shape))
        places = np.argwhere(holes > 1)[:, axis] - 1
        cut = int(places[np.abs(places - region.shape[axis] / 2).argmin()])
        first, second = np.split(region, [cut], axis)
        yield from _pieces(first, y, x)
        yield from _pieces(second, y + cut * (axis == 0), x + cut * (axis == 1))


def _outline(region: Mask) -> npt.NDArray[np.int64]:
    """The corners of a region without holes, int64 [corners, 2] of x and y.

    Steps go from corner to corner of the pixels with the region to their right.
    """
    padded = np.pad(region, 1)
    # Where the region begins or ends, along each axis.
    down = np.diff(padded.astype(np.int8), axis=0)[:, 1:-1]
    across = np.diff(padded.astype(np.int8), axis=1)[1:-1]
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for values, sign, start, move in (
        (down, 1, (0, 0), (1, 0)),
        (down, -1, (1, 0), (-1, 0)),
        (across, 1, (0, 1), (0, -1)),
        (across, -1, (0, 0), (0, 1)),
    ):
        for y, x in np.argwhere(values == sign).tolist():
            corner = x + start[0], y + start[1]
            steps.setdefault(corner, []).append(move)
    corners: list[tuple[int, int]] = []
    corner = first = min(steps)  # No second region touches at the leftmost corner.
    move = steps[corner][0]
    while True:
        ways = steps.pop(corner)
        if len(ways) == 2:  # Two pixels touch at this corner: stay with this one.
            right = -move[1], move[0]
            ways.remove(right)
            steps[corner] = ways
            ways = [right]
        if not corners or ways[0] != move:
            corners.append(corner)
        move = ways[0]
        corner = corner[0] + move[0], corner[1] + move[1]
        if corner == first:
            return np.array(corners, np.int64)
