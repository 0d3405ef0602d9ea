"""Writes TensorBoard's event files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from unet_train.writers.base import Writer

if TYPE_CHECKING:
    import keras
    import numpy as np
    import numpy.typing as npt


class TensorBoardWriter(Writer):
    """One event file in a folder; `tensorboard --logdir FOLDER` shows it."""

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

    def flush(self) -> None:
        """Brings everything to the disk."""
        self._file.flush()

    def close(self) -> None:
        """Flushes and ends; no call may follow."""
        self._file.close()
