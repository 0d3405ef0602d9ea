"""Exact counts of pixels, and what follows from them.

>>> counts = PixelCounts()
>>> counts.add(np.array([1, 1, 0, 255]), np.array([True, False, False, True]))
>>> counts.iou, counts.precision, counts.recall
(0.5, 1.0, 0.5)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from unet_train.data.labels import IGNORE

Floats = npt.NDArray[np.float64]

_BINS = 256
_BOUNDARY_SHARE = 0.02


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
        valid, truth = mask != IGNORE, mask == 1
        self.true_positives += int(np.count_nonzero(predicted & truth))
        self.false_positives += int(np.count_nonzero(predicted & valid & ~truth))
        self.false_negatives += int(np.count_nonzero(~predicted & truth))
        self.true_negatives += int(np.count_nonzero(~predicted & valid & ~truth))

    def merge(self, other: PixelCounts) -> None:
        """Adds what another one counted."""
        for field in dataclasses.fields(self):
            total = getattr(self, field.name) + getattr(other, field.name)
            setattr(self, field.name, total)

    @property
    def iou(self) -> float:
        """Intersection over union: TP / (TP + FP + FN)."""
        errors = self.false_positives + self.false_negatives
        return _quotient(self.true_positives, self.true_positives + errors)

    @property
    def dice(self) -> float:
        """Dice coefficient, the F1 score: 2 TP / (2 TP + FP + FN)."""
        errors = self.false_positives + self.false_negatives
        return _quotient(2 * self.true_positives, 2 * self.true_positives + errors)

    @property
    def precision(self) -> float:
        """TP / (TP + FP)."""
        return _quotient(
            self.true_positives, self.true_positives + self.false_positives
        )

    @property
    def recall(self) -> float:
        """TP / (TP + FN)."""
        return _quotient(
            self.true_positives, self.true_positives + self.false_negatives
        )

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

    thresholds = np.arange(_BINS + 1) / _BINS

    def __init__(self) -> None:
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

    @property
    def iou(self) -> Floats:
        """IoU at each threshold, float64 [257]; 0 without any foreground."""
        union = self.foreground + self.false_positives
        return np.asarray(self.true_positives / np.maximum(union, 1))

    def best_threshold(self) -> float:
        """The threshold with the highest IoU, 1/256 to 255/256.

        Where several have it, the middle of the first stretch of them; where none finds
        anything, 0.5.
        """
        iou = self.iou[1:_BINS]
        if not iou.any():
            return 0.5
        first = int(iou.argmax())
        length = int(np.argmin(np.append(iou[first:] == iou[first], False)))
        return float(self.thresholds[1 + first + (length - 1) // 2])

    @property
    def pixels(self) -> int:
        """All pixels counted, the ignored left out."""
        return int(self._counts.sum())

    @property
    def foreground(self) -> int:
        """Pixels of foreground."""
        return int(self._counts[1].sum())

    @property
    def background(self) -> int:
        """Pixels of background."""
        return int(self._counts[0].sum())


@dataclasses.dataclass(frozen=True)
class ImageCounts:
    """Pixels of one image.

    ```python
    from unet_train.scoring.counts import ImageCounts

    counts = ImageCounts("a photo", 30, 10, 20, 940, 8, 16)
    assert counts.iou == 0.5  # 30 of 60.
    ```

    Attributes:
      id: Of the example.
      true_positives: Foreground found.
      false_positives: Background taken for foreground.
      false_negatives: Foreground missed.
      true_negatives: Background left alone.
      boundary_intersection: Pixels near the edge of both masks.
      boundary_union: Pixels near the edge of either.
      name: Of the image's file, if it is known.
    """

    id: str
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int
    boundary_intersection: int
    boundary_union: int
    name: str = ""

    @property
    def foreground(self) -> int:
        """Pixels of foreground in the truth."""
        return self.true_positives + self.false_negatives

    @property
    def iou(self) -> float:
        """Intersection over union of this image."""
        return float(ratios(counts_table([self]))["iou"][0])


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
    from scipy import ndimage  # Slow, and a command line is parsed without it.

    ignored = mask == IGNORE
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
    rows = [dataclasses.astuple(image)[1:7] for image in images]
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


def false_area(counts: npt.NDArray[np.number]) -> float:
    """Of images without foreground, the mean share that was taken for it.

    Args:
      counts: [images, 4 or more], true and false positives, false and true negatives,
        as in `PixelCounts`.

    Returns:
      0 to 1; NaN if every image has foreground.
    """
    return float(false_area_of(np.ones((1, len(counts))), false_shares(counts))[0])


def false_shares(counts: npt.NDArray[np.number]) -> Floats:
    """Share of each image that was taken for foreground; NaN for images with some."""
    found, wrong, missed, right = counts.astype(np.float64).T[:4]
    return np.where(found + missed, np.nan, wrong / np.maximum(wrong + right, 1))


def false_area_of(drawn: Floats, shares: Floats) -> Floats:
    """The same for data sets [sets, images] that have each image so many times."""
    without = ~np.isnan(shares)
    with np.errstate(invalid="ignore"):
        return drawn[:, without] @ shares[without] / drawn[:, without].sum(axis=1)


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


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.ones_like(whole), where=whole > 0)


def _quotient(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
