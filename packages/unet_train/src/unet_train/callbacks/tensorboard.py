"""What of a run goes to TensorBoard, and when."""

from __future__ import annotations

import math
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import yaml

from unet_train.inference.pictures import palette, tint_classes
from unet_train.scoring.counts import ThresholdCounts
from unet_train.training.callback import Callback
from unet_train.training.run import Run
from unet_train.writers.base import Writer
from unet_train.writers.tensorboard import TensorBoardWriter

if TYPE_CHECKING:
    from unet_train.training.callback import Logs

# What the original called it.
_TAGS = {"loss": "cost"}
_IGNORED_GREY = 128
_SHEET = 16
_SHEET_COLUMNS = 4
# TensorBoard's HParams tab shows five options at first, those that differ between runs
# and then by name. So these are numbered.
_FIRST_OPTIONS = (
    *("task.learning_rate", "task.loss", "model.encoder", "model.depth"),
    *("data.batch_size", "model.base_filters"),
)


class TensorBoard(Callback):
    """Writes graph, configuration, scalars, pictures, curves and histograms.

    ```python
    from unet_train.callbacks import TensorBoard

    Trainer("runs/new", max_steps=2, callbacks=[TensorBoard(images=4)])
    ```

    Attributes:
      images: How many of the first training tiles to show again and again.
      images_every_steps: Steps between two such sets of pictures.
      histograms_every_steps: Steps between two sets of histograms of all weights and
        their gradients; None leaves them out.
    """

    def __init__(
        self,
        images: int = 2,
        images_every_steps: int = 100,
        histograms_every_steps: int | None = None,
        writer: Writer | None = None,
    ) -> None:
        """Without a `writer` of the caller's, which the caller closes, one is made.

        It writes its event file into the run folder and is closed with the run.
        """
        every = 1 if histograms_every_steps is None else histograms_every_steps
        if min(images, images_every_steps, every) < 1:
            raise ValueError(
                "`images`, `images_every_steps` and `histograms_every_steps` must be at"
                f" least 1. Received: {images}, {images_every_steps} and"
                f" {histograms_every_steps}"
            )
        self.images = images
        self.images_every_steps = images_every_steps
        self.histograms_every_steps = histograms_every_steps
        self._writer = writer
        self._closes_writer = writer is None
        self._tiles: tuple[npt.NDArray[Any], ...] = ()
        self._images_written_at = -math.inf
        self._histograms_written_at = -math.inf
        self._last_seconds = 0.0

    def on_fit_start(self, run: Run) -> None:
        """Opens the file; writes graph, configuration and what the network sees."""
        if self._writer is None:
            from unet_train.writers.events import drop_events_after

            drop_events_after(run.directory, run.step)
            self._writer = TensorBoardWriter(run.directory)
        self._writer.graph(run.task.model)
        config = (run.directory / "config.yaml").read_text()
        self._writer.text(run.step, "config", f"```yaml\n{config}```")
        name = pathlib.PurePath(run.where).name
        self._writer.hparams(hparams(yaml.safe_load(config)), name)
        self._tiles = _first_tiles(run)
        sheet = contact_sheet(*self._tiles[:2])
        self._writer.images(run.step, {"training/what_the_network_sees": sheet[None]})
        self._writer.flush()
        self._last_seconds = run.seconds

    def on_loop_end(self, run: Run, logs: Logs) -> None:
        """Writes every step's numbers, and pictures when they are due."""
        first = run.step - len(logs["loss"]) + 1
        names = [_TAGS.get(name, name) for name in logs]
        for index, values in enumerate(zip(*logs.values(), strict=True)):
            self._open.scalars(
                first + index, dict(zip(names, map(float, values), strict=True))
            )
        seconds = run.seconds - self._last_seconds
        if seconds > 0:
            speed = len(logs["loss"]) * run.batch_size / seconds
            self._open.scalars(run.step, {"images_a_second": speed})
        if run.step - self._images_written_at >= self.images_every_steps:
            self._write_images(run)
        every = self.histograms_every_steps
        if every and run.step - self._histograms_written_at >= every:
            self._write_histograms(run)
        self._open.flush()
        self._last_seconds = run.seconds

    def on_eval_end(self, run: Run, scores: dict[str, float]) -> None:
        """Writes the validation's scores, and its precision-recall curve.

        Of several classes that is the curve of foreground, of whatever class.
        """
        named = {f"validation/{name}": score for name, score in scores.items()}
        monitor = run.task.monitor.name
        if monitor in scores:
            # Its scores that tab sorts by name too, and shows five.
            named[f"HParams/{monitor}"] = scores[monitor]
        self._open.scalars(run.step, named)
        curve = getattr(run.scores, "curve", None)
        if isinstance(curve, ThresholdCounts):
            self._open.pr_curve(run.step, "validation/pr", curve)
        self._open.flush()
        self._last_seconds = run.seconds

    def on_exception(self, run: Run, error: BaseException) -> None:
        """Closes the file, so that the log is whole."""
        self._close()

    def on_fit_end(self, run: Run) -> None:
        """Shows the tiles with the trained network; closes the file."""
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
        tiles, masks = (part[: self.images] for part in self._tiles[:2])
        run.task.copy_weights(run.predictor.model)
        logits = run.predictor.model(tiles, training=False)
        found = np.asarray(logits)
        if found.shape[-1] == 1:
            found = 1 / (1 + np.exp(-found))
        self._images_written_at = run.step
        self._open.images(
            run.step,
            {"training/image_mask_prediction": side_by_side(tiles, masks, found)},
        )

    def _write_histograms(self, run: Run) -> None:
        import tensorflow as tf

        self._histograms_written_at = run.step
        run.task.copy_weights(run.predictor.model)
        model = run.predictor.model
        tiles, masks, *weights = (part[: run.batch_size] for part in self._tiles)
        with tf.GradientTape() as tape:
            loss = run.task.loss(masks, model(tiles, training=False), *weights)
        variables = model.trainable_variables
        gradients = tape.gradient(loss, [weight.value for weight in variables])
        values = {f"weights/{weight.path}": weight.numpy() for weight in variables}
        for weight, gradient in zip(variables, gradients, strict=True):
            values[f"gradients/{weight.path}"] = gradient.numpy()
        self._open.histograms(run.step, values)


def hparams(config: dict[str, Any]) -> dict[str, bool | float | str]:
    """The options of a run for the HParams tab, those that matter most numbered.

    >>> hparams({"data": {"blur": 0.5}, "task": {"loss": "bce"}})
    {'data.blur': 0.5, '2 task.loss': 'bce'}
    """
    numbered = {name: f"{n} {name}" for n, name in enumerate(_FIRST_OPTIONS, 1)}
    options = {key: value for key, value in config.items() if key != "callbacks"}
    return {numbered.get(name, name): value for name, value in flatten(options).items()}


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, bool | float | str]:
    """Nested options to `task.learning_rate` and so on.

    What is not set is left out, and so are lists of anything but plain values, such as
    that of the callbacks. A part that has a class path goes by that.

    >>> flatten({"task": {"loss": "bce", "ema": 0.9}, "callbacks": [{}], "x": None})
    {'task.loss': 'bce', 'task.ema': 0.9}
    """
    flat: dict[str, bool | float | str] = {}
    for key, value in config.items():
        name = prefix + key
        if isinstance(value, dict) and "class_path" in value:
            flat[name] = str(value["class_path"])
            flat |= flatten(value.get("init_args") or {}, f"{name}.")
        elif isinstance(value, dict):
            flat |= flatten(value, f"{name}.")
        elif isinstance(value, bool | int | float | str):
            flat[name] = value
        elif isinstance(value, list) and not any(
            isinstance(each, dict | list) for each in value
        ):
            flat[name] = str(value)
    return flat


def _first_tiles(run: Run) -> tuple[npt.NDArray[Any], ...]:
    """The first tiles of the run, whichever step it is at."""
    return run.data.first_tiles(
        _SHEET,
        margin=run.task.margin,
        seed=run.options.seed,
        limit=run.options.limit_train,
        repeat_batches=run.options.overfit_batches,
    )


def contact_sheet(
    tiles: npt.NDArray[np.uint8], masks: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    """Tiles in rows of four, each class in its hue, what is ignored darkened.

    Args:
      tiles: uint8 [N, T, T, 3].
      masks: uint8 [N, W, W, 1] with 255 ignored; the margin around it counts as such.

    Returns:
      uint8 [H, W, 3].
    """
    margin = (tiles.shape[1] - masks.shape[1]) // 2
    around = [(0, 0), (margin, margin), (margin, margin), (0, 0)]
    labels = np.pad(masks, around, constant_values=255)
    pictures = np.where(labels == 255, tiles // 2, tint_classes(tiles, labels[..., 0]))
    rows = math.ceil(len(tiles) / _SHEET_COLUMNS)
    missing = rows * _SHEET_COLUMNS - len(tiles)
    pictures = np.pad(pictures, [(0, missing), (1, 1), (1, 1), (0, 0)])
    side = pictures.shape[1]
    grid = pictures.reshape(rows, _SHEET_COLUMNS, side, side, 3).transpose(
        0, 2, 1, 3, 4
    )
    return grid.reshape(rows * side, _SHEET_COLUMNS * side, 3)


def side_by_side(
    tiles: npt.NDArray[np.uint8],
    masks: npt.NDArray[np.uint8],
    found: npt.NDArray[np.float32],
) -> npt.NDArray[np.uint8]:
    """Image, mask and prediction in a row.

    Args:
      tiles: uint8 [N, T, T, 3].
      masks: uint8 [N, W, W, 1] with 255 ignored, drawn grey.
      found: float32 [N, W, W, 1], probabilities; of several classes [N, W, W, n + 1],
        of which the largest counts.

    Returns:
      uint8 [N, W, 3W + 2 gaps, 3]: the part of the tile that is predicted, its mask,
      the probabilities as brightness; of several classes a colour for each.
    """
    window = masks.shape[1]
    margin = (tiles.shape[1] - window) // 2
    image = tiles[:, margin : margin + window, margin : margin + window]
    if found.shape[-1] == 1:
        mask = _grey(np.select([masks == 1, masks == 255], [255, _IGNORED_GREY], 0))
        prediction = _grey(np.round(found * 255))
    else:
        colours = palette(found.shape[-1])
        mask, prediction = colours[masks[..., 0]], colours[found.argmax(-1)]
    gap = np.full((len(masks), window, max(2, window // 64), 3), 255)
    parts = [image, gap, mask, gap, prediction]
    return np.concatenate(parts, axis=2).astype(np.uint8)


def _grey(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    return np.repeat(values, 3, axis=-1)
