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


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
