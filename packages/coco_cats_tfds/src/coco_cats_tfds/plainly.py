"""What a dataset should hold, once more: by pycocotools and the rules as they are told.

Nothing of it is shared with the build, so that `verify` finds a fault of the build's
index, selection or drawing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
from typing import Any

import numpy as np
from pycocotools.coco import COCO

from coco_cats_tfds.choice import Choice
from coco_cats_tfds.masks import InstanceMap, Mask


@dataclasses.dataclass(frozen=True)
class PlainRecord:
    """An image and its annotations, as the instances file has them.

    Attributes:
      image: The entry of `images`.
      annotations: To be drawn.
      ignored: To be drawn as ignored pixels.
      labels: What to draw a category with, by its id.
    """

    image: dict[str, Any]
    annotations: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    ignored: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    labels: dict[int, int] = dataclasses.field(default_factory=dict)


class PlainCoco:
    """pycocotools' own view of one instances file."""

    def __init__(self, instances: dict[str, Any]) -> None:
        """Takes the decoded file."""
        self._coco = COCO()
        self._coco.dataset = instances
        with contextlib.redirect_stdout(io.StringIO()):  # It tells of its progress.
            self._coco.createIndex()

    def select(self, choice: Choice, split: str) -> dict[int, PlainRecord]:
        """The images that a choice takes for COCO's split of this name, by id."""
        coco = self._coco
        labels = {
            id: label
            for label, names in enumerate(choice.classes.values(), start=1)
            for id in self._category_ids(names)
        }
        licenses = [
            each["id"]
            for each in coco.dataset.get("licenses") or []
            if each["id"] in choice.licenses or each.get("name") in choice.licenses
        ]
        images = {
            id: image
            for id, image in coco.imgs.items()
            if (not choice.licenses or image.get("license") in licenses)
            and _is_of(split, image["file_name"], choice.validation)
        }
        showing = self._images_with(set(labels))
        positives = {}
        for id in sorted(showing & images.keys()):
            record = self._record(images[id], labels, choice)
            singles = [each for each in record.annotations if not each.get("iscrowd")]
            if singles or (record.annotations and choice.crowd != "background"):
                positives[id] = record
        count = round(len(positives) * choice.negatives)
        like = self._images_with(self._category_ids(choice.negatives_like))
        others = images.keys() - showing - self._doubtful()
        order = sorted(others, key=lambda id: (id not in like, _hash(id), id))[:count]
        total = len(positives) + len(order)
        if choice.limit and total > choice.limit:
            some = choice.limit * len(order) // total
            positives = dict(list(positives.items())[: choice.limit - some])
            order = order[:some]
        return positives | {id: PlainRecord(images[id]) for id in order}

    def draw(self, record: PlainRecord, choice: Choice) -> Mask:
        """The mask that an image should have, the slow way: smaller ones last.

        Returns:
          uint8 [height, width, 1].
        """
        size = int(record.image["height"]), int(record.image["width"])
        mask = np.zeros(size, np.uint8)
        for each in record.ignored:
            mask[self._coco.annToMask(each) == 1] = 255
        for is_crowd in (True, False):
            drawn = [
                (self._coco.annToMask(each) == 1, record.labels[each["category_id"]])
                for each in record.annotations
                if bool(each.get("iscrowd")) == is_crowd
            ]
            for where, label in sorted(drawn, key=lambda each: -each[0].sum()):
                if not is_crowd or choice.crowd == "foreground":
                    mask[where] = label
                elif choice.crowd == "ignore":
                    mask[where] = 255
        return mask[..., np.newaxis]

    def number(self, record: PlainRecord) -> InstanceMap:
        """The map of instances that an image should have: smaller ones last.

        Returns:
          uint16 [height, width, 1].
        """
        size = int(record.image["height"]), int(record.image["width"])
        numbers = np.zeros(size, np.uint16)
        singles = [each for each in record.annotations if not each.get("iscrowd")]
        areas = [self._coco.annToMask(each) == 1 for each in singles]
        for index in sorted(range(len(areas)), key=lambda index: -areas[index].sum()):
            numbers[areas[index]] = index + 1
        return numbers[..., np.newaxis]

    def _record(
        self, image: dict[str, Any], labels: dict[int, int], choice: Choice
    ) -> PlainRecord:
        record = PlainRecord(image, labels=labels)
        for each in self._coco.imgToAnns[image["id"]]:
            if each["category_id"] in labels:
                fits = each.get("iscrowd") or self._area(each) >= choice.min_area
                (record.annotations if fits else record.ignored).append(each)
        return record

    def _area(self, annotation: dict[str, Any]) -> float:
        if annotation.get("area") is not None:
            return float(annotation["area"])
        try:
            return float(self._coco.annToMask(annotation).sum())
        except Exception:  # Whatever an unchecked segmentation leads to.
            return float("inf")

    def _category_ids(self, names: Any) -> set[int]:
        coco = self._coco
        by_name = [
            coco.getCatIds([name]) or coco.getCatIds([], [name]) for name in names
        ]
        return {id for ids in by_name for id in ids}

    def _images_with(self, categories: set[int]) -> set[int]:
        return {id for each in categories for id in self._coco.getImgIds([], [each])}

    def _doubtful(self) -> set[int]:
        """Images with annotations of unlisted categories may show anything."""
        return {
            each["image_id"]
            for each in self._coco.dataset["annotations"]
            if each["category_id"] not in self._coco.cats
        }


def _hash(image_id: int) -> bytes:
    text = str(int(image_id)).encode()
    return hashlib.blake2b(text, digest_size=8).digest()


def _is_of(split: str, file_name: str, validation: float) -> bool:
    """Whether an image of a folder is of one of its parts, if it is divided."""
    if not validation:
        return True
    name = file_name.rsplit("/", 1)[-1]
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    return (int(digest[:12], 16) < validation * 16**12) == (split == "val2017")
