"""Are the data there, and do the masks say what the options take them to say?

Looks at the masks' own values, before options turn them into labels: a mask of 0 and
255 reads as "background and ignored" by default, and every prediction is black.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from unet_train.data.dataset import Example, MaskDataset
from unet_train.data.labels import (
    IGNORE,
    STRANGE,
    as_foreground,
    is_foreground,
    label_table,
)
from unet_train.doctor.alignment import boundary_map
from unet_train.doctor.finding import Finding
from unet_train.doctor.words import share
from unet_train.options import DataOptions

# Photos to draw; so many even if they show no outline.
_DRAWN, _DRAWN_BLANK = 12, 4
# Below this share of foreground a loss that counts every pixel alike hardly sees it.
_RARE = 0.01
# More values than any mask has labels: a picture that was compressed with loss.
_MANY_VALUES = 16


@dataclasses.dataclass
class Survey:
    """What was seen of a dataset.

    ```python
    from unet_train.doctor import Survey, look_at

    data = SegmentationData(data_dir="OUT")
    survey = look_at(data.datasets["coco_cats"], images=2)
    assert isinstance(survey, Survey)
    print(survey.values.sum(axis=0)[[0, 1, 255]])  # Pixels of each value.
    ```

    Attributes:
      options: What the values are taken to mean.
      values: int64 [images, 256], pixels of each value in each mask.
      boundary_maps: float32 [65, 65] each, of the images that have an outline.
      examples: The first, most of them with an outline, with labels, to be drawn.
      unlike: Sizes of the first image and mask that differ in size.
      unreadable: Why the reading ended early.
    """

    options: DataOptions
    values: npt.NDArray[np.int64]
    boundary_maps: list[npt.NDArray[np.float32]]
    examples: list[Example]
    unlike: str = ""
    unreadable: str = ""

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Pixels of background, foreground, ignored and of no meaning, [images, 4]."""
        table = label_table(self.options)
        found = is_foreground(table) & (table != STRANGE)
        kinds = (table == 0, found, table == IGNORE, table == STRANGE)
        return np.stack([self.values[:, kind].sum(1) for kind in kinds], 1)

    @property
    def classes(self) -> npt.NDArray[np.int64]:
        """Pixels of each class, [images, classes]."""
        found = self.options.classes.values()
        return np.stack([self.values[:, values].sum(1) for values in found], 1)


def look_at(data: MaskDataset, images: int) -> Survey:
    """Reads the first images of both splits, every pixel of them.

    ```python
    from unet_train.doctor import check_values, look_at

    data = SegmentationData(data_dir="OUT")
    survey = look_at(data.datasets["coco_cats"], images=2)
    print(check_values(survey))
    ```

    Args:
      data: What to look at, one of `SegmentationData.datasets`.
      images: How many of each split.

    Raises:
      ValueError: There is no such split.
    """
    table = label_table(data.options)
    counts: list[npt.NDArray[np.int64]] = []
    survey = Survey(data.options, np.zeros((0, 256), np.int64), [], [])
    for split in (data.options.train_split, data.options.eval_split):
        before, count = len(counts), data.count(split)
        try:
            for example in data.raw_examples(split, min(images, count)):
                counts.append(np.bincount(example.mask.ravel(), minlength=256))
                _add(survey, Example(example.image, table[example.mask]))
        except tf.errors.OpError as error:
            reason = error.message.splitlines()[0]
            survey.unreadable = (
                f"record {len(counts) - before + 1} of the split {split!r} cannot be"
                f" read ({reason})"
            )
        except ValueError as error:  # No images, or labels that no option can name.
            survey.unreadable = str(error).rstrip(".")
    if not survey.unreadable:
        try:
            data.check_instances()
        except ValueError as error:
            survey.unreadable = str(error).rstrip(".")
    survey.values = np.stack(counts) if counts else survey.values
    return survey


def check_values(survey: Survey, *, may_be_empty: bool = False) -> list[Finding]:
    """Whether images can be read, and what values the masks have.

    ```python
    from unet_train.doctor import check_values, look_at

    survey = look_at(SegmentationData(data_dir="OUT").datasets["coco_cats"], images=2)
    assert all(finding.verdict == "ok" for finding in check_values(survey))
    ```

    Args:
      survey: Of a dataset.
      may_be_empty: Whether it may lack foreground, as others have it.
    """
    if survey.unreadable:
        cure = "Build the dataset again, or correct the split."
        return [Finding("data", "fault", survey.unreadable, cure)]
    if survey.unlike:
        cure = "Build the dataset with masks as large as their images."
        return [Finding("data", "fault", survey.unlike, cure)]
    count = len(survey.values)
    findings = [Finding("data", "ok", f"{count} images and masks were read")]
    options, pixels = survey.options, survey.values.sum(0)
    present = np.flatnonzero(pixels).tolist()
    seen = ", ".join(
        f"{value} ({share(pixels[value] / pixels.sum())})" for value in present[:6]
    ) + (f" and {len(present) - 6} more" if len(present) > 6 else "")
    strange = int(survey.labels[:, 3].sum())
    fault = ""
    if strange and len(present) > _MANY_VALUES:
        fault = (
            f"the masks have {len(present)} different values, as pictures have that"
            " were compressed with loss or resized smoothly"
        )
        cure = "Store masks as PNG with one value for each label."
    elif strange or not (survey.labels[:, 1].any() or may_be_empty):
        fault, cure = _misread(present, options)
    if fault:
        findings.append(Finding("mask values", "fault", f"{fault}: {seen}", cure))
    else:
        findings.append(
            Finding("mask values", "ok", f"the masks have the values {seen}")
        )
    return findings


def check_all_values(names: Iterable[str], surveys: Sequence[Survey]) -> list[Finding]:
    """`check_values` of several datasets, each called by its name.

    All but the first may lack foreground: they may be photos with nothing to find.
    """
    first, *further = surveys
    if not further:
        return check_values(first)
    findings = []
    for name, survey in zip(names, surveys, strict=True):
        for found in check_values(survey, may_be_empty=survey is not first):
            cure = found.cure
            if survey is not first and "--data." in cure:
                cure += f" (For {name} in its entry of --data.also.)"
            text = f"in {name} {found.text}"
            findings.append(dataclasses.replace(found, text=text, cure=cure))
    return findings


def _misread(present: list[int], options: DataOptions) -> tuple[str, str]:
    """What masks with these values are, whose foreground the options do not find."""
    named = (
        f"foreground is {options.labels or options.foreground}, background"
        f" {options.background}, ignored {options.ignored}"
    )
    found = {value for values in options.classes.values() for value in values}
    known = {*found, *options.background, *options.ignored}
    strange = [value for value in present if value not in known]
    objects = strange or [value for value in present if value in options.ignored]
    if not objects:
        return (
            f"all masks are empty where {named}",
            "Build the dataset with the categories that you look for, or look at more"
            " images (--images).",
        )
    if len(objects) == 1 and not set(present) & found:
        kind = " and ".join(map(str, sorted({*options.background, *objects})))
        ignored = [each for each in options.ignored if each not in objects]
        if options.labels is not None and len(options.labels) > 1:
            return (
                f"the masks are of {kind}, so that they tell one class, but {named}",
                f'Leave --data.labels out and set --data.foreground "{objects}"'
                f' --data.ignored "{ignored}", or build the dataset with a label for'
                " each class.",
            )
        return (
            f"the masks are of {kind}, but {named}",
            f'Set --data.foreground "{objects}" --data.ignored "{ignored}".',
        )
    return (
        f"the values {objects} of the masks are not named, or nothing is foreground:"
        f" {named}",
        f"Name every value with --data.{'labels' if options.labels else 'foreground'},"
        " --data.background and --data.ignored.",
    )


def check_foreground(*surveys: Survey) -> Finding:
    """How much there is to find, in how many images of all datasets.

    ```python
    from unet_train.doctor import check_foreground, look_at

    survey = look_at(SegmentationData(data_dir="OUT").datasets["coco_cats"], images=2)
    print(check_foreground(survey).text)
    ```
    """
    labels = np.concatenate([survey.labels for survey in surveys])
    labelled = labels[:, :2].sum(1)
    part = labels[:, 1].sum() / max(labelled.sum(), 1)
    without = int((labels[:, 1] == 0).sum())
    empty = int((labelled == 0).sum())
    text = (
        f"{share(part)} of the labelled pixels are foreground; {without} of"
        f" {len(labels)} images have none"
    )
    if empty:
        return Finding(
            "foreground",
            "warning",
            f"{text}, and {empty} have nothing but ignored pixels",
            "Leave out images without labels.",
        )
    if part < _RARE:
        return Finding(
            "foreground",
            "warning",
            f"{text}: so little that the cheapest prediction is black",
            "Train with --task.loss bce_dice, or with fewer images without foreground.",
        )
    if part > 0.9:
        return Finding(
            "foreground",
            "warning",
            f"{text}: so much that the masks may be inverted",
            "Look at alignment.png; swap --data.foreground and --data.background.",
        )
    return Finding("foreground", "ok", text)


def check_classes(*surveys: Survey) -> Finding:
    """Of several classes, how much there is of each, in how many images."""
    names = list(surveys[0].options.classes)
    pixels = np.concatenate([survey.classes for survey in surveys])
    labelled = np.concatenate([survey.labels for survey in surveys])[:, :2].sum()
    told = ", ".join(
        f"{name} {share(pixels[:, n].sum() / max(labelled, 1))} in"
        f" {np.count_nonzero(pixels[:, n])}"
        for n, name in enumerate(names)
    )
    text = f"of the labelled pixels, and of {len(pixels)} images: {told}"
    absent = [name for n, name in enumerate(names) if not pixels[:, n].any()]
    if absent:
        return Finding(
            "classes",
            "warning",
            f"{', '.join(absent)} in none of the images; {text}",
            "Look at more images (--images); else correct --data.labels, or leave that"
            " class out: it cannot be learned.",
        )
    return Finding("classes", "ok", text)


def _add(survey: Survey, example: Example) -> None:
    if example.image.shape[:2] != example.mask.shape[:2]:
        image, mask = (part.shape[:2] for part in (example.image, example.mask))
        survey.unlike = survey.unlike or (
            f"an image of {image[0]} x {image[1]} pixels has a mask of"
            f" {mask[0]} x {mask[1]}"
        )
        return
    labels = np.where(example.mask == STRANGE, np.uint8(0), example.mask)
    found = boundary_map(example.image, as_foreground(labels[..., 0]))
    if found is not None:
        survey.boundary_maps.append(found)
    if len(survey.examples) < (_DRAWN_BLANK if found is None else _DRAWN):
        survey.examples.append(example)
