"""Proves a built dataset against COCO's annotations, record by record.

Masks are drawn once more, by pycocotools alone and without our checks, and compared
pixel by pixel.
"""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import tensorflow as tf
from pycocotools import mask as coco_mask

from coco_cats_tfds.annotations import Annotation, ImageRecord
from coco_cats_tfds.built import BuiltDataset, BuiltExample
from coco_cats_tfds.choice import Choice
from coco_cats_tfds.errors import CocoDataError
from coco_cats_tfds.inputs import CocoInputs
from coco_cats_tfds.jpeg import check_jpeg
from coco_cats_tfds.masks import Mask
from coco_cats_tfds.selection import select
from coco_cats_tfds.sources import Source


@dataclasses.dataclass
class Verdict:
    """What was found in one split.

    Attributes:
      masks: Compared and equal.
      images: Compared with their files and equal, byte for byte.
      faults: Everything else.
    """

    masks: int = 0
    images: int = 0
    faults: list[str] = dataclasses.field(default_factory=list)


def verify_split(
    built: BuiltDataset, split: str, coco: CocoInputs, coco_split: str
) -> Verdict:
    """Compares every record of a split with the annotations, and with its image file.

    Args:
      built: The dataset.
      split: Its split, e.g. "train".
      coco: Where the annotations and images are.
      coco_split: COCO's name of the split, e.g. "train2017".

    Raises:
      CocoDataError: The annotations cannot be read.
    """
    verdict = Verdict()
    selection = select(coco.index(coco_split), built.choice)
    omitted = {image for image, _ in built.counts[split].invalid}
    expected = {
        record.image.id: record
        for record in selection.records
        if record.image.id not in omitted
    }
    source = coco.source(coco_split, [each.image for each in expected.values()])
    seen = set()
    examples = built.examples(split)
    while True:
        try:
            example = next(examples, None)
        except (tf.errors.OpError, OSError) as error:
            verdict.faults.append(f"the records cannot be read further: {error}")
            break
        if example is None:
            break
        image_id = example.image_id
        if image_id in seen:
            verdict.faults.append(f"image {image_id} is there twice")
        elif image_id not in expected:
            verdict.faults.append(
                f"image {image_id} is there, but the annotations do not select it"
            )
        else:
            _compare(example, expected[image_id], source, built.choice, verdict)
        seen.add(image_id)
    for image_id in sorted(expected.keys() - seen):
        verdict.faults.append(f"image {image_id} is missing")
    return verdict


def _compare(
    example: BuiltExample,
    record: ImageRecord,
    source: Source,
    choice: Choice,
    verdict: Verdict,
) -> None:
    image = record.image
    name = f"image {image.id}"
    if example.filename != image.file_name:
        verdict.faults.append(
            f"{name} is named {example.filename!r}, not {image.file_name!r}"
        )
    try:
        check_jpeg(example.jpeg, image, origin="as it was built")
        if example.jpeg != source.read(image):
            raise CocoDataError(f"{name} is not the file {source.locate(image)}")
        verdict.images += 1
    except CocoDataError as error:
        verdict.faults.append(str(error))
    try:
        expected = draw_plainly(record, choice)
    except Exception as error:  # Whatever an unchecked segmentation leads to.
        verdict.faults.append(
            f"the annotations of {name} cannot be drawn ({error!r}): they are not those"
            " that it was built from"
        )
        return
    if example.mask.shape != expected.shape or example.mask.dtype != np.uint8:
        verdict.faults.append(
            f"the mask of {name} is {example.mask.dtype} {list(example.mask.shape)},"
            f" not uint8 {list(expected.shape)}"
        )
    elif wrong := np.count_nonzero(example.mask != expected):
        values = sorted({int(value) for value in np.unique(example.mask)})
        verdict.faults.append(
            f"the mask of {name} differs in {wrong:,} pixels; its values are {values}"
        )
    else:
        verdict.masks += 1


def draw_plainly(record: ImageRecord, choice: Choice) -> Mask:
    """The mask that a record should have, by the rules of `Choice`, the slow way.

    Returns:
      uint8 [height, width, 1].
    """
    height, width = record.image.height, record.image.width
    mask = np.zeros((height, width, 1), np.uint8)

    def paint(annotation: Annotation, value: int) -> None:
        segmentation = json.loads(bytes(annotation.segmentation))
        if isinstance(segmentation, dict) and isinstance(segmentation["counts"], str):
            encoded = segmentation
        elif isinstance(segmentation, dict):
            encoded = coco_mask.frPyObjects(segmentation, height, width)
        else:
            parts = coco_mask.frPyObjects(segmentation, height, width)
            encoded = coco_mask.merge(parts)
        mask[np.asarray(coco_mask.decode(encoded)) == 1] = value

    for annotation in record.ignored:
        paint(annotation, 255)
    crowd_value = {"ignore": 255, "foreground": 1, "background": None}[choice.crowd]
    for annotation in record.annotations:
        if annotation.iscrowd and crowd_value is not None:
            paint(annotation, crowd_value)
    for annotation in record.annotations:
        if not annotation.iscrowd:
            paint(annotation, 1)
    return mask
