"""Scores a predictor image by image, and says how sure the scores are.

```python
evaluation = Evaluation.of(predictor, data.examples("validation"))
evaluation.scores()["iou"], evaluation.intervals()["iou"]
```

Every pixel of every whole image counts, at the image's own resolution, except those
that are ignored. Counts are exact integers; scores over the data set are ratios of
their sums, so that a large image counts more than a small one, and scores of images
stand beside them. Where there was nothing to find and nothing was found, a ratio is 1;
where there was nothing to find and something was found, IoU and Dice are 0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from unet_train.scoring.bootstrap import interval, resamples
from unet_train.scoring.counts import (
    Floats,
    ImageCounts,
    PixelCounts,
    ThresholdCounts,
    average_precision,
    average_precision_of,
    boundary_counts,
    counts_table,
    ratios,
)
from unet_train.scoring.reliability import Reliability

if TYPE_CHECKING:
    from unet_train.data.source import Example
    from unet_train.inference.predictor import Predictor

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class Evaluation:
    """What was counted on the images of a split.

    Attributes:
      threshold: Probability from which a pixel is foreground.
      images: The counts at that threshold, image by image.
      curve: The counts at 257 thresholds, all images together.
      reliability: How often it was right when it said what.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.images: list[ImageCounts] = []
        self.curve = ThresholdCounts()
        self.reliability = Reliability(self.curve)
        self._curves: list[ThresholdCounts] = []

    @classmethod
    def of(cls, predictor: Predictor, examples: Iterable[Example]) -> Evaluation:
        """Predicts and counts each example, one at a time."""
        evaluation = cls(predictor.threshold)
        for example in examples:
            probabilities = predictor.probabilities(example.image)
            evaluation.add(
                example.mask[..., 0], probabilities, example.id, example.name
            )
        return evaluation

    def add(
        self,
        mask: npt.NDArray[np.uint8],
        probabilities: npt.NDArray[np.float32],
        id: str = "",
        name: str = "",
    ) -> None:
        """Counts one image.

        Args:
          mask: [H, W]: 0 background, 1 foreground, 255 ignored.
          probabilities: [H, W], of foreground, 0 to 1.
          id: Of the example.
          name: Of its file.
        """
        predicted = probabilities >= self.threshold
        counts = PixelCounts()
        counts.add(mask, predicted)
        near, either = boundary_counts(mask, predicted)
        self.images.append(
            ImageCounts(
                id=id,
                **dataclasses.asdict(counts),
                boundary_intersection=near,
                boundary_union=either,
                name=name,
            )
        )
        curve = ThresholdCounts()
        curve.add(mask, probabilities)
        self._curves.append(curve)
        self.curve.merge(curve)
        self.reliability.add(mask, probabilities)

    def scores(self) -> dict[str, Any]:
        """The scores over all images, by name; None where one is not defined."""
        totals = counts_table(self.images).sum(axis=0)
        cat_free = [image for image in self.images if not image.foreground]
        of_images = ratios(counts_table(self.images))
        return {
            **{name: float(value) for name, value in ratios(totals).items()},
            "average_precision": _or_none(average_precision(self.curve)),
            "calibration_error": self.reliability.error(),
            "threshold": self.threshold,
            "images": len(self.images),
            "mean_image_iou": _or_none(_mean(of_images["iou"])),
            "per_image": {name: _spread(each) for name, each in of_images.items()},
            "images_without_foreground": len(cat_free),
            "false_area": _or_none(_false_area(cat_free)),
        }

    def intervals(self, seed: int = 0) -> dict[str, tuple[float, float]]:
        """Where 95% of the scores lie if the images are drawn anew (bootstrap).

        Args:
          seed: Of the drawing.

        Returns:
          The 2.5% and 97.5% quantiles by name, of each score but the calibration error.
        """
        if not self.images:
            return {}
        table = counts_table(self.images)
        drawn = resamples(len(table), seed)
        samples = ratios(drawn @ table)
        samples["mean_image_iou"] = drawn @ ratios(table)["iou"] / len(table)
        if self.curve.foreground:
            by_image = np.stack([curve.histogram for curve in self._curves])
            flat = drawn @ by_image.reshape(len(table), -1)
            samples["average_precision"] = average_precision_of(
                flat.reshape(-1, *by_image.shape[1:])
            )
        return {name: interval(values) for name, values in samples.items()}

    def ranked(self) -> list[int]:
        """Numbers of the images with foreground, the worst IoU first."""
        candidates = [i for i, image in enumerate(self.images) if image.foreground]
        return sorted(candidates, key=lambda i: (self.images[i].iou, i))


def _spread(values: Floats) -> dict[str, float]:
    """Mean and quantiles of scores of images."""
    if not len(values):
        return {}
    quantiles = np.quantile(values, _QUANTILES).tolist()
    names = [f"{share:.0%}" for share in _QUANTILES]
    return {"mean": float(values.mean()), **dict(zip(names, quantiles, strict=True))}


def _false_area(images: list[ImageCounts]) -> float:
    """Mean share of an image without foreground that was taken for it."""
    counts = counts_table(images).astype(np.float64)
    false_positives, true_negatives = counts[:, 1], counts[:, 3]
    valid = np.maximum(false_positives + true_negatives, 1)
    return _mean(false_positives / valid)


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
