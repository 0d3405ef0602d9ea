"""What a run has to do, and when."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unet_train.callbacks.base import Run
    from unet_train.options import TrainerOptions


class Agenda:
    """The steps at which a run is validated, saved, and over.

    Attributes:
      max_steps: From `max_steps` and `max_epochs`, infinite if neither is set.
      max_seconds: Infinite if not set.
      eval_every: Steps between validations, None without any.
      checkpoint_every: Steps between checkpoints.
      steps_per_loop: Steps between two visits to Python, at most.
    """

    def __init__(self, options: TrainerOptions, steps_per_epoch: float) -> None:
        """Reads the options, with epochs made steps."""
        limits = [math.inf]
        if options.max_steps is not None:
            limits.append(options.max_steps)
        if options.max_epochs is not None:
            limits.append(math.ceil(options.max_epochs * steps_per_epoch))
        minutes = options.max_minutes
        self.max_steps = min(limits)
        self.max_seconds = math.inf if minutes is None else 60 * minutes
        self.eval_every = options.eval_every_steps
        if options.eval_every_epochs is not None:
            steps = round(options.eval_every_epochs * steps_per_epoch)
            self.eval_every = max(1, steps)
        self.checkpoint_every = options.checkpoint_every_steps
        self.steps_per_loop = options.steps_per_loop

    def is_over(self, run: Run) -> bool:
        """Whether the budget is spent, or somebody stopped the run."""
        is_spent = run.step >= self.max_steps or run.seconds >= self.max_seconds
        return is_spent or bool(run.stop_reason)

    def horizon(self, run: Run) -> float:
        """The step at which the run will end at its present speed."""
        if math.isinf(self.max_seconds) or not run.seconds_a_step:
            return self.max_steps
        left = max(self.max_seconds - run.seconds, 0.0) / run.seconds_a_step
        return min(self.max_steps, run.step + left)

    def eval_is_due(self, run: Run) -> bool:
        """Whether to validate at this step, and it was not done yet."""
        return run.evaluated_step != run.step and _is_due(run.step, self.eval_every)

    def checkpoint_is_due(self, step: int) -> bool:
        """Whether to save at this step."""
        return _is_due(step, self.checkpoint_every)

    def steps(self, run: Run) -> int:
        """How many steps to run before Python has something to do."""
        limits = [self.steps_per_loop, self.max_steps - run.step]
        for every in (self.eval_every, self.checkpoint_every):
            if every is not None:
                limits.append(every - run.step % every)
        return int(min(limits))


def _is_due(step: int, every: int | None) -> bool:
    return every is not None and step > 0 and step % every == 0
