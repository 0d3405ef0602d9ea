"""Proves a built dataset against COCO's annotations, record by record.

Images are selected and masks are drawn once more, by pycocotools (`plainly`), and
compared image by image and pixel by pixel.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from coco_cats_tfds.annotations import Image
from coco_cats_tfds.built import BuiltDataset, BuiltExample
from coco_cats_tfds.choice import Choice
from coco_cats_tfds.errors import CocoDataError
from coco_cats_tfds.inputs import CocoInputs
from coco_cats_tfds.jpeg import check_jpeg
from coco_cats_tfds.masks import InstanceMap
from coco_cats_tfds.plainly import PlainCoco, PlainRecord
from coco_cats_tfds.sources import Source


@dataclasses.dataclass
class Verdict:
    """What was found in one split.

    ```python
    from coco_cats_tfds.verify import Verdict

    verdict = Verdict(masks=10, images=9, faults=["000000000009.jpg has other bytes"])
    print(verdict.masks, "masks are equal;", *verdict.faults)
    ```

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

    ```python
    from coco_cats_tfds.built import find_built
    from coco_cats_tfds.inputs import CocoFolder
    from coco_cats_tfds.verify import verify_split

    (dataset,) = find_built("OUT", "cats")
    verdict = verify_split(dataset, "train", CocoFolder("COCO"), "train2017")
    assert not verdict.faults
    ```

    Args:
      built: The dataset.
      split: Its split, e.g. "train".
      coco: Where the annotations and images are.
      coco_split: COCO's name of the split, e.g. "train2017".

    Raises:
      CocoDataError: The annotations cannot be read.
    """
    verdict = Verdict()
    plain = PlainCoco(coco.instances(coco_split))
    expected = plain.select(built.choice, coco_split)
    for omitted, _ in built.counts[split].invalid:
        if omitted is not None:
            expected.pop(omitted, None)
    if built.class_names != built.choice.class_names:
        verdict.faults.append(
            f"the labels are named {list(built.class_names)}, not"
            f" {list(built.choice.class_names)}"
        )
    source = coco.source(coco_split, map(_image, expected.values()))
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
            _compare(example, expected[image_id], source, built.choice, plain, verdict)
        seen.add(image_id)
    for image_id in sorted(expected.keys() - seen):
        verdict.faults.append(f"image {image_id} is missing")
    return verdict


def _image(record: PlainRecord) -> Image:
    fields = record.image
    return Image(
        id=int(fields["id"]),
        file_name=fields["file_name"],
        height=int(fields["height"]),
        width=int(fields["width"]),
    )


def _compare(
    example: BuiltExample,
    record: PlainRecord,
    source: Source,
    choice: Choice,
    plain: PlainCoco,
    verdict: Verdict,
) -> None:
    image = _image(record)
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
    license, url = None, None
    if choice.attribution:
        license = record.image.get("license") or 0
        url = record.image.get("flickr_url") or ""
    for what, there, wanted in (
        ("licence", example.license, license),
        ("address", example.flickr_url, url),
    ):
        if there != wanted:
            verdict.faults.append(f"the {what} of {name} is {there!r}, not {wanted!r}")
    try:
        expected = plain.draw(record, choice)
        numbers = plain.number(record) if choice.instances else None
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
    elif _differ(example.instances, numbers):
        verdict.faults.append(f"the map of instances of {name} differs")
    else:
        verdict.masks += 1


def _differ(found: InstanceMap | None, expected: InstanceMap | None) -> bool:
    if found is None or expected is None:
        return found is not expected
    return not np.array_equal(found, expected)
