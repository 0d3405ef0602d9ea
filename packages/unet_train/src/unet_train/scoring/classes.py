"""A closer look at each class: what `Evaluation` says of foreground, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unet_train.scoring.confusion import (
    class_ratios,
    confusion_matrix,
    mean_of_present,
)
from unet_train.scoring.counts import (
    Floats,
    ThresholdCounts,
    average_precision,
    boundary_counts,
    ratios,
)
from unet_train.scoring.reliability import Reliability


class ClassEvaluation:
    """What was counted of several classes, image by image.

    Attributes:
      names: Of the labels from 1.
      matrices: Of each image, pixels by true and predicted label; int64 [n + 1, n + 1].
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.matrices: list[npt.NDArray[np.int64]] = []
        self._boundaries: list[npt.NDArray[np.int64]] = []
        self._curves = [ThresholdCounts() for _ in names]
        self._reliability = [Reliability(curve) for curve in self._curves]

    def add(
        self,
        mask: npt.NDArray[np.uint8],
        probabilities: npt.NDArray[np.float32],
        found: npt.NDArray[np.uint8],
    ) -> None:
        """Counts one image.

        Args:
          mask: [H, W]: labels, 255 ignored.
          probabilities: [H, W, n + 1].
          found: [H, W]: labels.
        """
        matrix = confusion_matrix(mask, found, len(self.names) + 1)
        boundaries = np.zeros((len(self.names), 2), np.int64)
        for index in range(len(self.names)):
            label = index + 1
            truth = np.where(mask == 255, mask, mask == label).astype(np.uint8)
            stated = np.clip(probabilities[..., label], 0, 1)
            self._curves[index].add(truth, stated)
            self._reliability[index].add(truth, stated)
            if matrix[label].any() or matrix[:, label].any():
                boundaries[index] = boundary_counts(truth, found == label)
        self.matrices.append(matrix)
        self._boundaries.append(boundaries)

    def merge(self, other: ClassEvaluation) -> None:
        """Takes the images of another one behind its own."""
        self.matrices += other.matrices
        self._boundaries += other._boundaries
        for mine, more in zip(self._curves, other._curves, strict=True):
            mine.merge(more)
        for one, another in zip(self._reliability, other._reliability, strict=True):
            one.merge(another)

    @property
    def matrix(self) -> npt.NDArray[np.int64]:
        """Of all images together."""
        labels = len(self.names) + 1
        return sum(self.matrices, np.zeros((labels, labels), np.int64))

    def scores(self) -> dict[str, Any]:
        """`mean_iou`, `classes` by name, `confusion_matrix`; None what is not defined.

        The mean is over the classes, without the background, that are in the truth or
        were found.
        """
        matrix = self.matrix
        boundaries = sum(self._boundaries, np.zeros((len(self.names), 2), np.int64))
        found = _ratios(matrix, boundaries)
        return {
            "mean_iou": _or_none(float(mean_of_present(found["iou"]))),
            "classes": {
                name: {
                    **{score: _or_none(float(v[i])) for score, v in found.items()},
                    "average_precision": _or_none(average_precision(self._curves[i])),
                    "calibration_error": self._reliability[i].error(),
                    "share": float(matrix[i + 1].sum() / max(matrix.sum(), 1)),
                    "images": sum(bool(each[i + 1].any()) for each in self.matrices),
                }
                for i, name in enumerate(self.names)
            },
            "confusion_matrix": matrix.tolist(),
        }

    def samples(self, drawn: Floats) -> dict[str, Floats]:
        """Scores of data sets that have each image so many times.

        Args:
          drawn: [sets, images].

        Returns:
          [sets], by `mean_iou`, `iou/cat` and so on; of classes that are there only.
        """
        labels = len(self.names) + 1
        matrices = np.stack(self.matrices).reshape(len(drawn[0]), -1)
        boundaries = np.stack(self._boundaries).reshape(len(drawn[0]), -1)
        found = _ratios(
            (drawn @ matrices).reshape(-1, labels, labels),
            (drawn @ boundaries).reshape(-1, labels - 1, 2),
        )
        is_there = ~np.isnan(class_ratios(self.matrix)["iou"])
        samples = {"mean_iou": mean_of_present(found["iou"])} if is_there.any() else {}
        for score, values in found.items():
            for index in np.flatnonzero(is_there):
                samples[f"{score}/{self.names[index]}"] = values[:, index]
        return samples


def _ratios(
    matrices: npt.NDArray[np.number], boundaries: npt.NDArray[np.number]
) -> dict[str, Floats]:
    """Of each class, from [..., n + 1, n + 1] and [..., n, 2]; NaN what is nowhere."""
    scores = class_ratios(matrices)
    nothing = [np.zeros_like(boundaries[..., 0])] * 4
    near = np.stack([*nothing, boundaries[..., 0], boundaries[..., 1]], axis=-1)
    edges = ratios(near)["boundary_iou"]
    return {**scores, "boundary_iou": np.where(np.isnan(scores["iou"]), np.nan, edges)}


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
