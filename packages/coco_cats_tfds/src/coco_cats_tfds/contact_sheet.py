"""A picture of a built dataset: image, tinted mask, ignored pixels hatched."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw

from coco_cats_tfds.built import BuiltExample
from coco_cats_tfds.masks import FOREGROUND, IGNORE

CELL = 256
"""Side of the square in which each image is shown, in pixels."""

_CAPTION = 16
_GAP = 6
_PAPER = (250, 250, 250)
_INK = (40, 40, 40)
_TINT = (230, 30, 90)
_HATCH = (255, 210, 0)
_HATCH_PERIOD = 8


def draw_sheet(examples: Iterable[BuiltExample], count: int) -> PIL.Image.Image:
    """Draws the first `count` examples in a grid, captioned with id and shares.

    Raises:
      ValueError: `count` is not positive.
    """
    if count < 1:
        raise ValueError(f"A sheet needs at least 1 image. Received: {count}")
    cells = [draw_cell(each) for each in itertools.islice(examples, count)]
    columns = math.ceil(math.sqrt(len(cells) * 1.5))
    rows = math.ceil(len(cells) / columns)
    width, height = CELL + _GAP, CELL + _CAPTION + _GAP
    sheet = PIL.Image.new("RGB", (columns * width + _GAP, rows * height + _GAP), _PAPER)
    for index, cell in enumerate(cells):
        row, column = divmod(index, columns)
        sheet.paste(cell, (_GAP + column * width, _GAP + row * height))
    return sheet


def draw_cell(example: BuiltExample) -> PIL.Image.Image:
    """One image at most `CELL` pixels large, with its mask and a caption below."""
    image = PIL.Image.open(io.BytesIO(example.jpeg)).convert("RGB")
    image.thumbnail((CELL, CELL))
    mask = PIL.Image.fromarray(example.mask[..., 0])
    values = np.asarray(mask.resize(image.size, PIL.Image.Resampling.NEAREST))
    cell = PIL.Image.new("RGB", (CELL, CELL + _CAPTION), _PAPER)
    place = ((CELL - image.width) // 2, (CELL - image.height) // 2)
    cell.paste(PIL.Image.fromarray(tint(np.asarray(image), values)), place)
    shares = [
        f"{100 * np.mean(example.mask == value):.1f}% {name}"
        for value, name in ((FOREGROUND, "mask"), (IGNORE, "ignored"))
        if np.any(example.mask == value)
    ]
    caption = "  ".join([str(example.image_id), *(shares or ["negative"])])
    PIL.ImageDraw.Draw(cell).text((2, CELL + 2), caption, fill=_INK)
    return cell


def tint(
    pixels: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    """Foreground in colour with a bright outline, ignored pixels hatched.

    Args:
      pixels: uint8 [H, W, 3].
      mask: uint8 [H, W] of 0, 1 and 255.

    Returns:
      uint8 [H, W, 3].
    """
    result = pixels.astype(np.float32)
    foreground = mask == FOREGROUND
    result[foreground] = 0.55 * result[foreground] + 0.45 * np.array(_TINT)
    result[_outline(foreground)] = _TINT
    y, x = np.indices(mask.shape)
    stripes = (x + y) % _HATCH_PERIOD < 2
    result[(mask == IGNORE) & stripes] = _HATCH
    return result.round().astype(np.uint8)


def _outline(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Pixels inside that touch one outside."""
    padded = np.pad(inside, 1, mode="edge")
    neighbours = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2]
    return inside & ~(neighbours & padded[1:-1, 2:])
