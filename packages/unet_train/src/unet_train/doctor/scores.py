"""What a trained network says of photos it has not seen: logits and threshold."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw

from unet_train.data.labels import IGNORE, as_foreground, decide
from unet_train.data.source import Example
from unet_train.doctor.finding import Finding
from unet_train.doctor.pace import Pace
from unet_train.doctor.words import share
from unet_train.inference.predictor import Predictor
from unet_train.scoring.accumulator import predictions
from unet_train.scoring.confusion import (
    confusion_matrix,
    foreground_of,
    scores_of_classes,
)
from unet_train.scoring.counts import PixelCounts, ThresholdCounts, false_area
from unet_train.scoring.logits import LOGIT_LIMIT, LogitCounts

# Below this IoU at its best threshold a network tells little.
_POOR = 0.3
_WRONG, _BESIDE = 0.1, 0.03
_NEARLY_BLACK = 0.05
_COLORS = {"background": (70, 110, 200), "foreground": (230, 60, 140)}


class Scores:
    """What was counted on whole photos.

    Of several classes these are of foreground, whatever its class.

    Attributes:
      threshold: Of the predictor.
      matrix: Of several classes, pixels by true and predicted label; else None.
      images: The counts at that threshold, photo by photo.
      curve: The counts at many thresholds, all photos together.
      logits: The counts by logit, and of what is no number; the others leave it out.
    """

    def __init__(self, threshold: float, class_names: Sequence[str] = ()) -> None:
        self.threshold = threshold
        self.class_names = class_names
        labels = len(class_names) + 1
        self.matrix = np.zeros((labels, labels), np.int64) if labels > 2 else None
        self.images: list[PixelCounts] = []
        self.curve = ThresholdCounts()
        self.logits = LogitCounts()

    def add(
        self, mask: npt.NDArray[np.uint8], probabilities: npt.NDArray[np.float32]
    ) -> None:
        """Counts one photo: labels [H, W], and what the predictor gives for it."""
        found = None
        if self.matrix is not None:
            labels = decide(probabilities, self.threshold)
            is_known = np.isfinite(probabilities[..., 0])
            known = np.where(is_known, mask, np.uint8(IGNORE))
            self.matrix += confusion_matrix(known, labels, len(self.matrix))
            mask, found = as_foreground(mask), labels != 0
            probabilities = foreground_of(probabilities)
        self.logits.add(mask, probabilities)
        is_number = np.isfinite(probabilities)
        mask = np.where(is_number, mask, np.uint8(IGNORE))
        probabilities = np.where(is_number, probabilities, np.float32(0))
        counts = PixelCounts()
        counts.add(mask, probabilities >= self.threshold if found is None else found)
        self.images.append(counts)
        self.curve.add(mask, probabilities)

    @property
    def counts(self) -> PixelCounts:
        """At the predictor's threshold, all photos together."""
        total = PixelCounts()
        for image in self.images:
            total.merge(image)
        return total

    @property
    def found(self) -> float:
        """Share of the pixels that are foreground at the predictor's threshold."""
        counts = self.counts
        positives = counts.true_positives + counts.false_positives
        return positives / max(counts.pixels, 1)

    @property
    def best(self) -> tuple[float, float]:
        """The threshold of the greatest IoU, and that IoU."""
        threshold = self.curve.best_threshold()
        place = int(np.searchsorted(self.curve.thresholds, threshold))
        return threshold, float(self.curve.iou[place])

    def __str__(self) -> str:
        """How good the masks are, a clause: IoU, and what is painted for nothing."""
        count = len(self.images)
        text = f"IoU {self.counts.iou:.2f} on {count} validation images"
        if self.matrix is not None:
            scores = scores_of_classes(self.matrix, self.class_names, {})
            text = f"mean IoU of the classes {scores['mean_iou']:.2f}, {text}"
        rows = [dataclasses.astuple(image) for image in self.images]
        table = np.array(rows, np.int64).reshape(-1, 4)
        blank = int(np.count_nonzero(table[:, 0] + table[:, 2] == 0))
        if not blank:
            return text
        return (
            f"{text}, and {share(false_area(table))} of the area of the {blank} without"
            " foreground is painted"
        )


def score(
    predictor: Predictor, examples: Iterable[Example], pace: Pace | None = None
) -> Scores:
    """Predicts whole photos at their own resolution, and counts.

    Args:
      predictor: What to score.
      examples: Photos with labels.
      pace: Told after each.
    """
    scores = Scores(predictor.threshold, predictor.class_names)
    found = predictions([predictor], examples)
    for number, (example, prediction) in enumerate(found, 1):
        scores.add(example.mask[..., 0], prediction)
        if pace is not None:
            pace(number)
    return scores


def check_logits(scores: Scores, *, training_iou: float) -> Finding:
    """Whether the network tells foreground from background at any threshold.

    Args:
      scores: On validation photos.
      training_iou: On training tiles.
    """
    if scores.logits.not_finite:
        return Finding(
            "logits",
            "fault",
            f"{scores.logits.not_finite:,} pixels are predicted as not a number",
            "Go back to an earlier checkpoint and resume with a lower"
            " --task.learning_rate.",
        )
    background, foreground = scores.logits.medians
    _, best = scores.best
    text = (
        f"median {background:.1f} on background, {foreground:.1f} on foreground; the"
        f" best IoU at any threshold is {best:.2f}"
    )
    if best >= _POOR:
        return Finding("logits", "ok", text)
    black = "the masks are black and " if scores.found == 0 else ""
    if training_iou > best + _POOR:
        return Finding(
            "logits",
            "fault",
            f"{black}the network knows the training images by heart (IoU"
            f" {training_iou:.2f} on their tiles) and has learned nothing general:"
            f" {text}",
            "Train on more images, or with more augmentation (--data.scale_jitter 0.3"
            " --data.color_jitter 0.3).",
        )
    return Finding(
        "logits",
        "fault",
        f"{black}the network does not tell foreground from background yet (IoU"
        f" {training_iou:.2f} on training tiles): {text}",
        "Train longer, at a --task.learning_rate that `unet-train find-lr` proposes;"
        " where foreground is rare, with --task.loss bce_dice.",
    )


def check_classes_found(scores: Scores) -> Finding:
    """Whether every one of several classes that is there is found, and which is not."""
    assert scores.matrix is not None
    of_each = scores_of_classes(scores.matrix, scores.class_names, {})
    text = ", ".join(
        f"{name} {of_each[f'iou/{name}']:.2f}"
        for name in scores.class_names
        if f"iou/{name}" in of_each
    )
    true, found = scores.matrix.sum(1)[1:], scores.matrix.sum(0)[1:]
    never = [
        name
        for name, truth, guesses in zip(scores.class_names, true, found, strict=True)
        if truth and not guesses
    ]
    if not never:
        return Finding("classes", "ok", f"IoU of each class: {text}")
    return Finding(
        "classes",
        "fault" if len(never) == np.count_nonzero(true) else "warning",
        f"{', '.join(never)} never predicted, though there are pixels of it; IoU of"
        f" each class: {text}",
        "Train longer, with --task.loss ce_dice, in which a rare class counts as much"
        " as the others, or with class_weights; --data.foreground_share shows more of"
        " it.",
    )


def check_threshold(scores: Scores, run_dir: str | os.PathLike[str]) -> Finding:
    """Whether another threshold would give much better masks.

    ```python
    from unet_train.doctor import check_threshold
    from unet_train.doctor.scores import score

    predictor, data = Predictor.load("runs/cats"), SegmentationData(data_dir="OUT")
    scores = score(predictor, data.examples("validation"))
    print(check_threshold(scores, "runs/cats").text)
    ```

    Args:
      scores: On validation photos.
      run_dir: The run, to name in the cure.
    """
    threshold, best = scores.best
    counts = scores.counts
    text = (
        f"{scores.threshold:g} marks {share(scores.found)} of the pixels with IoU"
        f" {counts.iou:.2f}; the best, {threshold:.2f}, gives {best:.2f}"
    )
    loss = best - counts.iou
    if best < _POOR or loss <= _BESIDE:
        return Finding("threshold", "ok", text)
    cure = (
        f"Predict with `unet-train predict --run_dir {run_dir} --threshold"
        f" {threshold:.2f}`, and train with --task.threshold left out, so that it is"
        " chosen on held-out images."
    )
    if loss <= _WRONG:
        return Finding("threshold", "warning", text, cure)
    kind = "low: too much is found"
    if scores.threshold > threshold:
        is_black = counts.recall < _NEARLY_BLACK
        kind = f"high: {'masks are black' if is_black else 'too little is found'}"
    return Finding("threshold", "fault", f"the threshold is too {kind}, {text}", cure)


def draw_histogram(scores: Scores) -> npt.NDArray[np.uint8]:
    """Pixels by their logit, background above foreground, each to its own scale.

    Returns:
      uint8 [360, 800, 3], with the threshold as a line.
    """
    left, width, top, height = 16, 768, 32, 136
    picture = PIL.Image.new("RGB", (800, 360), "white")
    draw = PIL.ImageDraw.Draw(picture)
    histogram = scores.logits.histogram
    tallest = np.maximum(histogram.max(1, keepdims=True), 1)
    heights = histogram / tallest * (height - 20)
    step = width / heights.shape[1]
    line = np.log(scores.threshold) - np.log1p(-scores.threshold)
    place = (
        left
        + (np.clip(line, -LOGIT_LIMIT, LOGIT_LIMIT) + LOGIT_LIMIT)
        / (2 * LOGIT_LIMIT)
        * width
    )
    for row, (name, color) in enumerate(_COLORS.items()):
        floor = top + (row + 1) * height
        total = int(histogram[row].sum())
        draw.text((left, floor - height), f"{name}: {total:,} pixels", fill=color)
        for index, bar in enumerate(heights[row]):
            x = left + index * step
            if bar:
                draw.rectangle([x, floor - bar, x + step - 1, floor], fill=color)
        draw.line([left, floor, left + width, floor], fill="black")
    bottom = top + 2 * height
    draw.line([place, top, place, bottom], fill="black", width=2)
    title = f"pixels by logit; the line is the threshold {scores.threshold:g}"
    draw.text((left, 10), title, fill="black")
    for logit in range(-16, 17, 4):
        x = left + (logit + LOGIT_LIMIT) / (2 * LOGIT_LIMIT) * width
        draw.line([x, bottom, x, bottom + 4], fill="black")
        draw.text((x - 8, bottom + 6), str(logit), fill="black")
    return np.asarray(picture)
