"""The interface of a writer. Steps come in as arguments; nothing is kept."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras
    import numpy as np
    import numpy.typing as npt


class Writer(abc.ABC):
    """Takes what a run has to tell."""

    @abc.abstractmethod
    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes numbers under their names."""

    @abc.abstractmethod
    def images(self, step: int, values: Mapping[str, npt.NDArray[np.uint8]]) -> None:
        """Writes pictures, uint8 [N, H, W, 3] each, under their names."""

    @abc.abstractmethod
    def text(self, step: int, name: str, text: str) -> None:
        """Writes a text, in Markdown."""

    @abc.abstractmethod
    def graph(self, model: keras.Model) -> None:
        """Writes the model's graph, one node a layer."""

    @abc.abstractmethod
    def flush(self) -> None:
        """Brings everything to the disk."""

    @abc.abstractmethod
    def close(self) -> None:
        """Flushes and ends; no call may follow."""
