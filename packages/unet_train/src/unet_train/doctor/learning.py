"""Can the network learn one batch by heart? If not, no amount of training will help.

The task's own loss and optimizer train on one batch, as it is, at a constant rate.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from unet_train.data.labels import is_foreground
from unet_train.data.share import ALL, Share
from unet_train.doctor.finding import Finding
from unet_train.doctor.pace import Pace, Tell
from unet_train.doctor.words import duration
from unet_train.scoring.confusion import iou_of_logits
from unet_train.task.optimizer import WarmUp
from unet_train.training.xla import explain_uncompiled

if TYPE_CHECKING:
    from unet_train.data.source import SegmentationData
    from unet_train.task.segmentation import Batch, SegmentationTask

# The search for a batch with foreground and background ends after so many.
_BATCHES = 16
_LEARNED = 0.9
_LOOK_EVERY = 10
# A part of the first loss, below which it fell clearly.
_FELL = 0.8
# Fewer steps may be too few to learn anything; IoU below this is worth a look.
_ENOUGH, _FAIR = 30, 0.5
# Logits of which no network of sane weights is capable.
_HUGE = 1e4


@dataclasses.dataclass(frozen=True)
class Overfit:
    """What came of training on one batch.

    Attributes:
      losses: Of each step; the last is not finite if that ended it.
      ious: Of the batch, by batch statistics: before the first step, after every tenth
        and the last.
      logits: float32, of all pixels before the first step and after the last.
      broke: What was no longer finite: "loss", "weights", or "" if all is.
      seconds_a_step: Measured without the first, which compiles.
      foreground: Share of foreground in the batch.
      minutes: The limit that ended it before its steps were over; None if none did.
    """

    losses: list[float]
    ious: list[float]
    logits: npt.NDArray[np.float32]
    broke: str
    seconds_a_step: float
    foreground: float
    minutes: float | None = None


def overfit_one_batch(
    task: SegmentationTask,
    data: SegmentationData,
    *,
    steps: int,
    seed: int,
    minutes: float = np.inf,
    share: Share = ALL,
    jit_compile: bool = False,
    tell: Tell = lambda line: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Overfit:
    """Trains on one batch until it is learned or the steps or minutes are over.

    The task is spoilt by it: its weights are trained and its schedule replaced.

    ```python
    from unet_core import UNetConfig, build_unet
    from unet_train.doctor import check_learning, overfit_one_batch

    task = SegmentationTask(build_unet(UNetConfig(depth=2, base_filters=4)))
    data = SegmentationData(data_dir="OUT", tile_size=92)
    learned = overfit_one_batch(task, data, steps=2, seed=0)
    print(check_learning(learned, learning_rate=1e-3, loss="bce").text)
    ```

    Args:
      task: With the precision set.
      data: Where the batch comes from: the first that has enough of both labels.
      steps: At most so many.
      seed: Of order, crops and augmentation.
      minutes: It ends with the first step that takes it beyond.
      share: Of a run on several devices; the piece of one of them is learned.
      jit_compile: Whether steps are compiled with XLA, as those of a run.
      tell: Takes a line now and then: the step, the loss, the time left.
      clock: Gives seconds.

    Raises:
      ValueError: XLA cannot compile the steps.
    """
    task.check_tile_size(data.options.tile_size)
    options = task.options
    is_named = options.schedule in ("constant", "cosine")
    kept = "constant" if is_named else options.schedule
    task.schedule = WarmUp(options.learning_rate, schedule=kept, warmup_steps=0)
    task.optimizer.learning_rate = task.schedule
    task.build_optimizer()
    batch, foreground = _choose_batch(task, data, seed, share)
    step = tf.function(task.train_step, jit_compile=jit_compile or None)
    first = _logits(task, batch)
    losses: list[float] = []
    ious = [_iou(first, batch)]
    seconds: list[float] = []
    broke = ""
    pace = Pace(tell, "step", steps, minutes=minutes, clock=clock)
    is_over = False
    for number in range(1, steps + 1):
        before = [tf.identity(weight.value) for weight in task.model.weights]
        start = clock()
        try:
            log = {name: float(value) for name, value in step(batch).items()}
        except tf.errors.OpError as error:
            raise explain_uncompiled(error) from error
        seconds.append(clock() - start)
        losses.append(log["loss"])
        if not np.isfinite(log["loss"]) or _has_bad_gradient(task, log):
            for weight, value in zip(task.model.weights, before, strict=True):
                weight.assign(value)
            broke = "loss" if _is_sane(_logits(task, batch)) else "weights"
            break
        pace(number, f", loss {losses[-1]:.3g}")
        is_over = pace.is_over and number < steps
        if number % _LOOK_EVERY == 0 or number == steps or is_over:
            ious.append(_iou(_logits(task, batch), batch))
            if is_over or (ious[-1] >= _LEARNED and losses[-1] < _FELL * losses[0]):
                break
    return Overfit(
        losses=losses,
        ious=ious,
        logits=np.concatenate([first.ravel(), _logits(task, batch).ravel()]),
        broke=broke,
        seconds_a_step=float(np.median(seconds[1:] or seconds)),
        foreground=foreground,
        minutes=minutes if is_over else None,
    )


def check_learning(overfit: Overfit, *, learning_rate: float, loss: Any) -> Finding:
    """Whether the batch was learned.

    ```python
    from unet_core import UNetConfig, build_unet
    from unet_train.doctor import check_learning, overfit_one_batch

    task = SegmentationTask(build_unet(UNetConfig(depth=2, base_filters=4)))
    data = SegmentationData(data_dir="OUT", tile_size=92)
    learned = overfit_one_batch(task, data, steps=2, seed=0)
    print(check_learning(learned, learning_rate=1e-3, loss="bce").verdict)
    ```

    Args:
      overfit: What came of it.
      learning_rate: Of the task.
      loss: Of the task, as in its options.
    """
    losses, ious, count = overfit.losses, overfit.ious, len(overfit.losses)
    ended, limit = "", "--steps"
    if overfit.minutes is not None:
        limit = "--minutes"
        ended = f", ended after the {duration(60 * overfit.minutes)} of {limit}"
    course = (
        f"one batch, {count} steps{ended}: loss {losses[0]:.3g} to {losses[-1]:.3g},"
        f" IoU {ious[0]:.2f} to {ious[-1]:.2f}"
    )

    def fault(text: str, cure: str) -> Finding:
        return Finding("learning", "fault", text, cure)

    name = loss["class_path"] if isinstance(loss, dict) else loss
    if overfit.broke == "loss":
        return fault(
            f"the loss {name} gives {losses[-1]}, or gradients that are no numbers, at"
            f" step {count}, from logits that are finite",
            "Correct that loss (logarithms, roots and divisions of 0), or train with"
            " --task.loss bce.",
        )
    if overfit.broke:
        lower = f"--task.learning_rate {min(learning_rate / 10, 1e-3):.0e}"
        return fault(
            f"the weights explode at learning rate {learning_rate:g}: the loss is"
            f" {losses[-1]} at step {count} of one batch",
            f"Set {lower} (`unet-train find-lr` proposes one), --task.clip_norm 1, or"
            " --trainer.precision float32.",
        )
    if overfit.foreground == 0:
        return Finding(
            "learning",
            "warning",
            f"none of the first {_BATCHES} batches has foreground",
            "Set a larger --data.tile_size or --data.batch_size.",
        )
    if np.ptp(overfit.logits[len(overfit.logits) // 2 :]) == 0:
        return fault(
            f"the network gives every pixel the same logit ({course})",
            "Look for a layer that gives only zeros, or set a lower"
            " --task.learning_rate.",
        )
    if losses[-1] > 2 * abs(losses[0]) + 1:
        return fault(
            f"the loss rises at learning rate {learning_rate:g} ({course})",
            "Let `unet-train find-lr` propose a --task.learning_rate.",
        )
    fell = losses[-1] < losses[0] - (1 - _FELL) * abs(losses[0])
    if not fell and ious[-1] < _LEARNED and count >= _ENOUGH:
        return fault(
            f"the network cannot learn a single batch by heart ({course})",
            "Let `unet-train find-lr` propose a --task.learning_rate; if that does not"
            " help, look at the masks in alignment.png.",
        )
    if ious[-1] < _FAIR:
        return Finding(
            "learning",
            "warning",
            course,
            f"Give it more {limit}; set a --task.loss for rare foreground (bce_dice).",
        )
    return Finding("learning", "ok", course)


def _choose_batch(
    task: SegmentationTask, data: SegmentationData, seed: int, share: Share
) -> tuple[Batch, float]:
    """Of the first batches the one whose share of foreground is nearest to a half."""
    batches = data.train_batches(margin=task.margin, seed=seed, share=share)
    seen: list[tuple[Batch, float]] = []
    for batch in itertools.islice(batches, _BATCHES):
        foreground, labelled = (
            int(tf.math.count_nonzero(which))
            for which in (is_foreground(batch[1]), batch[1] != 255)
        )
        seen.append((batch, foreground / max(labelled, 1)))
        if 0.1 <= seen[-1][1] <= 0.9:
            break
    return min(seen, key=lambda each: abs(each[1] - 0.5))


def _logits(task: SegmentationTask, batch: Batch) -> npt.NDArray[np.float32]:
    """Of full size, with the statistics of the batch, as training sees them."""
    outputs = task.trained(batch[0], training=True)
    outputs = outputs[0] if isinstance(outputs, list) else outputs
    return np.asarray(outputs, np.float32)


def _iou(logits: npt.NDArray[np.float32], batch: Batch) -> float:
    return iou_of_logits([(batch[1].numpy(), logits)])


def _has_bad_gradient(task: SegmentationTask, log: dict[str, float]) -> bool:
    """With loss scaling an overflow is part of the method."""
    is_scaled = hasattr(task.optimizer, "dynamic_scale")
    return not is_scaled and not np.isfinite(log.get("gradient_norm", 0.0))


def _is_sane(logits: npt.NDArray[np.float32]) -> bool:
    return bool(np.isfinite(logits).all() and np.abs(logits).max() < _HUGE)
