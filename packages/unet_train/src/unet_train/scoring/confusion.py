"""Exact counts of pixels by their true and their predicted class.

>>> matrix = confusion_matrix(np.array([0, 1, 2, 255]), np.array([0, 1, 1, 1]), 3)
>>> matrix.tolist()
[[1, 0, 0], [0, 1, 0], [0, 1, 0]]
>>> ratios_of_present(class_counts(matrix))["iou"].tolist()
[0.5, 0.0]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unet_train.data.labels import IGNORE
from unet_train.scoring.counts import Floats, PixelCounts, ratios


def confusion_matrix(
    mask: npt.NDArray[np.uint8], found: npt.NDArray[np.uint8], labels: int
) -> npt.NDArray[np.int64]:
    """Counts one image; int64 [labels, labels]: a row a true label, a column a found.

    Args:
      mask: 0 background, then the classes from 1, 255 ignored; any shape.
      found: Labels; the same shape.
      labels: How many there are, with the background.

    Raises:
      ValueError: The shapes differ, or a label is none of these.
    """
    if mask.shape != found.shape:
        raise ValueError(
            f"A mask of shape {mask.shape} has a prediction of shape {found.shape}."
            " They must be the same."
        )
    valid = mask != IGNORE
    truth, predicted = mask[valid].astype(np.int64), found[valid].astype(np.int64)
    highest = max(truth.max(initial=0), predicted.max(initial=0))
    if highest >= labels:
        raise ValueError(
            f"A mask or a prediction has the label {highest}, and labels go from 0 to"
            f" {labels - 1}. Name every class with --data.labels."
        )
    counts = np.bincount(truth * labels + predicted, minlength=labels**2)
    return counts.reshape(labels, labels)


def class_counts(matrices: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Of matrices [..., labels, labels] each class by itself: [..., classes, 6].

    The background is none of the classes. The columns are those of `counts_table`; true
    negatives and boundaries are 0.
    """
    right = np.diagonal(matrices, axis1=-2, axis2=-1)[..., 1:]
    found, true = matrices.sum(-2)[..., 1:], matrices.sum(-1)[..., 1:]
    nothing = np.zeros_like(right)
    counts = [right, found - right, true - right, nothing, nothing, nothing]
    return np.stack(counts, axis=-1)


def ratios_of_present(counts: npt.NDArray[Any]) -> dict[str, Floats]:
    """As `counts.ratios`, but NaN for a class that is neither in the truth nor found.

    Args:
      counts: [..., classes, 6], of `class_counts` or sums of them.

    Returns:
      [..., classes], by `iou`, `dice`, `precision`, `recall` and `boundary_iou`.
    """
    is_there = counts[..., :3].any(-1)
    return {
        name: np.where(is_there, values, np.nan)
        for name, values in ratios(counts).items()
    }


def scores_of_classes(
    matrix: npt.NDArray[np.int64], names: Sequence[str], others: Mapping[str, float]
) -> dict[str, float]:
    """`mean_iou`, other scores, then `iou/cat`, ... of each class that is there.

    The mean is over the classes, without the background, that are in the truth or were
    found; of none it is 1.
    """
    of_classes = ratios_of_present(class_counts(matrix))
    del of_classes["boundary_iou"]  # Nobody counted them.
    mean = float(mean_of_present(of_classes["iou"]))
    scores = {"mean_iou": 1.0 if np.isnan(mean) else mean, **others}
    for score, values in of_classes.items():
        for name, value in zip(names, values.tolist(), strict=True):
            if not np.isnan(value):
                scores[f"{score}/{name}"] = value
    return scores


def foreground_of(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The probability of any class, [H, W], from those of [H, W, n + 1]."""
    return np.clip(1 - probabilities[..., 0], 0, 1)


def iou_of_logits(pairs: Iterable[tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> float:
    """IoU of foreground where a logit is above 0; of several, the mean of classes.

    Args:
      pairs: Masks [N, H, W, 1] and logits [N, H, W, C].
    """
    counts, matrix = PixelCounts(), None
    for masks, logits in pairs:
        labels = logits.shape[-1]
        if labels == 1:
            counts.add(masks, logits > 0)
        else:
            found = logits.argmax(-1).astype(np.uint8)[..., np.newaxis]
            more = confusion_matrix(masks, found, labels)
            matrix = more if matrix is None else matrix + more
    if matrix is None:
        return counts.iou
    return scores_of_classes(matrix, [str(n) for n in range(1, len(matrix))], {})[
        "mean_iou"
    ]


def mean_of_present(values: Floats) -> Floats:
    """The mean over the last axis of what is not NaN; NaN where all is."""
    there = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(there, values, 0.0).sum(-1) / there.sum(-1))
