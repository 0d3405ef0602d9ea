"""The interface of a writer. Steps come in as arguments; nothing is kept."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras
    import numpy as np
    import numpy.typing as npt

    from unet_train.scoring.counts import ThresholdCounts


class Writer(abc.ABC):
    """Takes what a run has to tell.

    ```python
    from unet_train.callbacks import TensorBoard
    from unet_train.writers import Writer


    class Printer(Writer):
        def scalars(self, step, values):
            print(step, values)

        def images(self, step, values): ...
        def text(self, step, name, text): ...
        def graph(self, model): ...
        def flush(self): ...
        def close(self): ...


    Trainer("runs/new", max_steps=2, callbacks=[TensorBoard(writer=Printer())])
    ```
    """

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

    def histograms(self, step: int, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """Writes the distribution of numbers under their names; not all writers can."""

    def pr_curve(self, step: int, name: str, curve: ThresholdCounts) -> None:
        """Writes precision over recall at many thresholds; not all writers can."""

    def hparams(self, values: Mapping[str, bool | float | str], run: str) -> None:
        """Writes what sets this run apart from others; not all writers can."""

    @abc.abstractmethod
    def flush(self) -> None:
        """Brings everything to the disk."""

    @abc.abstractmethod
    def close(self) -> None:
        """Flushes and ends; no call may follow."""
