"""A validation: copy the weights, have the task choose, score, or break off.

```python
validation = Validation(run, place, predictors, stop)
validation.prepare(limit=None)
scored = validation.score(limit=None)
```
"""

from __future__ import annotations

import dataclasses
import itertools
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from unet_train.data.source import Example
from unet_train.inference.on_device import OnDevice
from unet_train.scoring.accumulator import Accumulator, predictions
from unet_train.training.devices import Place
from unet_train.training.run import Run
from unet_train.training.signals import StopOnSignal


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
    """Scores a run's present weights: each device of each machine some of the images.

    What all of them counted comes together on each machine, with the same result.
    """

    def __init__(
        self,
        run: Run,
        place: Place,
        predictors: Sequence[OnDevice],
        stop: StopOnSignal,
    ) -> None:
        """Does nothing yet.

        Args:
          run: Whose predictor gets the weights.
          place: Which machine this is, and how it tells the others what it counted.
          predictors: That of the run, and those of further devices of this machine.
          stop: A signal breaks it off, but not among several machines, where the
            others would not know.
        """
        self._run = run
        self._place = place
        self._predictors = predictors
        self._stop = stop

    def prepare(self, limit: int | None) -> None:
        """Copies the weights; the task chooses what it does on held-out images.

        Args:
          limit: Take at most so many of these.
        """
        run, share = self._run, self._place.share
        for each in self._predictors:
            run.task.copy_weights(each.model)

        def count(scores: list[Accumulator]) -> None:
            if not run.task.calibrates:
                return
            examples = run.data.holdout_examples(limit, share=share)
            for example, found in self._predictions(examples):
                scores[0].add(example, found)

        try:
            (scores,) = self._on_all_machines(run.task.make_calibration, 1, count)
        except _BrokenOffError:
            return  # What was chosen before stands.
        run.task.calibrate(run.predictor, scores)

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
        run, share = self._run, self._place.share
        images = len(run.data.places_within(limit))
        compared: set[int] = set()
        if limit is None and compare_on is not None:
            compared = set(run.data.places_within(compare_on))

        def count(scores: list[Accumulator]) -> None:
            places = run.data.places_within(limit, share=share)
            examples = run.data.examples(limit=limit, share=share)
            found = zip(places, self._predictions(examples), strict=True)
            for place, (example, prediction) in found:
                scores[0].add(example, prediction)
                if place in compared:
                    scores[1].add(example, prediction)

        try:
            scores, *comparable = self._on_all_machines(
                run.task.make_scores, 2 if compared else 1, count
            )
        except _BrokenOffError:
            return None
        run.scores = scores
        of_these = (comparable or [scores])[0].result()
        return Scored(scores.result(), images, of_these, len(compared) or images)

    def _on_all_machines(
        self,
        make: Callable[[], Accumulator],
        count: int,
        fill: Callable[[list[Accumulator]], None],
    ) -> list[Accumulator]:
        """What all machines counted together, which this one is told, too.

        Raises:
          RuntimeError: Another machine could not count its share.
        """
        mine = [make() for _ in range(count)]
        if self._place.share.workers == 1:
            fill(mine)
            return mine
        fault = None
        try:
            fill(mine)
            told = pickle.dumps(mine)
        except Exception as error:
            # The others wait for this machine, and would wait forever.
            fault, told = error, pickle.dumps(f"{type(error).__name__}: {error}")
        of_each = [pickle.loads(each) for each in self._place.gather(told)]
        if fault is not None:
            raise fault
        totals = [make() for _ in range(count)]
        for machine, counted in enumerate(of_each):
            if isinstance(counted, str):
                raise RuntimeError(f"Machine {machine} could not validate: {counted}")
            for total, more in zip(totals, counted, strict=True):
                total.merge(more)
        return totals

    def _predictions(
        self, examples: Iterator[Example]
    ) -> Iterator[tuple[Example, Any]]:
        return predictions(self._predictors, self._until_signal(examples))

    def _until_signal(self, examples: Iterator[Example]) -> Iterator[Example]:
        alone = self._place.share.workers == 1
        for example in itertools.chain(examples, [None]):
            if alone and self._stop.received is not None:
                raise _BrokenOffError
            if example is not None:
                yield example
