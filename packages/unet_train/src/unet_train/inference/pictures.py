"""Pictures of what was found: a tint over the photo, PNG files that are known again.

```python
write_png(path, overlay(photo, mask), writer="unet-train predict")
is_marked(path, "unet-train predict")  # True
```
"""

from __future__ import annotations

import colorsys
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import PIL.PngImagePlugin

from unet_train.data.labels import is_foreground

Pixels = npt.NDArray[np.uint8]

_TINT = np.array([255, 64, 160], np.float32)
_TINT_STRENGTH = 0.45
_OUTLINE = np.array([255, 255, 0], np.uint8)


def tint(photo: Pixels, mask: npt.NDArray[np.bool_]) -> Pixels:
    """The photo with the foreground in another hue.

    Args:
      photo: uint8 [..., H, W, 3].
      mask: bool [..., H, W].

    Returns:
      uint8 as `photo`.
    """
    result = photo.copy()
    tinted = photo[mask] * (1 - _TINT_STRENGTH) + _TINT * _TINT_STRENGTH
    result[mask] = np.round(tinted).astype(np.uint8)
    return result


def overlay(photo: Pixels, mask: npt.NDArray[np.bool_]) -> Pixels:
    """The photo with the foreground tinted and outlined.

    ```python
    from unet_train.inference.photos import read_photo
    from unet_train.inference.pictures import overlay

    photo = read_photo("photo.jpg")
    painted = overlay(photo, Predictor.load("runs/cats")(photo))
    ```

    Args:
      photo: uint8 [H, W, 3].
      mask: bool [H, W].

    Returns:
      uint8 [H, W, 3].
    """
    result = tint(photo, mask)
    result[_outline(mask)] = _OUTLINE
    return result


def colour_of(label: int) -> tuple[int, int, int]:
    """Of a class by its label from 1: hues that lie far apart, the first the tint's."""
    if label == 1:
        return tuple(_TINT.astype(int).tolist())
    # Steps of the golden angle: no two of few are alike, whatever their number.
    hue = (0.92 + (label - 1) * 0.618034) % 1
    value = (1.0, 0.75, 0.55)[(label - 1) // 7 % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def palette(labels: int) -> Pixels:
    """The colour of each label below `labels`, the background black; uint8 [256, 3].

    255, what is ignored, is grey.
    """
    colours = np.zeros((256, 3), np.uint8)
    for label in range(1, labels):
        colours[label] = colour_of(label)
    colours[255] = 128
    return colours


def tint_classes(photo: Pixels, labels: Pixels) -> Pixels:
    """The photo with a hue for each class.

    Args:
      photo: uint8 [..., H, W, 3].
      labels: uint8 [..., H, W]; 0 and 255 stay as they are.

    Returns:
      uint8 as `photo`.
    """
    where = is_foreground(labels)
    colours = palette(int(labels[where].max(initial=0)) + 1)[labels[where]]
    colours = colours.astype(np.float32)
    result = photo.copy()
    mixed = photo[where] * (1 - _TINT_STRENGTH) + colours * _TINT_STRENGTH
    result[where] = np.round(mixed).astype(np.uint8)
    return result


def overlay_classes(photo: Pixels, labels: Pixels, names: Sequence[str]) -> Pixels:
    """The photo with a hue and an outline for each class, and a legend of those found.

    Args:
      photo: uint8 [H, W, 3].
      labels: uint8 [H, W].
      names: Of the labels from 1.

    Returns:
      uint8 [H, W, 3].
    """
    result = tint_classes(photo, labels)
    present = [int(each) for each in np.unique(labels[is_foreground(labels)])]
    for label in present:
        result[_outline(labels == label)] = colour_of(label)
    return _with_legend(result, {names[each - 1]: colour_of(each) for each in present})


def overlay_of(photo: Pixels, mask: npt.NDArray[Any], names: Sequence[str]) -> Pixels:
    """What was found, over the photo: of one class, or of several with a legend.

    Args:
      photo: uint8 [H, W, 3].
      mask: bool or labels [H, W].
      names: Of the classes.
    """
    if len(names) > 1:
        return overlay_classes(photo, mask, names)
    return overlay(photo, mask == 1)


def _with_legend(
    picture: Pixels, entries: Mapping[str, tuple[int, int, int]]
) -> Pixels:
    """Names on a dark ground in the upper left corner, each behind its colour."""
    if not entries:
        return picture
    image = PIL.Image.fromarray(picture)
    draw = PIL.ImageDraw.Draw(image)
    size = max(10, min(picture.shape[:2]) // 30)
    font = PIL.ImageFont.load_default(size)
    width = 2 * size + max(round(draw.textlength(name, font)) for name in entries)
    line = round(1.4 * size)
    draw.rectangle((0, 0, width + size // 2, line * len(entries) + size // 2), "black")
    for row, (name, colour) in enumerate(entries.items()):
        top = size // 4 + row * line
        corner = (size // 2 + size, top + size + size // 8)
        draw.rectangle((size // 2, top + size // 8, *corner), colour)
        draw.text((2 * size, top), name, "white", font)
    return np.asarray(image)


def _outline(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Pixels of the mask near a pixel outside it; thicker on large photos."""
    inner = mask.copy()
    for _ in range(max(1, max(mask.shape) // 500)):
        padded = np.pad(inner, 1, constant_values=True)
        inner = (
            inner
            & padded[:-2, 1:-1]
            & padded[2:, 1:-1]
            & padded[1:-1, :-2]
            & padded[1:-1, 2:]
        )
    return mask & ~inner


def write_png(
    path: pathlib.Path,
    pixels: npt.NDArray[np.generic],
    *,
    writer: str,
    colours: Pixels | None = None,
) -> None:
    """Writes a PNG that says whose it is; whole or not at all.

    Args:
      path: The file; its folder is made if need be.
      pixels: uint8 or uint16 [H, W], or uint8 [H, W, 3].
      writer: What `is_marked` knows it by.
      colours: uint8 [256, 3]: of values of uint8 [H, W], which stay what is stored.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not named after the file, whose name may be as long as one can be.
    partial = path.with_name(f".{os.getpid()}.partial")
    mark = PIL.PngImagePlugin.PngInfo()
    mark.add_text("Software", writer)
    picture = PIL.Image.fromarray(pixels)
    if colours is not None:
        picture.putpalette(colours.tobytes())
    try:
        picture.save(partial, format="PNG", pnginfo=mark)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def is_marked(path: pathlib.Path, writer: str) -> bool:
    """Whether `write_png` wrote the file for this writer."""
    if path.suffix.lower() != ".png":
        return False
    try:
        with PIL.Image.open(path) as picture:
            return bool(picture.info.get("Software") == writer)
    except Exception:  # Whatever a damaged file causes: it is none of ours.
        return False
