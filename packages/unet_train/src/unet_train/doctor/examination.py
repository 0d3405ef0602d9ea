"""Everything the doctor looks at, in the order of causes.

```python
found = examine(task, data, TrainerOptions(max_steps=1000))
print(found.conclusion)  # Healthy: all 10 checks passed.
```
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from unet_core import read_geometry
from unet_train.data.source import SegmentationData
from unet_train.doctor.alignment import check_alignment, draw_alignment
from unet_train.doctor.data import (
    check_all_values,
    check_classes,
    check_foreground,
    look_at,
)
from unet_train.doctor.drawings import ALIGNMENT, LOGITS, Drawings
from unet_train.doctor.finding import Finding, conclude
from unet_train.doctor.learning import check_learning, overfit_one_batch
from unet_train.doctor.machine import (
    available_bytes,
    check_gpu,
    check_memory,
    forecast_time,
    share_of_run,
    tiles_at_once,
    training_bytes,
)
from unet_train.doctor.network import (
    check_batch_norm,
    check_dead_units,
    check_output_layer,
    check_weights,
    tile_iou,
)
from unet_train.doctor.pace import Pace, Tell
from unet_train.doctor.precision import check_precision
from unet_train.doctor.scores import (
    check_classes_found,
    check_logits,
    check_threshold,
    draw_histogram,
    score,
)
from unet_train.inference.predictor import Predictor
from unet_train.options import TrainerOptions
from unet_train.runs.folder import METRICS
from unet_train.runs.load import Weights
from unet_train.runs.remote import to_read
from unet_train.task.layers import speed_up
from unet_train.task.segmentation import SegmentationTask
from unet_train.training.precision import choose_precision, processor_flags
from unet_train.training.xla import is_compiled

# Training tiles on which a network is looked at.
_TILES = 32
# Steps that tell how long one takes; the first compiles.
_TIMED = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scope:
    """What to look at, and how closely.

    ```python
    from unet_train.doctor import Scope

    quickly = Scope(run_dir="runs/cats", images=4, minutes=0.1)
    ```

    Attributes:
      run_dir: Folder of a run, to look at what it has learned; None before training.
      weights: Of the run: "last", or "best" by its validations.
      threshold: Probability from which a pixel is foreground, in place of the run's.
      images: How many of each split.
      steps: To learn one batch by heart, at most.
      minutes: That learning it may take.
    """

    run_dir: str | os.PathLike[str] | None = None
    weights: Weights = "last"
    threshold: float | None = None
    images: int = 100
    steps: int = 100
    minutes: float = 10.0

    def __post_init__(self) -> None:
        for name in ("images", "steps"):
            if (number := getattr(self, name)) < 2:
                raise ValueError(f"`{name}` must be at least 2. Received: {number}")
        if not self.minutes > 0:
            raise ValueError(f"`minutes` must be above 0. Received: {self.minutes}")

    @property
    def is_before_end(self) -> bool:
        """Whether something is still to be trained."""
        return self.run_dir is None or not (to_read(self.run_dir) / METRICS).exists()


@dataclasses.dataclass(frozen=True)
class Examination:
    """What came of it.

    ```python
    from unet_train.doctor import Examination

    print(Examination((), "Nothing is broken.", {}).conclusion)
    ```

    Attributes:
      findings: In the order of causes.
      conclusion: The sentence that they come to.
      drawings: By file name, uint8 [H, W, 3]; for `write_drawings`.
    """

    findings: tuple[Finding, ...]
    conclusion: str
    drawings: Drawings

    @property
    def is_healthy(self) -> bool:
        """Whether nothing is broken."""
        return all(finding.verdict != "fault" for finding in self.findings)


def examine(
    task: SegmentationTask,
    data: SegmentationData,
    trainer: TrainerOptions,
    scope: Scope | None = None,
    *,
    tell: Tell = lambda line: None,
) -> Examination:
    """Examines data, machine and network before training, or what a run has learned.

    What can only show the consequences of a fault, or would break by it, is left out.
    Nothing is written.

    ```python
    from unet_train.doctor import Scope, examine
    from unet_train.options import TrainerOptions

    task = SegmentationTask(build_unet(UNetConfig(depth=2, base_filters=4)))
    data = SegmentationData(data_dir="OUT", tile_size=92)
    found = examine(task, data, TrainerOptions(max_steps=100), Scope(steps=5))
    print(found.conclusion)
    ```

    Args:
      task: That is to be trained; it is spoilt by it. `machine.settle` goes before it
        is made where `trainer` asks for another device than TensorFlow would take.
      data: That it is to be trained on.
      trainer: How.
      scope: What to look at; None takes the defaults of `Scope`.
      tell: Takes lines for whoever waits, such as `print`.

    Raises:
      ValueError: The network cannot take such tiles, the batch does not go round the
        devices or into its parts, there is no such split, or XLA cannot compile the
        steps.
    """
    visit = _Visit(task, data, trainer, scope or Scope(), tell)
    findings = tuple(visit.findings())
    return Examination(findings, conclude(findings, visit.scores), visit.drawings)


class _Visit:
    """An examination under way."""

    def __init__(
        self,
        task: SegmentationTask,
        data: SegmentationData,
        trainer: TrainerOptions,
        scope: Scope,
        tell: Tell,
    ) -> None:
        self.task, self.data, self.trainer = task, data, trainer
        self.scope, self.tell, self.scores = scope, tell, ""
        self.drawings: Drawings = {}
        self.share = share_of_run(trainer.strategy)
        task.check_tile_size(data.options.tile_size)
        task.name_classes(data.options.class_names)
        self.on_cpu = not tf.config.get_visible_devices("GPU")
        speed_up(task.model, on_cpu=self.on_cpu)
        parts = self.share.workers * self.share.replicas * trainer.accumulate
        self.precision = choose_precision(
            *(trainer.precision, task.model),
            tile_size=data.options.tile_size,
            tiles=data.options.batch_size // parts,
            on_cpu=self.on_cpu,
        ).precision
        task.set_precision(self.precision)
        if scope.is_before_end:
            self.share.check_batch(data.options.batch_size, parts=trainer.accumulate)

    def findings(self) -> Iterator[Finding]:
        """All of them, in the order of causes."""
        self.tell(f"looking at {self.scope.images} images of each split")
        surveys = [
            look_at(each, self.scope.images) for each in self.data.datasets.values()
        ]
        if examples := [each for survey in surveys for each in survey.examples]:
            self.drawings[ALIGNMENT] = draw_alignment(examples)
        readable = check_all_values(self.data.datasets, surveys)
        yield from readable
        if any(finding.verdict == "fault" for finding in readable):
            yield check_gpu(self.trainer.device)
            return
        yield check_foreground(*surveys)
        if len(self.data.options.class_names) > 1:
            yield check_classes(*surveys)
        yield check_alignment(
            [found for survey in surveys for found in survey.boundary_maps]
        )
        if self.scope.is_before_end:
            yield from self._before_training()
        if self.scope.run_dir is not None:
            yield from self._of_run(self.scope.run_dir)

    def _before_training(self) -> Iterator[Finding]:
        """What can be known before a network is trained."""
        task, trainer, options = self.task, self.trainer, self.data.options
        yield check_gpu(trainer.device)
        flags = processor_flags()
        precision = check_precision(self.precision, flags, on_cpu=self.on_cpu)
        yield precision
        tiles = tiles_at_once(self.share, options.batch_size, parts=trainer.accumulate)
        needed = training_bytes(
            task.model, tile_size=options.tile_size, batch_size=tiles
        )
        memory = check_memory(needed, available_bytes(), tiles)
        yield memory
        output = check_output_layer(task.model)
        if "fault" in (memory.verdict, output.verdict):
            yield output
            return
        if precision.verdict == "warning":  # Why what follows takes so long.
            self.tell(precision.text)
        task.accumulate = trainer.accumulate
        self.tell(
            f"learning one batch by heart, at most {self.scope.steps} steps or"
            f" {self.scope.minutes:g} minutes"
        )
        overfit = overfit_one_batch(
            task,
            self.data,
            steps=self.scope.steps,
            seed=trainer.seed,
            minutes=self.scope.minutes,
            share=self.share,
            jit_compile=is_compiled(
                trainer, task.model, on_cpu=self.on_cpu, share=self.share
            ),
            tell=self.tell,
        )
        # Of a softmax all logits may be above 0.
        knows = not overfit.broke and len(task.class_names) == 1
        lowest = float(overfit.logits.min()) if knows else None
        yield check_output_layer(task.model, lowest)
        yield check_learning(
            overfit, learning_rate=task.options.learning_rate, loss=task.options.loss
        )
        if len(overfit.losses) < _TIMED:
            return
        yield forecast_time(
            task.model,
            trainer,
            tile_size=options.tile_size,
            batch_size=tiles_at_once(self.share, options.batch_size),
            steps_per_epoch=self.data.steps_per_epoch(trainer.limit_train),
            seconds_a_step=overfit.seconds_a_step,
        )

    def _of_run(self, run_dir: str | os.PathLike[str]) -> Iterator[Finding]:
        """What a run has learned."""
        scope, data = self.scope, self.data
        try:
            predictor = Predictor.load(
                run_dir, scope.weights, threshold=scope.threshold
            )
        except ValueError as error:
            cure = "Let it train on (`unet-train fit ... --resume`) and ask again."
            yield Finding("weights", "fault", str(error).rstrip("."), cure)
            return
        model = predictor.model
        weights = check_weights(model)
        yield weights
        if weights.verdict == "fault":
            return
        count = len(data.places_within(scope.images))
        self.tell(f"predicting {count} images of the validation split")
        pace = Pace(self.tell, "image", count)
        scores = score(predictor, data.examples(limit=scope.images), pace)
        self.scores = str(scores)
        self.drawings[LOGITS] = draw_histogram(scores)
        tiles, masks = _training_tiles(model, data, self.trainer.seed)
        lowest = scores.logits.lowest
        knows = predictor.is_binary and math.isfinite(lowest)
        yield check_output_layer(model, lowest if knows else None)
        yield check_dead_units(model, tiles)
        yield check_batch_norm(model, tiles, masks)
        yield check_logits(scores, training_iou=tile_iou(model, tiles, masks))
        if predictor.is_binary:
            yield check_threshold(scores, run_dir)
        else:
            yield check_classes_found(scores)


def _training_tiles(
    model: keras.Model, data: SegmentationData, seed: int
) -> tuple[list[Any], list[Any]]:
    """Tiles and masks of the first batches of training."""
    count = max(2, _TILES // data.options.batch_size)
    margin = read_geometry(model).margin
    batches = data.train_batches(margin=margin, seed=seed).take(count)
    tiles, masks = zip(*((b[0].numpy(), b[1].numpy()) for b in batches), strict=True)
    return list(tiles), list(masks)
