"""How sure a score is: the same computed on data sets drawn anew from the images.

```python
samples = resampled(len(table), lambda drawn: ratios(drawn @ table), seed=0)
low, high = interval(samples["iou"])
```
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from unet_train.scoring.counts import Floats

RESAMPLES = 1000
"""Resampled data sets from which an interval is taken."""

_CONFIDENCE = 0.95
# Numbers that are drawn at once, so that memory does not grow with the images.
_AT_ONCE = 2**20


def resampled(
    count: int, compute: Callable[[Floats], dict[str, Floats]], *, seed: int
) -> dict[str, Floats]:
    """Computes scores on 1,000 data sets drawn anew, with as many images as there are.

    Args:
      count: Images, at least one.
      compute: From how often each image is in each of some data sets, [sets, count], to
        scores [sets] by name.
      seed: Of the drawing.

    Returns:
      [1000] by name.
    """
    parts = [compute(drawn) for drawn in _draw(count, seed)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _draw(count: int, seed: int) -> Iterator[Floats]:
    """How often each image is in each of the data sets, some of these at a time."""
    rng = np.random.default_rng(seed)
    at_once = max(1, _AT_ONCE // count)
    for first in range(0, RESAMPLES, at_once):
        sets = min(at_once, RESAMPLES - first)
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=sets)
        yield drawn.astype(np.float64)


def interval(samples: Floats) -> tuple[float, float]:
    """Between which values 95% of the samples lie."""
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.nanquantile(samples, [tail, 1 - tail])
    return float(low), float(high)
