"""Progress on the terminal: a live bar, or plain lines where there is no terminal."""

from __future__ import annotations

import math
import pathlib
from typing import TYPE_CHECKING

import rich.console
import rich.progress

from unet_train.training.callback import Callback
from unet_train.training.run import Run

if TYPE_CHECKING:
    from unet_train.training.callback import Logs


class Progress(Callback):
    """Shows epoch, step, loss, speed, the wait for input, and the time left.

    The speed in GFLOP/s is the work of the convolutions, and its share is of what a
    large matrix product reached on the same device, times the devices, when the run
    began.

    ```python
    from unet_train.callbacks import Progress

    Trainer("runs/new", max_steps=2, callbacks=[Progress(every_seconds=1)])
    ```

    Attributes:
      every_seconds: Between two plain lines, where there is no terminal.
    """

    def __init__(
        self, every_seconds: float = 10.0, console: rich.console.Console | None = None
    ) -> None:
        self.every_seconds = every_seconds
        self._console = console or rich.console.Console(highlight=False)
        self._bar: rich.progress.Progress | None = None
        self._task = rich.progress.TaskID(0)
        self._last_line = -math.inf
        self._last_step, self._last_seconds = 0, 0.0
        self._speed = 0.0
        self._wait = 0.0
        self._gflop_an_image = 0.0
        self._peak_gflops = 0.0

    def on_fit_start(self, run: Run) -> None:
        """Says where the run takes place and from which step it goes on."""
        begun = f"step {run.step}" if run.step else run.origin
        self._console.print(
            f"{run.place}; from {begun}; run folder {run.where}", soft_wrap=True
        )
        import tensorflow as tf

        from unet_train.flops import matrix_product_gflops, train_gflop

        self._gflop_an_image = train_gflop(
            run.predictor.model, run.data.options.tile_size
        )
        devices = tf.distribute.get_strategy().num_replicas_in_sync
        self._peak_gflops = devices * matrix_product_gflops(run.options.precision)
        self._last_step, self._last_seconds = run.step, run.seconds
        if self._console.is_terminal:
            self._bar = rich.progress.Progress(
                rich.progress.TextColumn("{task.description}"),
                rich.progress.BarColumn(),
                console=self._console,
            )
            self._task = self._bar.add_task("compiling", total=1.0)
            self._bar.start()

    def on_loop_end(self, run: Run, logs: Logs) -> None:
        """Moves the bar, or prints a line if the last one is old enough."""
        self._measure(run, float(logs["input_wait"].sum()))
        line = self._line(run, float(logs["loss"][-1]))
        if self._bar is not None:
            done = _share_done(run)
            self._bar.update(self._task, description=line, completed=done)
        elif run.seconds - self._last_line >= self.every_seconds:
            self._last_line = run.seconds
            self._console.print(line, soft_wrap=True)

    def on_eval_end(self, run: Run, scores: dict[str, float]) -> None:
        """Prints the scores; a validation does not count as slow training."""
        self._tell_scores(run.step, run.evaluated_images, scores)
        self._last_step, self._last_seconds = run.step, run.seconds

    def on_checkpoint(self, run: Run, path: pathlib.Path) -> None:
        """Leaves the time it took out of the speed."""
        self._last_step, self._last_seconds = run.step, run.seconds

    def on_exception(self, run: Run, error: BaseException) -> None:
        """Gives the terminal back."""
        self._stop()

    def on_fit_end(self, run: Run) -> None:
        """Gives the terminal back and says how it went."""
        self._stop()
        self._tell_final(run)
        if run.stop_reason:
            self._console.print(f"Stopped: {run.stop_reason}", soft_wrap=True)
        self._console.print(
            f"Done: {run.step} steps, {run.epoch:.1f} epochs,"
            f" {_duration(run.seconds)}; model in {run.where}/model.keras",
            soft_wrap=True,
        )

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _tell_scores(self, step: int, images: int, scores: dict[str, float]) -> None:
        # Of several classes the IoU of each is enough.
        told = "  ".join(
            f"{name} {score:.3f}"
            for name, score in scores.items()
            if "/" not in name or name.startswith("iou/")
        )
        line = f"step {step}  validation on {images} images: {told}"
        self._console.print(line, soft_wrap=True)

    def _tell_final(self, run: Run) -> None:
        """The scores on all images, if the validations before took fewer."""
        final = run.final_scores
        if final is not None and final["images"] != run.evaluated_images:
            scores = run.scores.result() if run.scores else {}
            self._tell_scores(run.step, final["images"], scores)

    def _measure(self, run: Run, waited: float) -> None:
        seconds = run.seconds - self._last_seconds
        if seconds > 0:
            images = (run.step - self._last_step) * run.batch_size
            self._speed = images / seconds
            self._wait = waited / seconds
        self._last_step, self._last_seconds = run.step, run.seconds

    def _line(self, run: Run, loss: float) -> str:
        total = "" if math.isinf(run.horizon) else f"/{math.ceil(run.horizon)}"
        left = _time_left(run)
        gflops = self._speed * self._gflop_an_image
        return (
            f"epoch {run.epoch:.1f}  step {run.step}{total}  loss {loss:.4g}"
            f"  {self._speed:.3g} images/s  {gflops:.0f} GFLOP/s"
            f" ({gflops / self._peak_gflops:.0%} of peak)"
            f"  input {self._wait:.1%}  {left} left"
        )


def _share_done(run: Run) -> float:
    return 0.0 if math.isinf(run.horizon) else run.step / max(run.horizon, 1.0)


def _time_left(run: Run) -> str:
    if math.isinf(run.horizon) or not run.seconds_a_step:
        return "?"
    return _duration(run.seconds_a_step * max(run.horizon - run.step, 0))


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
    )
