"""Scores a predictor on whole images at their own resolution, every pixel."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from unet_train.metrics import SegmentationMetrics
from unet_train.predict import Predictor

if TYPE_CHECKING:
    from unet_train.data import Example

    EvalStep = Callable[[Predictor, Example, SegmentationMetrics], None]


def evaluate(
    predictor: Predictor,
    examples: Iterable[Example],
    *,
    step: EvalStep | None = None,
    metrics: SegmentationMetrics | None = None,
) -> dict[str, float]:
    """Predicts every image and counts every pixel that is not ignored.

    Args:
      predictor: What to score.
      examples: Whole images with masks.
      step: Counts one image; None takes the predictor's probabilities as they are.
      metrics: What to count into, if the caller wants more of it than the scores.

    Returns:
      `iou`, `dice`, `precision`, `recall` over all pixels of all images together,
      `threshold`, and `images`, their number.
    """
    metrics = metrics or SegmentationMetrics(predictor.threshold)
    step = step or _count
    for example in examples:
        step(predictor, example, metrics)
    return metrics.result()


def _count(
    predictor: Predictor, example: Example, metrics: SegmentationMetrics
) -> None:
    metrics.add(example.mask[..., 0], predictor.probabilities(example.image))
