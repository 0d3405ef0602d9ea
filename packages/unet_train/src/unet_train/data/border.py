"""The weight map of the paper: background between two objects counts more.

>>> mask = np.zeros((1, 8, 1), np.uint8)
>>> mask[0, [1, 5]] = 1  # Two objects; the pixel between them is 2 from either.
>>> round(float(border_weights(mask, weight=10.0, sigma=5.0)[0, 3, 0]), 2)
8.26
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from unet_train.data.labels import is_foreground


def border_weights(
    mask: npt.NDArray[np.integer], *, weight: float, sigma: float
) -> npt.NDArray[np.float32]:
    """1 + w0 exp(-(d1 + d2)^2 / (2 sigma^2)) on background, 1 elsewhere.

    Equation 2 of Ronneberger et al. 2015 with a class weight of 1: d1 and d2 are the
    distances to the nearest and to the second nearest object. Objects are the instances
    by their numbers; what has none, the connected regions of one class, four neighbours
    a pixel: labels do not tell more.

    Args:
      mask: [H, W, 1], the labels: 0 background, 1 foreground or the first class, 2 the
        second and so on, 255 ignored. Or [H, W, 2], behind them the number of the
        instance, 0 where it is not known; where there is no foreground it is not read.
      weight: w0.
      sigma: In pixels.

    Returns:
      float32 [H, W, 1].
    """
    labels = mask[..., 0]
    instances = mask[..., 1] if mask.shape[-1] > 1 else np.zeros_like(labels)
    objects, count = _objects(labels, instances)
    result = np.ones((*labels.shape, 1), np.float32)
    if count < 2:
        return result
    nearest, second = _two_distances(objects, count)
    gain = weight * np.exp(-((nearest + second) ** 2) / (2 * sigma**2))
    result[..., 0] += np.where(labels == 0, gain, 0.0)
    return result


def _objects(
    labels: npt.NDArray[np.integer], instances: npt.NDArray[np.integer]
) -> tuple[npt.NDArray[np.int32], int]:
    """Numbers of the objects from 1, int32 [H, W], and how many there are."""
    objects = np.zeros(labels.shape, np.int32)
    numbered = is_foreground(labels) & (instances > 0)
    known, places = np.unique(instances[numbered], return_inverse=True)
    objects[numbered] = places.ravel() + 1
    count = len(known)
    unnumbered = np.where(numbered, 0, labels)
    for label in np.unique(unnumbered[is_foreground(unnumbered)]):
        regions, more = scipy.ndimage.label(unnumbered == label)
        objects += np.where(regions, regions + count, 0).astype(np.int32)
        count += more
    return objects, count


def _two_distances(
    objects: npt.NDArray[np.int32], count: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Distances to the nearest and to the second nearest of two or more objects.

    Each digit of the objects' numbers, written in base 2, parts them in two. The
    nearest is on one side, and the distance to the other side is at least that to the
    second nearest, and just that at a digit in which these two differ. So a distance
    transform of either side at each digit is enough: 2 ceil(log2(count)), not count.

    Args:
      objects: int32 [H, W]: 0 background, then numbers from 1 to `count`.
      count: At least 2.

    Returns:
      float64 [H, W] twice, in pixels.
    """
    second = np.full(objects.shape, np.inf)
    for digit in range((count - 1).bit_length()):
        is_one = (objects - 1) >> digit & 1 == 1
        sides = [
            scipy.ndimage.distance_transform_edt((objects == 0) | (is_one != side))
            for side in (False, True)
        ]
        second = np.minimum(second, np.maximum(*sides))
    return np.minimum(*sides), second
