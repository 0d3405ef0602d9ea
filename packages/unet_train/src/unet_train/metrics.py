"""Exact counts of pixels, and what follows from them.

>>> counts = PixelCounts()
>>> counts.add(np.array([1, 1, 0, 255]), np.array([True, False, False, True]))
>>> counts.iou, counts.precision, counts.recall
(0.5, 1.0, 0.5)
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

_FOREGROUND, _IGNORE = 1, 255
_BINS = 256


@dataclasses.dataclass
class PixelCounts:
    """A confusion matrix over all pixels seen, in exact integers.

    Where a ratio has nothing below the line there was nothing to find (or nothing was
    found) and no mistake was possible: it is 1.

    Attributes:
      true_positives: Foreground found.
      false_positives: Background taken for foreground.
      false_negatives: Foreground missed.
      true_negatives: Background left alone.
    """

    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0
    true_negatives: int = 0

    def add(
        self, mask: npt.NDArray[np.uint8], predicted: npt.NDArray[np.bool_]
    ) -> None:
        """Counts one image.

        Args:
          mask: 0 background, 1 foreground, 255 ignored; any shape.
          predicted: True for foreground; the same shape.
        """
        if mask.shape != predicted.shape:
            raise ValueError(
                f"A mask of shape {mask.shape} has a prediction of shape"
                f" {predicted.shape}. They must be the same."
            )
        valid, truth = mask != _IGNORE, mask == _FOREGROUND
        self.true_positives += int(np.count_nonzero(predicted & truth))
        self.false_positives += int(np.count_nonzero(predicted & valid & ~truth))
        self.false_negatives += int(np.count_nonzero(~predicted & truth))
        self.true_negatives += int(np.count_nonzero(~predicted & valid & ~truth))

    @property
    def iou(self) -> float:
        """Intersection over union: TP / (TP + FP + FN)."""
        errors = self.false_positives + self.false_negatives
        return _ratio(self.true_positives, self.true_positives + errors)

    @property
    def dice(self) -> float:
        """Dice coefficient, the F1 score: 2 TP / (2 TP + FP + FN)."""
        errors = self.false_positives + self.false_negatives
        return _ratio(2 * self.true_positives, 2 * self.true_positives + errors)

    @property
    def precision(self) -> float:
        """TP / (TP + FP)."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """TP / (TP + FN)."""
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def pixels(self) -> int:
        """All pixels counted, the ignored left out."""
        return sum(dataclasses.astuple(self))


class ThresholdCounts:
    """Exact counts of pixels at the thresholds 0, 1/256, ... 256/256, in one pass.

    >>> curve = ThresholdCounts()
    >>> curve.add(np.array([1, 0, 255]), np.array([0.75, 0.5, 0.9], np.float32))
    >>> curve.true_positives[[128, 192, 193]], curve.false_positives[[128, 129]]
    (array([1, 1, 0]), array([1, 0]))

    Attributes:
      thresholds: float64 [257].
    """

    def __init__(self) -> None:
        self.thresholds = np.arange(_BINS + 1) / _BINS
        self._counts = np.zeros((2, _BINS + 1), np.int64)

    def add(
        self, mask: npt.NDArray[np.uint8], probabilities: npt.NDArray[np.float32]
    ) -> None:
        """Counts one image.

        Args:
          mask: 0 background, 1 foreground, 255 ignored; any shape.
          probabilities: Of foreground, 0 to 1; the same shape.
        """
        if not np.isfinite(probabilities).all():
            raise ValueError(
                f"{np.count_nonzero(~np.isfinite(probabilities))} of"
                f" {probabilities.size} probabilities are not finite: the network's"
                " weights or this image spoil them. `unet-train doctor` tells more."
            )
        # 256 is a power of two, so the product is exact and no pixel changes sides.
        bins = (probabilities * np.float32(_BINS)).astype(np.int64)
        for label in (0, 1):
            chosen = bins[mask == label]
            self._counts[label] += np.bincount(chosen, minlength=_BINS + 1)

    def merge(self, other: ThresholdCounts) -> None:
        """Adds what another one counted."""
        self._counts += other._counts

    @property
    def histogram(self) -> npt.NDArray[np.int64]:
        """Background and foreground from each threshold to the next, int64 [2, 257]."""
        return self._counts.copy()

    @property
    def true_positives(self) -> npt.NDArray[np.int64]:
        """Foreground at or above each threshold, int64 [257]."""
        return np.cumsum(self._counts[1][::-1])[::-1]

    @property
    def false_positives(self) -> npt.NDArray[np.int64]:
        """Background at or above each threshold, int64 [257]."""
        return np.cumsum(self._counts[0][::-1])[::-1]

    def best_threshold(self) -> float:
        """The threshold with the highest IoU, 1/256 to 255/256.

        Where several have it, the middle of the first stretch of them; where none finds
        anything, 0.5.
        """
        found = self.true_positives[1:_BINS]
        iou = found / np.maximum(self.foreground + self.false_positives[1:_BINS], 1)
        if not found.any():
            return 0.5
        first = int(iou.argmax())
        length = int(np.argmin(np.append(iou[first:] == iou[first], False)))
        return float(self.thresholds[1 + first + (length - 1) // 2])

    @property
    def foreground(self) -> int:
        """Pixels of foreground."""
        return int(self._counts[1].sum())

    @property
    def background(self) -> int:
        """Pixels of background."""
        return int(self._counts[0].sum())


class SegmentationMetrics:
    """What a validation counts.

    Attributes:
      counts: At the threshold that was asked for.
      curve: At many.
      images: How many were added.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.counts = PixelCounts()
        self.curve = ThresholdCounts()
        self.images = 0

    def add(
        self, mask: npt.NDArray[np.uint8], probabilities: npt.NDArray[np.float32]
    ) -> None:
        """Counts one image: its mask and its probabilities, both [H, W]."""
        self.counts.add(mask, probabilities >= self.threshold)
        self.curve.add(mask, probabilities)
        self.images += 1

    def result(self) -> dict[str, float]:
        """The scores over all pixels of all images together, the number of images."""
        return {
            "iou": self.counts.iou,
            "dice": self.counts.dice,
            "precision": self.counts.precision,
            "recall": self.counts.recall,
            "threshold": self.threshold,
            "images": self.images,
        }


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
