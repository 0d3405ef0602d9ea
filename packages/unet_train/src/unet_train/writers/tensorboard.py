"""Writes TensorBoard's event files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_train.writers.base import Writer

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt

    from unet_train.scoring.counts import ThresholdCounts


class TensorBoardWriter(Writer):
    """One event file in a folder; `tensorboard --logdir FOLDER` shows it.

    ```python
    from unet_train.writers import TensorBoardWriter

    writer = TensorBoardWriter("runs/new")
    writer.scalars(1, {"cost": 0.7})
    writer.close()
    ```
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        """Creates the file."""
        import tensorflow as tf

        self._summary = tf.summary
        self._file = tf.summary.create_file_writer(os.fspath(directory))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one point for each name."""
        with self._file.as_default(step):
            for name, value in values.items():
                self._summary.scalar(name, value)

    def images(self, step: int, values: Mapping[str, npt.NDArray[np.uint8]]) -> None:
        """Writes every picture of uint8 [N, H, W, 3] under its name."""
        with self._file.as_default(step):
            for name, pictures in values.items():
                self._summary.image(name, pictures, max_outputs=len(pictures))

    def text(self, step: int, name: str, text: str) -> None:
        """Writes a text, in Markdown."""
        with self._file.as_default(step):
            self._summary.text(name, text)

    def graph(self, model: keras.Model) -> None:
        """Writes the model's graph, one node a layer."""
        from unet_train.writers.layer_graph import layer_graph

        with self._file.as_default(0):
            self._summary.graph(layer_graph(model))

    def histograms(self, step: int, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """Writes the distribution of the numbers of each array."""
        with self._file.as_default(step):
            for name, numbers in values.items():
                self._summary.histogram(name, numbers)

    def pr_curve(self, step: int, name: str, curve: ThresholdCounts) -> None:
        """Writes a curve for TensorBoard's plugin of that name."""
        from tensorboard.plugins.pr_curve import summary

        found, wrong = curve.true_positives, curve.false_positives
        missed, left = curve.foreground - found, curve.background - wrong
        written = summary.raw_data_pb(
            name,
            true_positive_counts=found,
            false_positive_counts=wrong,
            true_negative_counts=left,
            false_negative_counts=missed,
            precision=_ratio(found, found + wrong),
            recall=_ratio(found, found + missed),
            num_thresholds=len(curve.thresholds),
        )
        with self._file.as_default(step):
            self._summary.experimental.write_raw_pb(written.SerializeToString())

    def hparams(self, values: Mapping[str, bool | float | str], run: str) -> None:
        """Writes the run's options for the HParams tab."""
        from tensorboard.plugins.hparams import api

        with self._file.as_default(0):
            api.hparams(dict(values), trial_id=run)

    def flush(self) -> None:
        """Brings everything to the disk."""
        self._file.flush()

    def close(self) -> None:
        """Flushes and ends; no call may follow."""
        self._file.close()


def _ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """1 where nothing was found, or nothing was to be found: no mistake was made."""
    result: npt.NDArray[Any] = np.where(whole > 0, part / np.maximum(whole, 1), 1.0)
    return result
