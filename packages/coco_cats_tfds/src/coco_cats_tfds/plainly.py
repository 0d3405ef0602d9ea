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
from coco_cats_tfds.masks import Mask


@dataclasses.dataclass(frozen=True)
class PlainRecord:
    """An image and its annotations, as the instances file has them.

    Attributes:
      image: The entry of `images`.
      annotations: To be drawn.
      ignored: To be drawn as ignored pixels.
    """

    image: dict[str, Any]
    annotations: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    ignored: list[dict[str, Any]] = dataclasses.field(default_factory=list)


class PlainCoco:
    """pycocotools' own view of one instances file."""

    def __init__(self, instances: dict[str, Any]) -> None:
        """Takes the decoded file."""
        self._coco = COCO()
        self._coco.dataset = instances
        with contextlib.redirect_stdout(io.StringIO()):  # It tells of its progress.
            self._coco.createIndex()

    def select(self, choice: Choice) -> dict[int, PlainRecord]:
        """The images that a choice takes, by id."""
        coco, wanted = self._coco, self._category_ids(choice.categories)
        images = {
            id: image
            for id, image in coco.imgs.items()
            if not choice.licenses or image.get("license") in choice.licenses
        }
        showing = self._images_with(wanted)
        positives = {}
        for id in sorted(showing & images.keys()):
            record = self._record(images[id], wanted, choice)
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
        """The mask that an image should have, the slow way.

        Returns:
          uint8 [height, width, 1].
        """
        size = int(record.image["height"]), int(record.image["width"])
        mask = np.zeros(size, np.uint8)
        crowds = {"ignore": 255, "foreground": 1, "background": None}[choice.crowd]
        for some, value, is_crowd in (
            (record.ignored, 255, False),
            (record.annotations, crowds, True),
            (record.annotations, 1, False),
        ):
            for each in some:
                if bool(each.get("iscrowd")) == is_crowd and value is not None:
                    mask[self._coco.annToMask(each) == 1] = value
        return mask[..., np.newaxis]

    def _record(
        self, image: dict[str, Any], wanted: set[int], choice: Choice
    ) -> PlainRecord:
        record = PlainRecord(image)
        for each in self._coco.imgToAnns[image["id"]]:
            if each["category_id"] in wanted:
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
