"""A validation: copy the weights, have the task choose, score, or break off.

```python
validation = Validation(run, breaks_off=lambda: False)
validation.prepare(limit=None)
scored = validation.score(limit=None)
```
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from unet_train.data.source import Example
from unet_train.scoring.accumulator import predictions
from unet_train.training.run import Run


@dataclasses.dataclass(frozen=True)
class Scored:
    """How the present weights did.

    Attributes:
      scores: On all images that were asked for.
      images: Their number.
      comparable: On as many as the validations before had.
      comparable_images: Their number.
    """

    scores: dict[str, float]
    images: int
    comparable: dict[str, float]
    comparable_images: int


class _BrokenOffError(Exception):
    """A signal came in the midst of it."""


class Validation:
    """Scores a run's present weights; every machine does, with the same result."""

    def __init__(self, run: Run, *, breaks_off: Callable[[], bool]) -> None:
        """Does nothing yet.

        Args:
          run: Whose predictor gets the weights.
          breaks_off: Whether to leave it, asked before each image.
        """
        self._run = run
        self._breaks_off = breaks_off

    def prepare(self, limit: int | None) -> None:
        """Copies the weights; the task chooses what it does on held-out images.

        Args:
          limit: Take at most so many of these.
        """
        run = self._run
        run.task.copy_weights(run.predictor.model)
        try:
            run.task.calibrate(
                run.predictor, self._until_signal(run.data.holdout_examples(limit))
            )
        except _BrokenOffError:
            return  # What was chosen before stands.

    def score(
        self, limit: int | None, *, compare_on: int | None = None
    ) -> Scored | None:
        """Scores the weights that `prepare` copied.

        Args:
          limit: Take at most so many images.
          compare_on: Without a limit: give the scores on the images that this one
            leaves, too.

        Returns:
          None if a signal came meanwhile.
        """
        run = self._run
        run.scores = comparable = run.task.make_scores()
        compared: set[int] = set()
        if limit is None and compare_on is not None:
            comparable = run.task.make_scores()
            compared = set(run.data.places_within(compare_on))
        count = 0
        try:
            examples = self._until_signal(run.data.examples(limit=limit))
            for example, found in predictions(run.predictor, examples):
                run.scores.add(example, found)
                if count in compared:
                    comparable.add(example, found)
                count += 1
        except _BrokenOffError:
            return None
        return Scored(
            run.scores.result(), count, comparable.result(), len(compared) or count
        )

    def _until_signal(self, examples: Iterator[Example]) -> Iterator[Example]:
        for example in examples:
            if self._breaks_off():
                raise _BrokenOffError
            yield example
        if self._breaks_off():
            raise _BrokenOffError
