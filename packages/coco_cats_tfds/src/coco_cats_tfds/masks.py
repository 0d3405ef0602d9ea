"""From COCO segmentations to one mask: polygons, uncompressed and compressed RLE.

```python
mask = draw_mask(record.annotations, height=480, width=640)  # uint8 [480, 640, 1]
```

pycocotools draws; this module checks first, because pycocotools trusts its input (a
polygon of two points is taken for a box, an RLE that overruns writes past its buffer).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, get_args

import msgspec
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from coco_cats_tfds.annotations import Annotation
from coco_cats_tfds.errors import CocoDataError

BACKGROUND = 0
FOREGROUND = 1
IGNORE = 255

CrowdRule = Literal["ignore", "foreground"]
CROWD_RULES: tuple[str, ...] = get_args(CrowdRule)

# pycocotools walks along a polygon's edges pixel by pixel, so a coordinate far outside
# the image costs time and memory without end.
_FARTHEST_COORDINATE = 100_000.0

Mask = npt.NDArray[np.uint8]


def draw_mask(
    annotations: Iterable[Annotation],
    *,
    height: int,
    width: int,
    crowd: CrowdRule = "ignore",
) -> Mask:
    """Draws the union of all annotations of one image.

    Args:
      annotations: The instances and crowds to draw.
      height: Of the image, in pixels.
      width: Of the image, in pixels.
      crowd: What becomes of crowd regions: "ignore" marks them 255 where no single
        instance covers them, "foreground" marks them 1.

    Returns:
      uint8 [height, width, 1] of 0 (background), 1 (foreground) and 255 (ignored).

    Raises:
      CocoDataError: A segmentation does not decode; the text names the annotation.
    """
    mask = np.zeros((height, width), np.uint8)
    crowd_value = FOREGROUND if crowd == "foreground" else IGNORE
    # Crowds first, so that single instances win where both lie.
    for annotation in sorted(annotations, key=lambda each: not each.iscrowd):
        region = decode_segmentation(annotation, height=height, width=width)
        mask[region] = crowd_value if annotation.iscrowd else FOREGROUND
    return mask[..., np.newaxis]


def decode_segmentation(
    annotation: Annotation, *, height: int, width: int
) -> npt.NDArray[np.bool_]:
    """Decodes one annotation as `pycocotools.coco.COCO.annToMask` does.

    Args:
      annotation: Polygons (`[[x0, y0, x1, y1, ...], ...]`), uncompressed RLE
        (`{"counts": [...], "size": [h, w]}`) or compressed RLE (`counts` a string).
      height: Of the image, in pixels.
      width: Of the image, in pixels.

    Returns:
      bool [height, width].

    Raises:
      CocoDataError: The segmentation is malformed or does not fit the image.
    """
    try:
        segmentation = msgspec.json.decode(annotation.segmentation)
        if isinstance(segmentation, list):
            _check_polygons(segmentation)
            parts = coco_mask.frPyObjects(segmentation, height, width)
            encoded = coco_mask.merge(parts)
        elif isinstance(segmentation, dict):
            counts = _rle_counts(segmentation, height, width)
            encoded = coco_mask.frPyObjects(
                {"counts": counts, "size": [height, width]}, height, width
            )
        else:
            raise ValueError(
                f"it is {segmentation!r}, neither a list of polygons nor RLE"
            )
    except (ValueError, msgspec.DecodeError) as error:
        raise CocoDataError(
            f"Annotation {annotation.id} of image {annotation.image_id} has a"
            f" segmentation that does not decode: {error}. Correct or remove this"
            " annotation in the instances file."
        ) from error
    return np.asarray(coco_mask.decode(encoded), dtype=np.bool_)


def _check_polygons(polygons: list[Any]) -> None:
    if not polygons:
        raise ValueError("it has no polygons")
    for polygon in polygons:
        if not isinstance(polygon, list) or not all(
            isinstance(value, (int, float)) and not isinstance(value, bool)
            for value in polygon
        ):
            raise ValueError("a polygon is not a flat list of numbers")
        if len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(
                f"a polygon has {len(polygon)} numbers; it needs x and y of at least 3"
                " points"
            )
        farthest = max(abs(value) for value in polygon)
        if not farthest <= _FARTHEST_COORDINATE:  # Also refuses NaN.
            raise ValueError(
                f"a polygon has the coordinate {farthest}, far outside any image"
            )


def _rle_counts(rle: dict[str, Any], height: int, width: int) -> list[int]:
    """The run lengths of an RLE, checked to cover the image exactly."""
    size, counts = rle.get("size"), rle.get("counts")
    if size != [height, width]:
        raise ValueError(f"its RLE size {size} is not the image's {[height, width]}")
    if isinstance(counts, str):
        counts = decompress_counts(counts)
    if not isinstance(counts, list) or not all(
        type(count) is int and count >= 0 for count in counts
    ):
        raise ValueError("its RLE counts are not a list of lengths or a string")
    if sum(counts) != height * width:
        raise ValueError(
            f"its RLE covers {sum(counts)} of {height * width} pixels"
            f" ({height} x {width})"
        )
    return counts


def decompress_counts(text: str) -> list[int]:
    """Decodes COCO's compressed run lengths.

    Each number is written low bits first in characters of 5 bits plus a "more" bit,
    offset by 48; from the fourth number on it is the difference to the number two
    places before (`rleFrString` in COCO's maskApi.c).

    Args:
      text: The `counts` string of a compressed RLE.

    Returns:
      Run lengths, background first.

    Raises:
      ValueError: A character outside the alphabet, or a number cut off.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise ValueError(f"its RLE string has the character {character!r}")
        value |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20:
            continue
        if code & 0x10:  # The sign bit of the last group.
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("its RLE string ends in the middle of a number")
    return counts
