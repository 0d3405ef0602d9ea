"""A picture of a built dataset: image, tinted mask, ignored pixels hatched.

```python
draw_sheet(built.examples("train"), 24, built.class_names).save("grid.png")
```
"""

from __future__ import annotations

import colorsys
import io
import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw

from coco_cats_tfds.built import BuiltExample
from coco_cats_tfds.masks import IGNORE

CELL = 256
"""Side of the square in which each image is shown, in pixels."""

_CAPTION = 16
_GAP = 6
_PAPER = (250, 250, 250)
_INK = (40, 40, 40)
_TINTS = (
    (230, 30, 90),
    (0, 130, 240),
    (20, 180, 80),
    (250, 130, 0),
    (150, 80, 230),
    (0, 190, 200),
)
_HATCH = (255, 210, 0)
_HATCH_PERIOD = 8


def draw_sheet(
    examples: Iterable[BuiltExample], count: int, class_names: Sequence[str] = ()
) -> PIL.Image.Image:
    """Draws the first `count` examples in a grid, captioned with id and shares.

    ```python
    from coco_cats_tfds.built import find_built
    from coco_cats_tfds.contact_sheet import draw_sheet

    (dataset,) = find_built("OUT", "cats")
    draw_sheet(dataset.examples("train"), 6).save("grid.png")
    ```

    Args:
      examples: What to draw.
      count: How many.
      class_names: Of the labels 1, 2, ...; told in a legend below the grid. None where
        there is but one label.

    Raises:
      ValueError: `count` is not positive.
    """
    if count < 1:
        raise ValueError(f"A sheet needs at least 1 image. Received: {count}")
    cells = [draw_cell(each, class_names) for each in itertools.islice(examples, count)]
    columns = math.ceil(math.sqrt(len(cells) * 1.5))
    rows = math.ceil(len(cells) / columns)
    width, height = CELL + _GAP, CELL + _CAPTION + _GAP
    size = columns * width + _GAP, rows * height + _GAP
    legend = _draw_legend(class_names, size[0])
    sheet = PIL.Image.new("RGB", (size[0], size[1] + legend.height), _PAPER)
    sheet.paste(legend, (0, size[1]))
    for index, cell in enumerate(cells):
        row, column = divmod(index, columns)
        sheet.paste(cell, (_GAP + column * width, _GAP + row * height))
    return sheet


def color_of(label: int) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255, of a label from 1 on."""
    if label <= len(_TINTS):
        return _TINTS[label - 1]
    # Steps of the golden angle come back to no hue.
    red, green, blue = colorsys.hsv_to_rgb(label * 0.618034 % 1, 0.75, 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)


def _draw_legend(class_names: Sequence[str], width: int) -> PIL.Image.Image:
    """A colour and a name a class, in as many lines as they take; of no height else."""
    canvas = PIL.Image.new(
        "RGB", (width, _CAPTION * (len(class_names) + 1)), color=_PAPER
    )
    draw = PIL.ImageDraw.Draw(canvas)
    x = y = _GAP
    for label, name in enumerate(class_names, start=1):
        length = _CAPTION + round(draw.textlength(name)) + 2 * _GAP
        if x > _GAP and x + length > width:
            x, y = _GAP, y + _CAPTION
        draw.rectangle((x, y, x + 10, y + 10), color_of(label))
        draw.text((x + _CAPTION, y), name, fill=_INK)
        x += length
    return canvas.crop((0, 0, width, y + _CAPTION if class_names else 0))


def draw_cell(
    example: BuiltExample, class_names: Sequence[str] = ()
) -> PIL.Image.Image:
    """One image at most `CELL` pixels large, with its mask and a caption below."""
    image = PIL.Image.open(io.BytesIO(example.jpeg)).convert("RGB")
    image.thumbnail((CELL, CELL))
    values = _resized(example.mask, image.size).astype(np.uint8)
    instances = (
        None if example.instances is None else _resized(example.instances, image.size)
    )
    cell = PIL.Image.new("RGB", (CELL, CELL + _CAPTION), _PAPER)
    place = ((CELL - image.width) // 2, (CELL - image.height) // 2)
    tinted = tint(np.asarray(image), values, instances)
    cell.paste(PIL.Image.fromarray(tinted), place)
    names = class_names or ("mask",)
    shares = [
        f"{100 * np.mean(example.mask == value):.1f}% {name}"
        for value, name in (*enumerate(names, start=1), (IGNORE, "ignored"))
        if np.any(example.mask == value)
    ]
    caption = "  ".join([str(example.image_id), *(shares or ["negative"])])
    PIL.ImageDraw.Draw(cell).text((2, CELL + 2), caption, fill=_INK)
    return cell


def _resized(
    values: npt.NDArray[np.integer], size: tuple[int, int]
) -> npt.NDArray[np.integer]:
    """Values [H, W, 1] at the nearest places of another size, as [height, width]."""
    picture = PIL.Image.fromarray(values[..., 0].astype(np.int32))
    return np.asarray(picture.resize(size, PIL.Image.Resampling.NEAREST))


def tint(
    pixels: npt.NDArray[np.uint8],
    mask: npt.NDArray[np.uint8],
    instances: npt.NDArray[np.integer] | None = None,
) -> npt.NDArray[np.uint8]:
    """A colour a label, with a bright outline, and ignored pixels hatched.

    Args:
      pixels: uint8 [H, W, 3].
      mask: uint8 [H, W] of 0, labels from 1, and 255.
      instances: [H, W], numbers of instances, which are outlined too.

    Returns:
      uint8 [H, W, 3].
    """
    result = pixels.astype(np.float32)
    edges = _edges(mask)
    if instances is not None:
        edges |= _edges(instances)
    for label in np.setdiff1d(mask, (0, IGNORE)):
        inside, color = mask == label, color_of(int(label))
        result[inside] = 0.55 * result[inside] + 0.45 * np.array(color)
        result[inside & edges] = color
    y, x = np.indices(mask.shape)
    stripes = (x + y) % _HATCH_PERIOD < 2
    result[(mask == IGNORE) & stripes] = _HATCH
    return result.round().astype(np.uint8)


def _edges(values: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Pixels that touch one of another value."""
    padded = np.pad(values, 1, mode="edge")
    neighbours = (
        padded[:-2, 1:-1],
        padded[2:, 1:-1],
        padded[1:-1, :-2],
        padded[1:-1, 2:],
    )
    return np.any([each != values for each in neighbours], axis=0)
