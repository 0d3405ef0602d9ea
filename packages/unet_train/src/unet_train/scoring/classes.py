"""A closer look at each class: what `Evaluation` says of foreground, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unet_train.scoring.confusion import (
    class_counts,
    confusion_matrix,
    mean_of_present,
    ratios_of_present,
)
from unet_train.scoring.counts import (
    Floats,
    ThresholdCounts,
    average_precision,
    boundary_counts,
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
        found = ratios_of_present(self.table().sum(axis=0))
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
        return class_samples(self.names, self.table(), drawn)

    def table(self) -> npt.NDArray[np.int64]:
        """Counts of each image and class, in the columns of `counts_table`.

        Returns:
          int64 [images, n, 6].
        """
        labels = len(self.names) + 1
        table = class_counts(np.reshape(self.matrices, (-1, labels, labels)))
        table[..., 4:] = np.reshape(self._boundaries, (-1, labels - 1, 2))
        return table.astype(np.int64)

    def image_counts(self) -> list[dict[str, list[int]]]:
        """Of each image the counts of the classes that are in it or were found."""
        return [
            {
                name: counts.tolist()
                for name, counts in zip(self.names, image, strict=True)
                if counts.any()
            }
            for image in self.table()
        ]


def class_samples(
    names: Sequence[str], table: npt.NDArray[np.int64], drawn: Floats
) -> dict[str, Floats]:
    """Scores of data sets that have each image so many times.

    Args:
      names: Of the n classes.
      table: [images, n, 6], of `ClassEvaluation.table`.
      drawn: [sets, images].

    Returns:
      As `ClassEvaluation.samples`.
    """
    totals = drawn @ table.reshape(len(table), -1)
    found = ratios_of_present(totals.reshape(len(drawn), *table.shape[1:]))
    is_there = table[..., :3].any(axis=(0, 2))
    samples = {"mean_iou": mean_of_present(found["iou"])} if is_there.any() else {}
    for score, values in found.items():
        for index in np.flatnonzero(is_there).tolist():
            samples[f"{score}/{names[index]}"] = values[:, index]
    return samples


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
