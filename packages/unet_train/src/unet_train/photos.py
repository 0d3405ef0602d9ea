"""Photos on disk: read as a person sees them, and written with what was found."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageOps

Photo = npt.NDArray[np.uint8]

_TINT = np.array([255, 64, 160], np.float32)
_TINT_STRENGTH = 0.45
_OUTLINE = np.array([255, 255, 0], np.uint8)


def read_photo(path: str | os.PathLike[str]) -> Photo:
    """Reads a photo with its EXIF orientation applied.

    Args:
      path: JPEG, PNG or whatever else Pillow reads.

    Returns:
      uint8 [H, W, 3].

    Raises:
      ValueError: The file is not a picture that can be read.
    """
    try:
        with PIL.Image.open(path) as picture:
            upright = PIL.ImageOps.exif_transpose(picture)
            if upright.mode.startswith("I"):  # 16 bits a pixel; Pillow would clip them.
                deep = np.asarray(upright).astype(np.uint32) >> 8
                upright = PIL.Image.fromarray(deep.clip(0, 255).astype(np.uint8))
            return np.asarray(upright.convert("RGB"))
    except (OSError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise ValueError(
            f"{os.fspath(path)} is not a readable photo: {error}"
        ) from error


def overlay(photo: Photo, mask: npt.NDArray[np.bool_]) -> Photo:
    """The photo with the foreground tinted and outlined.

    Args:
      photo: uint8 [H, W, 3].
      mask: bool [H, W].

    Returns:
      uint8 [H, W, 3].
    """
    result = photo.copy()
    tinted = photo[mask] * (1 - _TINT_STRENGTH) + _TINT * _TINT_STRENGTH
    result[mask] = np.round(tinted).astype(np.uint8)
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


def output_paths(
    photos: Sequence[pathlib.Path], directory: pathlib.Path
) -> dict[pathlib.Path, tuple[pathlib.Path, pathlib.Path]]:
    """Where mask and overlay of each photo go: `<stem>_mask.png`, `<stem>_overlay.png`.

    Raises:
      ValueError: Two photos would share an output, or an output would replace a photo.
    """
    targets = {
        photo: (
            directory / f"{photo.stem}_mask.png",
            directory / f"{photo.stem}_overlay.png",
        )
        for photo in photos
    }
    inputs = {photo.resolve() for photo in photos}
    seen: dict[pathlib.Path, pathlib.Path] = {}
    for photo, paths in targets.items():
        for path in paths:
            if path.resolve() in inputs:
                raise ValueError(
                    f"The output {path} would replace a photo of that name. Give"
                    " another --output."
                )
        if paths[0] in seen:
            raise ValueError(
                f"{seen[paths[0]]} and {photo} would both be written to {paths[0]}."
                " Rename one, or predict them into different folders."
            )
        seen[paths[0]] = photo
    return targets


def write_png(path: pathlib.Path, pixels: Photo) -> None:
    """Writes uint8 [H, W] or [H, W, 3]; the file is whole or absent."""
    partial = path.with_name(f".{path.name}.partial")
    PIL.Image.fromarray(pixels).save(partial, format="PNG")
    partial.replace(path)
