"""Scores a predictor on whole images at their own resolution, every pixel."""

from __future__ import annotations

from collections.abc import Iterable

from unet_train.data import Example
from unet_train.metrics import PixelCounts
from unet_train.predict import Predictor


def evaluate(predictor: Predictor, examples: Iterable[Example]) -> dict[str, float]:
    """Predicts every image and counts every pixel that is not ignored.

    Args:
      predictor: What to score.
      examples: Whole images with masks.

    Returns:
      `iou`, `dice`, `precision`, `recall` over all pixels of all images together,
      `threshold`, and `images`, their number.
    """
    counts, images = PixelCounts(), 0
    for example in examples:
        counts.add(example.mask[..., 0], predictor(example.image))
        images += 1
    return {
        "iou": counts.iou,
        "dice": counts.dice,
        "precision": counts.precision,
        "recall": counts.recall,
        "threshold": predictor.threshold,
        "images": images,
    }
