"""How sure a score is: the same computed on data sets drawn anew from the images.

```python
low, high = interval(ratios(resamples(len(table), seed=0) @ table)["iou"])
```
"""

from __future__ import annotations

import numpy as np

from unet_train.scoring.counts import Floats

RESAMPLES = 1000
"""Resampled data sets from which an interval is taken."""

_CONFIDENCE = 0.95


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
