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

Of several classes, these scores are of foreground against background, whatever the
class; `ClassEvaluation` adds those of each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from unet_train.data.labels import as_foreground, decide
from unet_train.options.data import FOREGROUND
from unet_train.scoring.accumulator import evaluate
from unet_train.scoring.bootstrap import interval, resampled
from unet_train.scoring.classes import ClassEvaluation
from unet_train.scoring.confusion import foreground_of
from unet_train.scoring.counts import (
    Floats,
    ImageCounts,
    PixelCounts,
    ThresholdCounts,
    average_precision,
    average_precision_of,
    boundary_counts,
    counts_table,
    false_area,
    false_area_of,
    false_shares,
    ratios,
)
from unet_train.scoring.reliability import Reliability

if TYPE_CHECKING:
    from unet_train.data.source import Example
    from unet_train.inference.predictor import Predictor

# Images whose curves are made float64 at once.
_AT_ONCE = 1024
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class Evaluation:
    """What was counted on the images of a split; an `Accumulator`.

    It keeps 2 kB an image, for the intervals.

    ```python
    from unet_train.scoring.evaluation import Evaluation

    predictor, data = Predictor.load("runs/cats"), SegmentationData(data_dir="OUT")
    evaluation = Evaluation.of(predictor, data.examples("validation"))
    evaluation.scores()["iou"], evaluation.intervals()["iou"]
    ```

    Attributes:
      threshold: Probability from which a pixel is foreground; for one class.
      classes: Of several, each by itself; None for one.
      images: The counts of foreground, image by image.
      curve: The counts at 257 thresholds, all images together.
      reliability: How often it was right when it said what.
    """

    def __init__(
        self, threshold: float, class_names: Sequence[str] = FOREGROUND
    ) -> None:
        self.threshold = threshold
        several = len(class_names) > 1
        self.classes = ClassEvaluation(class_names) if several else None
        self.images: list[ImageCounts] = []
        self.curve = ThresholdCounts()
        self.reliability = Reliability(self.curve)
        self._curves: list[npt.NDArray[np.uint32]] = []

    @classmethod
    def of(cls, predictor: Predictor, examples: Iterable[Example]) -> Evaluation:
        """Predicts and counts each example, one at a time."""
        evaluation = cls(predictor.threshold, predictor.class_names)
        evaluate(predictor, examples, evaluation)
        return evaluation

    def add(self, example: Example, prediction: npt.NDArray[np.float32]) -> None:
        """Counts one image.

        Args:
          example: Its mask counts; its id and name are kept.
          prediction: Of `Predictor.probabilities`, 0 to 1.
        """
        mask = example.mask[..., 0]
        predicted = decide(prediction, self.threshold)
        if self.classes is not None:
            self.classes.add(mask, prediction, predicted)
            mask, predicted = as_foreground(mask), predicted != 0
            prediction = foreground_of(prediction)
        counts = PixelCounts()
        counts.add(mask, predicted)
        near, either = boundary_counts(mask, predicted)
        self.images.append(
            ImageCounts(
                id=example.id,
                **dataclasses.asdict(counts),
                boundary_intersection=near,
                boundary_union=either,
                name=example.name,
            )
        )
        curve = ThresholdCounts()
        curve.add(mask, prediction)
        self._curves.append(curve.histogram.astype(np.uint32))
        self.curve.merge(curve)
        self.reliability.add(mask, prediction)

    def merge(self, other: Evaluation) -> None:
        """Takes the images of another one behind its own."""
        self.images += other.images
        self._curves += other._curves
        if self.classes is not None and other.classes is not None:
            self.classes.merge(other.classes)
        self.curve.merge(other.curve)
        self.reliability.merge(other.reliability)

    def result(self) -> dict[str, float]:
        """Those of `scores` that are a number and defined."""
        return {
            name: value
            for name, value in self.scores().items()
            if isinstance(value, float)
        }

    def scores(self) -> dict[str, Any]:
        """The scores over all images, by name; None where one is not defined."""
        table = counts_table(self.images)
        totals, of_images = table.sum(axis=0), ratios(table)
        return {
            **{name: float(value) for name, value in ratios(totals).items()},
            "average_precision": _or_none(average_precision(self.curve)),
            "calibration_error": self.reliability.error(),
            **({} if self.classes else {"threshold": self.threshold}),
            "images": len(self.images),
            "mean_image_iou": _or_none(_mean(of_images["iou"])),
            "per_image": {name: _spread(each) for name, each in of_images.items()},
            "images_without_foreground": sum(
                not each.foreground for each in self.images
            ),
            "false_area": _or_none(false_area(table)),
            **(self.classes.scores() if self.classes else {}),
        }

    def intervals(self, seed: int = 0) -> dict[str, tuple[float, float]]:
        """Where 95% of the scores lie if the images are drawn anew (bootstrap).

        Args:
          seed: Of the drawing.

        Returns:
          The 2.5% and 97.5% quantiles by name, of each score that is defined but the
          calibration error.
        """
        if not self.images:
            return {}
        table = counts_table(self.images)
        ious, curves = ratios(table)["iou"], np.stack(self._curves)
        shares = false_shares(table)

        def compute(drawn: Floats) -> dict[str, Floats]:
            samples = ratios(drawn @ table)
            samples["mean_image_iou"] = drawn @ ious / len(table)
            if not np.isnan(shares).all():
                samples["false_area"] = false_area_of(drawn, shares)
            if self.curve.foreground:
                samples["average_precision"] = average_precision_of(
                    _weighted_sum(drawn, curves)
                )
            if self.classes is not None:
                samples |= self.classes.samples(drawn)
            return samples

        samples = resampled(len(table), compute, seed=seed)
        return {name: interval(values) for name, values in samples.items()}

    def ranked(self) -> list[int]:
        """Numbers of the images with foreground, the worst IoU first."""
        candidates = [i for i, image in enumerate(self.images) if image.foreground]
        return sorted(candidates, key=lambda i: (self.images[i].iou, i))


def _weighted_sum(drawn: Floats, curves: npt.NDArray[np.uint32]) -> Floats:
    """Curves of data sets: [sets, images] and [images, 2, 257] to [sets, 2, 257]."""
    total = np.zeros((len(drawn), curves[0].size))
    for first in range(0, len(curves), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        total += drawn[:, some] @ curves[some].reshape(-1, total.shape[1])
    return total.reshape(-1, *curves.shape[1:])


def _spread(values: Floats) -> dict[str, float]:
    """Mean and quantiles of scores of images."""
    if not len(values):
        return {}
    quantiles = np.quantile(values, _QUANTILES).tolist()
    names = [f"{share:.0%}" for share in _QUANTILES]
    return {"mean": float(values.mean()), **dict(zip(names, quantiles, strict=True))}


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
