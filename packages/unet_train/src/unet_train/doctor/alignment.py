"""Do the masks lie on what the images show, or beside it?

An object's outline mostly lies on an edge of the image. For every shift of up to 32
pixels the mean strength of the image's edges under the shifted outline is measured, and
averaged over images; where the masks fit, it is greatest without a shift.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import PIL.Image
import scipy.fft
import scipy.ndimage

from unet_train.data.labels import STRANGE, is_foreground
from unet_train.doctor.finding import Finding
from unet_train.inference.pictures import overlay
from unet_train.scoring.bootstrap import resampled

if TYPE_CHECKING:
    from unet_train.data.source import Example

REACH = 32
# Outlines drawn by hand are off by this much, in pixels.
_TOLERATED = 5
# Of the resampled sets of images, how many must agree on the shift, and how closely.
_AGREEMENT, _NEAR = 0.9, 3
_FEWEST = 4
_CELL, _COLUMNS = 256, 4


def boundary_map(
    image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float32] | None:
    """Strength of an image's edges under the mask's outline, for every shift of it.

    Args:
      image: uint8 [H, W, 3].
      mask: uint8 [H, W] with 1 foreground, 255 ignored.

    Returns:
      float32 [65, 65]: at [32 + dy, 32 + dx] the outline is shifted by dy pixels down
      and dx to the right; in standard deviations of the image's edges. None if there is
      no outline.
    """
    outline = _outline(mask)
    if np.count_nonzero(outline) < REACH:
        return None
    grey = image.mean(-1, dtype=np.float32)
    edges = np.sqrt(scipy.ndimage.gaussian_gradient_magnitude(grey, 1.0))
    edges = (edges - edges.mean()) / (edges.std() + 1e-6)
    # Correlation by FFT; the outline counts only where it stays within the image.
    shape = [
        scipy.fft.next_fast_len(side + 2 * REACH, real=True) for side in mask.shape
    ]
    reversed_outline = np.conj(scipy.fft.rfft2(outline.astype(np.float32), shape))
    total, count = (
        np.roll(
            scipy.fft.irfft2(scipy.fft.rfft2(each, shape) * reversed_outline, shape),
            (REACH, REACH),
            (0, 1),
        )[: 2 * REACH + 1, : 2 * REACH + 1]
        for each in (edges, np.ones_like(edges))
    )
    return (total / np.maximum(count, 1)).astype(np.float32)


def _outline(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Pixels on both sides of it; not beside ignored ones or at the image's border."""
    foreground = mask == 1
    inner = scipy.ndimage.binary_erosion(foreground, border_value=1)
    outer = scipy.ndimage.binary_dilation(foreground)
    return outer & ~inner & ~scipy.ndimage.binary_dilation(mask == 255, iterations=2)


def measure_shift(maps: Sequence[npt.NDArray[np.float32]]) -> tuple[int, int] | None:
    """By how much to move the masks so that they fit, or None if images disagree.

    Args:
      maps: Of `boundary_map`.

    Returns:
      Pixels down and to the right, each in -32..32.
    """
    stack = np.stack(maps).reshape(len(maps), -1)
    best = _place(int(stack.mean(0).argmax()))
    drawn = resampled(
        len(maps), lambda drawn: {"peak": (drawn @ stack).argmax(1)}, seed=0
    )
    peaks = np.array([_place(int(each)) for each in drawn["peak"]])
    agree = np.abs(peaks - best).max(1) <= _NEAR
    return best if agree.mean() >= _AGREEMENT else None


def check_alignment(maps: Sequence[npt.NDArray[np.float32]]) -> Finding:
    """Whether masks and images fit; see `boundary_map`.

    ```python
    from unet_train.doctor import check_alignment, look_at

    survey = look_at(SegmentationData(data_dir="OUT").datasets["coco_cats"], images=4)
    print(check_alignment(survey.boundary_maps).text)
    ```
    """
    if len(maps) < _FEWEST:
        return Finding(
            "alignment", "ok", f"{len(maps)} outlines are too few to measure a shift"
        )
    shift = measure_shift(maps)
    if shift is None:
        return Finding(
            "alignment",
            "warning",
            f"the edges of {len(maps)} images do not tell where their masks belong",
            "Look at alignment.png.",
        )
    down, right = shift
    if max(abs(down), abs(right)) <= _TOLERATED:
        return Finding(
            "alignment",
            "ok",
            f"the outlines of {len(maps)} masks lie on edges of their images, within"
            f" {max(abs(down), abs(right))} pixels",
        )
    # The masks lie on the other side of where they belong.
    off = " and ".join(
        f"{abs(pixels)} pixels {'to the ' * (axis == 1)}{sides[pixels > 0]}"
        for axis, (pixels, sides) in enumerate(
            [(down, ("down", "up")), (right, ("right", "left"))]
        )
        if pixels
    )
    return Finding(
        "alignment",
        "fault",
        f"the masks are shifted against the images by {off} (dx {-right}, dy {-down})",
        f"Move the masks by dx {right:+d}, dy {down:+d} where the dataset is built; a"
        " crop, padding or EXIF rotation of the images alone is the usual cause.",
    )


def draw_alignment(examples: Sequence[Example]) -> npt.NDArray[np.uint8]:
    """A sheet of photos with their masks outlined; what is ignored is darkened.

    Args:
      examples: With labels.

    Returns:
      uint8 [H, W, 3], four photos a row.
    """
    rows = -(-len(examples) // _COLUMNS)
    sheet = np.zeros((rows * _CELL, _COLUMNS * _CELL, 3), np.uint8)
    for index, example in enumerate(examples):
        top, left = _CELL * (index // _COLUMNS), _CELL * (index % _COLUMNS)
        factor = (_CELL - 4) / max(example.image.shape[:2])
        height, width = (max(1, round(factor * n)) for n in example.image.shape[:2])
        photo, mask = (
            np.asarray(PIL.Image.fromarray(pixels).resize((width, height), how))
            for pixels, how in (
                (example.image, PIL.Image.Resampling.BILINEAR),
                (example.mask[..., 0], PIL.Image.Resampling.NEAREST),
            )
        )
        photo = np.where(mask[..., np.newaxis] == 255, photo // 2, photo)
        found = is_foreground(mask) & (mask != STRANGE)
        sheet[top : top + height, left : left + width] = overlay(photo, found)
    return sheet


def _place(flat: int) -> tuple[int, int]:
    """The shift down and to the right of a flat index into a map."""
    down, right = divmod(flat, 2 * REACH + 1)
    return down - REACH, right - REACH
