"""The interface of a callback: six hooks, and state that a checkpoint keeps."""

from __future__ import annotations

import difflib
import pathlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from unet_train.training.run import Run

    Logs = dict[str, npt.NDArray[np.float32]]


class Callback:
    """Override the hooks you need; each is called with the run's state.

    A class with a method `on_...` that is no hook is refused when the trainer gets it.

    Example:
      ```python
      from unet_train import Callback, Trainer

      class Costs(Callback):
          def on_loop_end(self, run, logs):
              print(run.step, logs["loss"].mean())

      trainer = Trainer("runs/costs", max_steps=100, callbacks=[Costs()])
      ```
    """

    def on_fit_start(self, run: Run) -> None:
        """Before the first step; after a checkpoint was restored."""

    def on_loop_end(self, run: Run, logs: Logs) -> None:
        """After each round of steps.

        Args:
          run: State after the steps.
          logs: float32 [steps] each, the last of them being step `run.step`.
        """

    def on_eval_end(self, run: Run, scores: dict[str, float]) -> None:
        """After each validation.

        Args:
          run: `run.evaluated_images` says on how many images, the same at each.
          scores: Whatever the task's accumulator gives, by name.
        """

    def on_checkpoint(self, run: Run, path: pathlib.Path) -> None:
        """After a checkpoint was completed, for which training does not wait.

        Args:
          run: The state now; some steps may have been done since.
          path: The checkpoint's folder, whose name ends with its step.
        """

    def on_exception(self, run: Run, error: BaseException) -> None:
        """When training stops by an error or an interrupt, before it is raised."""

    def on_fit_end(self, run: Run) -> None:
        """After the last step and the final validation."""

    def state_dict(self) -> dict[str, Any]:
        """What to keep in a checkpoint, as JSON."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""


HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))


def check_hooks(callback: Callback) -> None:
    """Refuses a callback with a hook that nobody will ever call.

    Raises:
      ValueError: It has a method `on_...` that is no hook; the text gives the nearest.
    """
    for name in dir(callback):
        if name.startswith("on_") and name not in HOOKS:
            near = difflib.get_close_matches(name, HOOKS, n=1, cutoff=0.0)
            raise ValueError(
                f"{type(callback).__name__} has a method {name!r}, which is no hook."
                f" Did you mean {near[0]!r}? The hooks are {list(HOOKS)}."
            )
