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
from scipy import ndimage

from unet_train.metrics import PixelCounts, ThresholdCounts

if TYPE_CHECKING:
    from unet_train.data import Example
    from unet_train.predict import Predictor

Floats = npt.NDArray[np.float64]

RESAMPLES = 1000
"""Resampled data sets from which an interval is taken."""

_CONFIDENCE = 0.95
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_BOUNDARY_SHARE = 0.02
_IGNORE = 255
_RELIABILITY_BINS = 16


@dataclasses.dataclass(frozen=True)
class ImageCounts:
    """Pixels of one image.

    Attributes:
      id: Of the example.
      true_positives: Foreground found.
      false_positives: Background taken for foreground.
      false_negatives: Foreground missed.
      true_negatives: Background left alone.
      boundary_intersection: Pixels near the edge of both masks.
      boundary_union: Pixels near the edge of either.
    """

    id: str
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int
    boundary_intersection: int
    boundary_union: int

    @property
    def foreground(self) -> int:
        """Pixels of foreground in the truth."""
        return self.true_positives + self.false_negatives

    @property
    def iou(self) -> float:
        """Intersection over union of this image."""
        return float(ratios(counts_table([self]))["iou"][0])


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
            evaluation.add(example.mask[..., 0], probabilities, example.id)
        return evaluation

    def add(
        self,
        mask: npt.NDArray[np.uint8],
        probabilities: npt.NDArray[np.float32],
        id: str = "",
    ) -> None:
        """Counts one image.

        Args:
          mask: [H, W]: 0 background, 1 foreground, 255 ignored.
          probabilities: [H, W], of foreground, 0 to 1.
          id: Of the example.
        """
        predicted = probabilities >= self.threshold
        counts = PixelCounts()
        counts.add(mask, predicted)
        numbers = (*dataclasses.astuple(counts), *boundary_counts(mask, predicted))
        self.images.append(ImageCounts(id, *numbers))
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


class Reliability:
    """How large a share of the pixels with each probability is foreground.

    Sixteen bins of equal width; the last holds 1 as well.
    """

    def __init__(self, curve: ThresholdCounts) -> None:
        """Starts.

        Args:
          curve: Counts the same images.
        """
        self._curve = curve
        self._sums = np.zeros(_RELIABILITY_BINS)

    def add(
        self, mask: npt.NDArray[np.uint8], probabilities: npt.NDArray[np.float32]
    ) -> None:
        """Sums the probabilities of one image, where its mask is not 255."""
        valid = probabilities[mask != _IGNORE].astype(np.float64)
        bins = (valid * _RELIABILITY_BINS).astype(np.int64)
        bins = np.minimum(bins, _RELIABILITY_BINS - 1)
        self._sums += np.bincount(bins, valid, _RELIABILITY_BINS)

    def _pixels(self) -> npt.NDArray[np.int64]:
        """Background and foreground in each bin, int64 [2, 16]."""
        histogram = self._curve.histogram
        merged = histogram[:, :-1].reshape(2, _RELIABILITY_BINS, -1).sum(axis=-1)
        merged[:, -1] += histogram[:, -1]
        return np.asarray(merged)

    def bins(self) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
        """Of the bins that are not empty: pixels, mean probability, foreground share.

        Returns:
          int64 [bins], float64 [bins], float64 [bins].
        """
        pixels = self._pixels()
        count = pixels.sum(axis=0)
        there = count > 0
        return (
            count[there],
            self._sums[there] / count[there],
            pixels[1, there] / count[there],
        )

    def error(self) -> float:
        """Expected calibration error: the mean distance of the two, over pixels."""
        count, stated, true = self.bins()
        return float((count * abs(stated - true)).sum() / max(count.sum(), 1))


def boundary_counts(
    mask: npt.NDArray[np.uint8], predicted: npt.NDArray[np.bool_]
) -> tuple[int, int]:
    """Intersection and union of the masks' boundaries (Cheng et al. 2021).

    The boundary is what of a mask lies within 2% of the image's diagonal of its edge,
    where the edge of the image counts, and that of an ignored region does not.

    Args:
      mask: [H, W]: 0 background, 1 foreground, 255 ignored.
      predicted: [H, W].
    """
    ignored = mask == _IGNORE
    distance = max(1, round(_BOUNDARY_SHARE * float(np.hypot(*mask.shape))))

    def boundary(region: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        inside = ndimage.minimum_filter(
            (region | ignored).view(np.uint8), 2 * distance + 1, mode="constant"
        )
        return np.asarray(region & ~inside.view(np.bool_) & ~ignored)

    truth, found = boundary(mask == 1), boundary(predicted)
    return int((truth & found).sum()), int((truth | found).sum())


def counts_table(images: Iterable[ImageCounts]) -> npt.NDArray[np.int64]:
    """The counts as int64 [images, 6], in the order of the fields."""
    rows = [dataclasses.astuple(image)[1:] for image in images]
    return np.array(rows, np.int64).reshape(-1, 6)


def ratios(counts: npt.NDArray[np.number]) -> dict[str, Floats]:
    """Scores from counts [..., 6]: iou, dice, precision, recall, boundary_iou."""
    tp, fp, fn, _, intersection, union = np.moveaxis(counts.astype(np.float64), -1, 0)
    return {
        "iou": _ratio(tp, tp + fp + fn),
        "dice": _ratio(2 * tp, 2 * tp + fp + fn),
        "precision": _ratio(tp, tp + fp),
        "recall": _ratio(tp, tp + fn),
        "boundary_iou": _ratio(intersection, union),
    }


def average_precision(curve: ThresholdCounts) -> float:
    """The area under the precision-recall curve, as a sum of its steps.

    That of the probabilities rounded down to 1/256; NaN without any foreground.
    """
    return float(average_precision_of(curve.histogram[None])[0])


def average_precision_of(histograms: npt.NDArray[np.number]) -> Floats:
    """The same for histograms [..., 2, 257] of background and foreground."""
    above = np.cumsum(histograms[..., ::-1], axis=-1, dtype=np.float64)
    precision = _ratio(above[..., 1, :], above.sum(axis=-2))
    with np.errstate(invalid="ignore"):
        recall = above[..., 1, :] / above[..., 1, -1:]
    steps = np.diff(recall, axis=-1, prepend=0.0)
    return np.asarray((steps * precision).sum(axis=-1))


def resamples(count: int, seed: int) -> Floats:
    """How often each image is in each of the data sets drawn anew, [1000, count]."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return drawn.astype(np.float64)


def interval(samples: Floats) -> tuple[float, float]:
    """Between which values 95% of the samples lie."""
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.nanquantile(samples, [tail, 1 - tail])
    return float(low), float(high)


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


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.ones_like(whole), where=whole > 0)


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
