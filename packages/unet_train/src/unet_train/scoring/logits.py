"""Exact counts of pixels by their logit, background and foreground apart.

>>> counts = LogitCounts()
>>> counts.add(np.array([0, 1, 1]), np.array([0.5, 0.9, np.nan], np.float32))
>>> counts.histogram.sum(1), counts.not_finite
(array([1, 1]), 1)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LOGIT_LIMIT = 16.0
"""Logits are counted from minus this to this; float32 probabilities tell no more."""

_EDGES = np.linspace(-LOGIT_LIMIT, LOGIT_LIMIT, 129)


class LogitCounts:
    """Pixels by their logit; what is no number is counted by itself.

    Attributes:
      histogram: int64 [2, 128], pixels of background and of foreground by their logit,
        from -16 to 16.
      lowest: The least logit of a background pixel; infinite if none was seen.
      not_finite: Pixels whose prediction is no number, the ignored among them.
    """

    def __init__(self) -> None:
        self.histogram = np.zeros((2, len(_EDGES) - 1), np.int64)
        self.lowest = np.inf
        self.not_finite = 0

    def add(
        self, mask: npt.NDArray[np.uint8], probabilities: npt.NDArray[np.float32]
    ) -> None:
        """Counts one image.

        Args:
          mask: 0 background, 1 foreground, 255 ignored; any shape.
          probabilities: Of foreground, 0 to 1 or no numbers; the same shape.
        """
        is_number = np.isfinite(probabilities)
        self.not_finite += int(np.count_nonzero(~is_number))
        for label in (0, 1):
            chosen = probabilities[is_number & (mask == label)]
            with np.errstate(divide="ignore"):
                logits = np.log(chosen) - np.log1p(-chosen)
            logits = logits.clip(-LOGIT_LIMIT, LOGIT_LIMIT)
            self.histogram[label] += np.histogram(logits, _EDGES)[0]
            if label == 0 and logits.size:
                self.lowest = min(self.lowest, float(logits.min()))

    @property
    def medians(self) -> tuple[float, float]:
        """Of background and of foreground; NaN where there is none."""
        middle = (_EDGES[:-1] + _EDGES[1:]) / 2
        background, foreground = (
            float(middle[np.searchsorted(each.cumsum(), each.sum() / 2)])
            if each.any()
            else np.nan
            for each in self.histogram
        )
        return background, foreground
