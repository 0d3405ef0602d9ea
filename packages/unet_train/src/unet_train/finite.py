"""Stops a run before numbers that are no numbers spoil its checkpoints."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from unet_train.callbacks.base import Run
from unet_train.run_folder import CHECKPOINTS


def require_finite_costs(
    costs: npt.NDArray[np.float32], run: Run, ids_of_batch: Callable[[int], list[str]]
) -> None:
    """Checks the costs of the last steps.

    Args:
      costs: float32 [steps], the last of them of step `run.step`.
      run: The run.
      ids_of_batch: Names the examples of a batch, counted from 0.

    Raises:
      FloatingPointError: One is not finite; the text names its step and its examples.
    """
    broken = np.flatnonzero(~np.isfinite(costs))
    if broken.size:
        step = run.step - len(costs) + int(broken[0]) + 1
        raise FloatingPointError(
            f"The cost of step {step} is {costs[broken[0]]}. Its batch:"
            f" {ids_of_batch(step - 1)}. {_cure(run)}"
        )


def require_finite_weights(run: Run) -> None:
    """Checks the weights, which would break every resume if they were saved.

    Raises:
      FloatingPointError: One is not finite; the text names it.
    """
    for weight in run.task.model.weights:
        if not np.isfinite(weight.numpy()).all():
            raise FloatingPointError(
                f"After step {run.step} the weight {weight.path} is no longer finite."
                f" {_cure(run)}"
            )


def _cure(run: Run) -> str:
    return (
        f"The checkpoints in {run.directory / CHECKPOINTS} are from before; resume with"
        " a lower --task.learning_rate, or with --trainer.precision float32."
    )
