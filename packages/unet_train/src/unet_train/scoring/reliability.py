"""Calibration: whether what is said to be foreground with 80% is so in 80%."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unet_train.data.labels import IGNORE
from unet_train.scoring.counts import Floats, ThresholdCounts

_BINS = 16


class Reliability:
    """How large a share of the pixels with each probability is foreground.

    Sixteen bins of equal width; the last holds 1 as well.

    ```python
    import numpy as np

    from unet_train.scoring.counts import ThresholdCounts
    from unet_train.scoring.reliability import Reliability

    curve = ThresholdCounts()
    reliability = Reliability(curve)
    mask, said = np.array([1, 1, 0, 1]), np.full(4, 0.75, np.float32)
    curve.add(mask, said)
    reliability.add(mask, said)
    assert reliability.error() == 0  # Three of four, as it said.
    ```
    """

    def __init__(self, curve: ThresholdCounts) -> None:
        """Starts.

        Args:
          curve: Counts the same images.
        """
        self._curve = curve
        self._sums = np.zeros(_BINS)

    def add(
        self, mask: npt.NDArray[np.uint8], probabilities: npt.NDArray[np.float32]
    ) -> None:
        """Sums the probabilities of one image, where its mask is not 255."""
        valid = probabilities[mask != IGNORE].astype(np.float64)
        bins = (valid * _BINS).astype(np.int64)
        bins = np.minimum(bins, _BINS - 1)
        self._sums += np.bincount(bins, valid, _BINS)

    def merge(self, other: Reliability) -> None:
        """Adds the sums of another one; the curves are merged by their owners."""
        self._sums += other._sums

    def _pixels(self) -> npt.NDArray[np.int64]:
        """Background and foreground in each bin, int64 [2, 16]."""
        histogram = self._curve.histogram
        merged = histogram[:, :-1].reshape(2, _BINS, -1).sum(axis=-1)
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
