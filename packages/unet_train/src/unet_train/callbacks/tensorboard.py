"""What of a run goes to TensorBoard, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from unet_train.callbacks.base import Callback, Run
from unet_train.writers.base import Writer
from unet_train.writers.tensorboard import TensorBoardWriter

if TYPE_CHECKING:
    from unet_train.callbacks.base import Logs

_IGNORED_GREY = 128


class TensorBoard(Callback):
    """Writes the graph, the cost of every step, pictures, and validation scores.

    Attributes:
      images: How many tiles of the last batch to show.
      images_every_steps: Steps between two such sets of pictures.
    """

    def __init__(
        self,
        images: int = 2,
        images_every_steps: int = 100,
        writer: Writer | None = None,
    ) -> None:
        """Without a `writer` of the caller's, which the caller closes, one is made.

        It writes its event file into the run folder and is closed with the run.
        """
        if images < 1 or images_every_steps < 1:
            raise ValueError(
                "`images` and `images_every_steps` must be at least 1. Received:"
                f" {images} and {images_every_steps}"
            )
        self.images = images
        self.images_every_steps = images_every_steps
        self._writer = writer
        self._closes_writer = writer is None
        self._images_written_at = 0

    def on_fit_start(self, run: Run) -> None:
        """Opens the file; writes graph and configuration."""
        if self._writer is None:
            self._writer = TensorBoardWriter(run.directory)
        self._writer.graph(run.task.model)
        config = (run.directory / "config.yaml").read_text()
        self._writer.text(run.step, "config", f"```yaml\n{config}```")
        self._writer.flush()

    def on_loop_end(self, run: Run, logs: Logs) -> None:
        """Writes every step's numbers, and pictures when they are due."""
        first = run.step - len(logs["cost"]) + 1
        for index, values in enumerate(zip(*logs.values(), strict=True)):
            self._open.scalars(
                first + index, dict(zip(logs, map(float, values), strict=True))
            )
        is_due = run.step - self._images_written_at >= self.images_every_steps
        if is_due or not self._images_written_at:
            self._write_images(run)
        self._open.flush()

    def on_eval_end(self, run: Run, metrics: dict[str, float]) -> None:
        """Writes the validation's scores."""
        names = ("iou", "dice", "precision", "recall")
        self._open.scalars(
            run.step, {f"validation/{name}": metrics[name] for name in names}
        )
        self._open.flush()

    def on_exception(self, run: Run, error: BaseException) -> None:
        """Closes the file, so that the log is whole."""
        self._close()

    def on_fit_end(self, run: Run) -> None:
        """Shows the last tiles with the trained network; closes the file."""
        self._write_images(run)
        self._close()

    def _close(self) -> None:
        if self._writer is None:
            return
        self._writer.flush()
        if self._closes_writer:
            self._writer.close()
            self._writer = None

    @property
    def _open(self) -> Writer:
        if self._writer is None:
            raise RuntimeError("The callback TensorBoard was called before the run.")
        return self._writer

    def _write_images(self, run: Run) -> None:
        if run.last_batch is None:
            return
        tiles, masks = (part[: self.images] for part in run.last_batch)
        probabilities = run.task.predict(tiles).numpy()
        self._images_written_at = run.step
        self._open.images(
            run.step,
            {
                "training/image_mask_prediction": side_by_side(
                    tiles.numpy(), masks.numpy(), probabilities
                )
            },
        )


def side_by_side(
    tiles: npt.NDArray[np.uint8],
    masks: npt.NDArray[np.uint8],
    probabilities: npt.NDArray[np.float32],
) -> npt.NDArray[np.uint8]:
    """Image, mask and prediction in a row.

    Args:
      tiles: uint8 [N, T, T, 3].
      masks: uint8 [N, W, W, 1] with 255 ignored, drawn grey.
      probabilities: float32 [N, W, W, 1].

    Returns:
      uint8 [N, W, 3W + 2 gaps, 3]: the part of the tile that is predicted, its mask,
      the probabilities as brightness.
    """
    window = masks.shape[1]
    margin = (tiles.shape[1] - window) // 2
    image = tiles[:, margin : margin + window, margin : margin + window]
    mask = np.select([masks == 1, masks == 255], [255, _IGNORED_GREY], 0)
    prediction = np.round(probabilities * 255)
    gap = np.full((len(masks), window, max(2, window // 64), 3), 255)
    parts = [image, gap, _grey(mask), gap, _grey(prediction)]
    return np.concatenate(parts, axis=2).astype(np.uint8)


def _grey(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    return np.repeat(values, 3, axis=-1)
