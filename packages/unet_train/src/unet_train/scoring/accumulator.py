"""How predictions are scored: one contract for any score, and the scores of masks.

```python
scores = MaskScores(threshold=0.5)
evaluate(predictor, data.examples("validation"), scores)["iou"]
```

A task of one's own scores by its own: it returns its accumulator from
`SegmentationTask.make_scores` and names the score that counts in
`SegmentationTask.monitor`. Progress, TensorBoard, `BestModels` and `EarlyStopping` take
whatever names it gives.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt

from unet_train.data.labels import as_foreground, decide
from unet_train.options.data import FOREGROUND
from unet_train.scoring.confusion import (
    confusion_matrix,
    foreground_of,
    scores_of_classes,
)
from unet_train.scoring.counts import PixelCounts, ThresholdCounts, false_shares

if TYPE_CHECKING:
    from unet_train.data.source import Example
    from unet_train.inference.photos import Photo
    from unet_train.inference.predictor import Predictor

Mode = Literal["max", "min"]

Loss = Callable[
    [npt.NDArray[np.uint8], npt.NDArray[np.float32]],
    tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
]
"""From a mask and its probabilities [H, W] to totals and what they are divided by."""


class Accumulator(Protocol):
    """Takes predictions one by one; says at any time how good they are.

    Of several machines each counts its images and sends what it counted to the others:
    there it must go through `pickle`.

    ```python
    from unet_train.scoring.accumulator import Accumulator


    class Area(Accumulator):
        def __init__(self):
            self.found = self.pixels = 0

        def add(self, example, prediction):
            self.found += int((prediction > 0.5).sum())
            self.pixels += prediction.size

        def merge(self, other):
            self.found += other.found
            self.pixels += other.pixels

        def result(self):
            return {"area": self.found / max(self.pixels, 1)}
    ```
    """

    def add(self, example: Example, prediction: Any) -> None:
        """Takes one example and what `Predictor.probabilities` gives for its image."""

    def merge(self, other: Self) -> None:
        """Takes what another one has taken, as if it had been added here."""

    def result(self) -> dict[str, float]:
        """The scores by name."""


class ManyPredictor(Protocol):
    """What predicts several photos, as `Predictor.many` does."""

    def many(self, photos: Sequence[Photo], /) -> list[npt.NDArray[np.float32]]:
        """The probabilities of each, in their order."""


AT_ONCE = 32
"""Images that are predicted together on a GPU."""

PIXELS_AT_ONCE = 32_000_000
"""When images have so many pixels, no more are read before they are predicted."""


@dataclasses.dataclass(frozen=True)
class Monitor:
    """The score by which models are compared.

    ```python
    from unet_train.scoring.accumulator import Monitor

    monitor = Monitor("loss", "min")
    assert monitor.of({"loss": 0.2}) > monitor.of({"loss": 0.3})  # The less the better.
    ```

    Attributes:
      name: One of those that the accumulator gives.
      mode: Whether the largest is best, or the least.
    """

    name: str
    mode: Mode = "max"

    @classmethod
    def choose(cls, name: str | None, mode: Mode | None, of_task: Monitor) -> Monitor:
        """What somebody asked for; what is None is as for the task.

        A score that the task says nothing of is best when it is largest, unless it is
        a loss or the area found on images without foreground.
        """
        name = name or of_task.name
        if mode is None:
            least = name in ("loss", "false_area") or name.endswith("_loss")
            mode = "min" if least else "max"
            mode = of_task.mode if name == of_task.name else mode
        return cls(name, mode)

    def of(self, scores: dict[str, float]) -> float:
        """The score, as a number that is larger the better it is.

        Raises:
          ValueError: There is none of that name.
        """
        if self.name not in scores:
            raise ValueError(
                f"The validation has no score {self.name!r}, only {sorted(scores)}."
                " Correct `monitor`."
            )
        return scores[self.name] if self.mode == "max" else -scores[self.name]


def evaluate(
    predictor: Predictor, examples: Iterable[Example], scores: Accumulator
) -> dict[str, float]:
    """Predicts whole images and scores them.

    ```python
    from unet_train.scoring.accumulator import MaskScores, evaluate

    predictor, data = Predictor.load("runs/cats"), SegmentationData(data_dir="OUT")
    evaluate(predictor, data.examples("validation"), MaskScores(0.5))["iou"]
    ```

    Args:
      predictor: What to score.
      examples: Whole images with masks.
      scores: What to count into.

    Returns:
      The scores by name.
    """
    for example, prediction in predictions([predictor], examples):
        scores.add(example, prediction)
    return scores.result()


def predictions(
    predictors: Sequence[ManyPredictor],
    examples: Iterable[Example],
    *,
    at_once: int | None = None,
) -> Iterator[tuple[Example, npt.NDArray[np.float32]]]:
    """Examples with what `Predictor.many` gives for their images, in order.

    Args:
      predictors: What predicts, one for each device; they take turns, each in a thread,
        while the next images are read and those before are counted.
      examples: Whole images, of any sizes.
      at_once: So many are read, and those of one size predicted together; fewer of
        large ones. None for one after the other on a CPU, where that is as quick and
        takes the least memory, and 32 on a GPU.
    """
    import tensorflow as tf  # Not where scores are only compared.

    if at_once is None:
        at_once = AT_ONCE if tf.config.list_logical_devices("GPU") else 1
    with contextlib.ExitStack() as threads:
        turns = itertools.cycle(
            (each, threads.enter_context(ThreadPoolExecutor(1))) for each in predictors
        )
        begun: collections.deque[tuple[list[Example], Future[Any]]]
        begun = collections.deque()
        for some in _together(examples, at_once):
            predictor, thread = next(turns)
            found = thread.submit(predictor.many, [each.image for each in some])
            begun.append((some, found))
            if len(begun) > len(predictors):
                yield from _ended(*begun.popleft())
        while begun:
            yield from _ended(*begun.popleft())


def _together(examples: Iterable[Example], at_once: int) -> Iterator[list[Example]]:
    """Those that are predicted at once."""
    some: list[Example] = []
    for example in examples:
        some.append(example)
        pixels = sum(each.mask.size for each in some)
        if len(some) >= at_once or pixels > PIXELS_AT_ONCE:
            yield some
            some = []
    if some:
        yield some


def _ended(
    examples: list[Example], found: Future[list[npt.NDArray[np.float32]]]
) -> Iterator[tuple[Example, npt.NDArray[np.float32]]]:
    return zip(examples, found.result(), strict=True)


class MaskScores:
    """Scores of masks, over all pixels of all images together.

    Of several classes, `counts` and `curve` tell foreground of whatever class from
    background, and `matrix` one class from another.

    ```python
    from unet_train.scoring.accumulator import MaskScores, evaluate

    scores = MaskScores(threshold=0.5)
    data = SegmentationData(data_dir="OUT")
    evaluate(Predictor.load("runs/cats"), data.examples("validation"), scores)
    scores.counts.iou  # Over all pixels of all images together.
    ```

    Attributes:
      threshold: Probability from which a pixel is foreground; for one class.
      counts: At that threshold, or where the background is not the most probable.
      curve: At many.
      matrix: Of several classes, pixels by their true and their predicted label; int64
        [n + 1, n + 1].
    """

    def __init__(
        self,
        threshold: float,
        loss: Loss | None = None,
        class_names: Sequence[str] = FOREGROUND,
    ) -> None:
        """Starts.

        Args:
          threshold: Probability from which a pixel is foreground; for one class.
          loss: To be reported as well; its mean over all that it counts.
          class_names: What is told apart.
        """
        self.threshold = threshold
        self.class_names = class_names
        labels = len(class_names) + 1
        self.matrix = np.zeros((labels, labels), np.int64) if labels > 2 else None
        self.counts = PixelCounts()
        self.curve = ThresholdCounts()
        self._loss = loss
        self._false_shares: list[float] = []
        self._totals: npt.NDArray[Any] = np.zeros(1)
        self._weights: npt.NDArray[Any] = np.zeros(1)

    def __getstate__(self) -> dict[str, Any]:
        """What another machine merges: the loss adds images, and stays here."""
        return {**self.__dict__, "_loss": None}

    def add(self, example: Example, prediction: npt.NDArray[np.float32]) -> None:
        """Counts one image: its mask, and what `Predictor.probabilities` gave."""
        labels = mask = example.mask[..., 0]
        probabilities, found = prediction, decide(prediction, self.threshold)
        if self.matrix is not None:
            self.matrix += confusion_matrix(labels, found, len(self.matrix))
            mask, found = as_foreground(labels), found != 0
            probabilities = foreground_of(prediction)
        self.curve.add(mask, probabilities)  # Refuses what is no number.
        counts = PixelCounts()
        counts.add(mask, found)
        self.counts.merge(counts)
        if not counts.true_positives + counts.false_negatives:
            table = np.array([dataclasses.astuple(counts)])
            self._false_shares += false_shares(table).tolist()
        if self._loss is not None:
            totals, weights = self._loss(labels, prediction)
            self._totals = self._totals + totals.astype(np.float64)
            self._weights = self._weights + weights.astype(np.float64)

    def merge(self, other: MaskScores) -> None:
        """Adds what another one counted."""
        self.counts.merge(other.counts)
        self.curve.merge(other.curve)
        if self.matrix is not None and other.matrix is not None:
            self.matrix += other.matrix
        self._false_shares += other._false_shares
        self._totals = self._totals + other._totals
        self._weights = self._weights + other._weights

    def result(self) -> dict[str, float]:
        """`loss` if there is one, then `iou`, `dice`, `precision`, `recall`.

        And `false_area` if there were images without foreground: the mean share of
        these that was taken for it. Of several classes these are of foreground as such;
        then `mean_iou` comes first, and `iou/cat` and so on follow for each class that
        is in the truth or was found.
        """
        scores = {
            name: getattr(self.counts, name)
            for name in ("iou", "dice", "precision", "recall")
        }
        if self._false_shares:
            scores["false_area"] = float(np.mean(self._false_shares))
        if self.matrix is not None:
            scores = scores_of_classes(self.matrix, self.class_names, scores)
        if self._loss is None:
            return scores
        weights = np.maximum(self._weights, np.finfo(np.float64).tiny)
        return {"loss": float((self._totals / weights).sum()), **scores}
