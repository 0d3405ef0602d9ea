"""Records what the devices do during a few rounds of steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unet_train.training.callback import Callback
from unet_train.training.run import Run

if TYPE_CHECKING:
    from unet_train.training.callback import Logs


class Profile(Callback):
    """Writes a profile for TensorBoard's Profile tab (`pip install xprof`).

    ```python
    from unet_train.callbacks import Profile

    Trainer("runs/new", max_steps=2, callbacks=[Profile(first_step=20)])
    ```

    Attributes:
      first_step: Begins with the round of steps after this one.
      steps: Ends with the round that has brought so many.
    """

    def __init__(self, first_step: int = 10, steps: int = 10) -> None:
        if first_step < 1 or steps < 1:
            raise ValueError(
                "`first_step` and `steps` must be at least 1. Received:"
                f" {first_step} and {steps}"
            )
        self.first_step = first_step
        self.steps = steps
        self._begun_at: int | None = None

    def on_loop_end(self, run: Run, logs: Logs) -> None:
        """Begins or ends when it is due."""
        import tensorflow as tf

        if self._begun_at is None:
            before = run.step - len(logs["loss"])
            if before < self.first_step <= run.step:
                tf.profiler.experimental.start(str(run.directory))
                self._begun_at = run.step
        elif self._begun_at >= 0 and run.step >= self._begun_at + self.steps:
            self._end()

    def on_exception(self, run: Run, error: BaseException) -> None:
        """Ends it."""
        self._end()

    def on_fit_end(self, run: Run) -> None:
        """Ends it."""
        self._end()

    def _end(self) -> None:
        import tensorflow as tf

        if self._begun_at is not None and self._begun_at >= 0:
            tf.profiler.experimental.stop()
            self._begun_at = -1
