"""Pictures of what was found: a tint over the photo, PNG files that are known again.

```python
write_png(path, overlay(photo, mask), writer="unet-train predict")
is_marked(path, "unet-train predict")  # True
```
"""

from __future__ import annotations

import os
import pathlib

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.PngImagePlugin

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

    Args:
      photo: uint8 [H, W, 3].
      mask: bool [H, W].

    Returns:
      uint8 [H, W, 3].
    """
    result = tint(photo, mask)
    result[_outline(mask)] = _OUTLINE
    return result


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
    path: pathlib.Path, pixels: npt.NDArray[np.generic], *, writer: str
) -> None:
    """Writes a PNG that says whose it is; whole or not at all.

    Args:
      path: The file; its folder is made if need be.
      pixels: uint8 or uint16 [H, W], or uint8 [H, W, 3].
      writer: What `is_marked` knows it by.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not named after the file, whose name may be as long as one can be.
    partial = path.with_name(f".{os.getpid()}.partial")
    mark = PIL.PngImagePlugin.PngInfo()
    mark.add_text("Software", writer)
    try:
        PIL.Image.fromarray(pixels).save(partial, format="PNG", pnginfo=mark)
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
