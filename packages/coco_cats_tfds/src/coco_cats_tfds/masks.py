"""From COCO segmentations to one mask: polygons, uncompressed and compressed RLE.

```python
drawing = draw_mask(record.annotations, height=480, width=640, labels={17: 1, 18: 2})
drawing.mask  # uint8 [480, 640, 1] of 0, 1 and 2, and 255
```

pycocotools draws; this module checks first, because pycocotools trusts its input (a
polygon of two points is taken for a box, an RLE that overruns writes past its buffer).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, get_args

import msgspec
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from coco_cats_tfds.annotations import Annotation
from coco_cats_tfds.errors import CocoDataError

BACKGROUND = 0
FOREGROUND = 1
IGNORE = 255

CrowdRule = Literal["ignore", "foreground", "background"]
CROWD_RULES: tuple[str, ...] = get_args(CrowdRule)

# pycocotools walks along a polygon's edges pixel by pixel, inside the image or not, so
# these bound its time and memory. The longest outline in COCO is far below.
_FARTHEST_COORDINATE = 100_000.0
_LONGEST_OUTLINE = 10_000_000.0
_MOST_INSTANCES = 65_535

Mask = npt.NDArray[np.uint8]
InstanceMap = npt.NDArray[np.uint16]
_Encoded = dict[str, Any]
"""A compressed RLE as pycocotools has it: `{"size": [h, w], "counts": bytes}`."""


class _Rle(msgspec.Struct):
    # Some tools write whole numbers as floats.
    size: tuple[float, float]
    counts: str | list[Annotated[float, msgspec.Meta(ge=0)]]


_decode_json = msgspec.json.Decoder(list[list[float]] | _Rle).decode


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A mask and what was noticed while drawing it.

    ```python
    from coco_cats_tfds.annotations import InstancesIndex
    from coco_cats_tfds.choice import Choice
    from coco_cats_tfds.masks import Drawing, draw_mask
    from coco_cats_tfds.selection import select

    index = InstancesIndex.load("COCO/annotations/instances_val2017.json")
    record = select(index, Choice()).records[0]
    size = {"height": record.image.height, "width": record.image.width}
    drawing = draw_mask(record.annotations, **size)
    assert isinstance(drawing, Drawing)
    print(drawing.mask.shape, drawing.unseen)
    ```

    Attributes:
      mask: uint8 [height, width, 1]: 0 background, labels from 1, 255 ignored.
      unseen: Ids of annotations that cover no pixel, e.g. outside the image.
      instances: uint16 [height, width, 1]: on each pixel the number of the single
        instance that the mask shows there, 0 where none; None if not asked for.
    """

    mask: Mask
    unseen: tuple[int, ...]
    instances: InstanceMap | None = None


class _Layer(NamedTuple):
    """What is painted at once: a value, where, and on how many pixels."""

    value: int
    encoded: _Encoded
    pixels: int


def draw_mask(
    annotations: Iterable[Annotation],
    *,
    height: int,
    width: int,
    labels: Mapping[int, int] | None = None,
    crowd: CrowdRule = "ignore",
    ignored: Iterable[Annotation] = (),
    with_instances: bool = False,
) -> Drawing:
    """Draws all annotations of one image.

    Where single instances of two labels overlap, the one of fewer pixels is on top; of
    the same number, that which comes later.

    ```python
    from coco_cats_tfds.annotations import InstancesIndex
    from coco_cats_tfds.masks import draw_mask

    index = InstancesIndex.load("COCO/annotations/instances_val2017.json")
    image = index.images[index.annotations[0].image_id]
    found = [each for each in index.annotations if each.image_id == image.id]
    mask = draw_mask(found, height=image.height, width=image.width).mask
    assert mask.shape == (image.height, image.width, 1)
    ```

    Args:
      annotations: The instances and crowds to draw.
      height: Of the image, in pixels.
      width: Of the image, in pixels.
      labels: By category id, 1 to 254; 1 for all if None.
      crowd: What becomes of crowd regions where no single instance covers them:
        "ignore" marks them 255, "foreground" with their label, "background" 0.
      ignored: Marked 255 where none of `annotations` is drawn.
      with_instances: Number the single instances too: 1, 2, ... in the order of
        `annotations`.

    Raises:
      CocoDataError: A segmentation does not decode; the text names the annotation. Or
        there are more instances than 16 bits can number.
    """
    below: list[_Layer] = []
    crowds: list[_Layer] = []
    singles: list[_Layer] = []
    places = {"ignore": below, "foreground": crowds, "background": []}
    unseen = []
    for annotation, layers in [
        *((each, places[crowd] if each.iscrowd else singles) for each in annotations),
        *((each, below) for each in ignored),
    ]:
        encoded = encode_segmentation(annotation, height=height, width=width)
        label = FOREGROUND if labels is None else labels[annotation.category_id]
        value = IGNORE if layers is below else label
        layers.append(_Layer(value, encoded, int(coco_mask.area(encoded))))
        if not layers[-1].pixels:
            unseen.append(annotation.id)
    mask = np.full((height, width), BACKGROUND, np.uint8)
    # Single instances last: they win over what is ignored around them.
    for value, run in itertools.groupby(
        [*below, *_by_size(crowds), *_by_size(singles)], key=lambda layer: layer.value
    ):
        merged = coco_mask.merge([layer.encoded for layer in run])
        mask[coco_mask.decode(merged) != 0] = value
    numbers = _number(singles, height, width) if with_instances else None
    return Drawing(mask[..., np.newaxis], tuple(unseen), numbers)


def _by_size(layers: Iterable[_Layer]) -> list[_Layer]:
    """As they are painted: the larger first."""
    return sorted(layers, key=lambda layer: -layer.pixels)


def _number(singles: list[_Layer], height: int, width: int) -> InstanceMap:
    """The map of single instances, counted from 1 in their order."""
    if len(singles) > _MOST_INSTANCES:
        raise CocoDataError(
            f"An image has {len(singles)} instances, and 16 bits number"
            f" {_MOST_INSTANCES}. Build without `instances`."
        )
    numbers = np.zeros((height, width, 1), np.uint16)
    numbered = [each._replace(value=i) for i, each in enumerate(singles, start=1)]
    for each in _by_size(numbered):
        numbers[coco_mask.decode(each.encoded) != 0] = each.value
    return numbers


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
    encoded = encode_segmentation(annotation, height=height, width=width)
    return np.asarray(coco_mask.decode(encoded), dtype=np.bool_)


def count_pixels(annotation: Annotation, *, height: int, width: int) -> int:
    """How many pixels of an image an annotation covers; errors as in decoding."""
    encoded = encode_segmentation(annotation, height=height, width=width)
    return int(coco_mask.area(encoded))


def encode_segmentation(
    annotation: Annotation, *, height: int, width: int
) -> dict[str, Any]:
    """One annotation as pycocotools' compressed RLE, after every check.

    ```python
    from pycocotools import mask

    from coco_cats_tfds.annotations import InstancesIndex
    from coco_cats_tfds.masks import encode_segmentation

    index = InstancesIndex.load("COCO/annotations/instances_val2017.json")
    cat = index.annotations[0]
    image = index.images[cat.image_id]
    rle = encode_segmentation(cat, height=image.height, width=image.width)
    assert mask.area(rle) == cat.area
    ```

    Args:
      annotation: As for `decode_segmentation`.
      height: Of the image, in pixels.
      width: Of the image, in pixels.

    Returns:
      A dict of `size`, [height, width], and `counts`, bytes.

    Raises:
      CocoDataError: The segmentation is malformed or does not fit the image.
    """
    try:
        segmentation = _decode_json(annotation.segmentation)
        if isinstance(segmentation, _Rle):
            counts = _rle_counts(segmentation, height, width)
            parts = {"counts": counts, "size": [height, width]}
            return dict(coco_mask.frPyObjects(parts, height, width))
        _check_polygons(segmentation)
        return dict(coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width)))
    except (ValueError, msgspec.DecodeError, RecursionError) as error:
        raise CocoDataError(
            f"Annotation {annotation.id} of image {annotation.image_id} has a"
            f" segmentation that does not decode: {error}. Correct or remove this"
            " annotation in the instances file."
        ) from error


def _check_polygons(polygons: list[list[float]]) -> None:
    if not polygons:
        raise ValueError("it has no polygons")
    for polygon in polygons:
        if len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(
                f"a polygon has {len(polygon)} numbers; it needs x and y of at least 3"
                " points"
            )
        points = np.array(polygon).reshape(-1, 2)
        farthest = np.abs(points).max()
        if farthest > _FARTHEST_COORDINATE:
            raise ValueError(
                f"a polygon has the coordinate {farthest:g}, far outside any image"
            )
        outline = np.abs(np.diff(points, axis=0)).sum()
        if outline > _LONGEST_OUTLINE:
            raise ValueError(
                f"a polygon has an outline of {outline:.0f} pixels; more than"
                f" {_LONGEST_OUTLINE:.0f} are not drawn"
            )


def _rle_counts(rle: _Rle, height: int, width: int) -> list[int]:
    """The run lengths of an RLE, checked to cover the image exactly."""
    if rle.size != (height, width):
        raise ValueError(
            f"its RLE size [{rle.size[0]:g}, {rle.size[1]:g}] is not the image's"
            f" {[height, width]}"
        )
    if isinstance(rle.counts, str):
        counts = decompress_counts(rle.counts)
        if any(count < 0 for count in counts):
            raise ValueError("its RLE counts hold a negative length")
    else:
        if part := next((each for each in rle.counts if each % 1), None):
            raise ValueError(f"its RLE counts hold {part:g}, which is no whole number")
        counts = [int(count) for count in rle.counts]
    if sum(counts) != height * width:
        raise ValueError(
            f"its RLE covers {sum(counts)} of {height * width} pixels"
            f" ({height} x {width})"
        )
    return _without_empty_runs(counts)


def _without_empty_runs(counts: list[int]) -> list[int]:
    """The same pixels with no run of length 0 but a first one.

    pycocotools merges RLEs wrongly, and reads what is not there, where two have an
    empty run at the same place.
    """
    found: list[int] = []
    for index, count in enumerate(counts):
        if count and len(found) % 2 != index % 2:
            found[-1:] = [sum(found[-1:]) + count] if found else [0, count]
        elif count:
            found.append(count)
    return found


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
      ValueError: A character outside the alphabet, or a number cut off or of more than
        the 64 bits that any image needs.
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
            if shift > 60:
                raise ValueError("its RLE string has a number of more than 64 bits")
            continue
        if code & 0x10:  # The sign bit of the last group.
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("its RLE string ends in the middle of a number")
    return counts
