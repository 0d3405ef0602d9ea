"""From a selected image to one example of the dataset, on one thread or several.

```python
for outcome in make_examples(records, source, Choice(), workers=2):
    if outcome.example is not None:
        print(outcome.example["image/id"], outcome.counts.foreground)
```

Reading, decoding and PNG coding, which are most of the work, let go of Python's lock,
so threads use several cores.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import io
import itertools
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import PIL.Image

from coco_cats_tfds.annotations import Image, ImageRecord
from coco_cats_tfds.choice import Choice
from coco_cats_tfds.counts import ClassCounts, Counts
from coco_cats_tfds.errors import CocoDataError
from coco_cats_tfds.jpeg import check_jpeg
from coco_cats_tfds.masks import IGNORE, Drawing, InstanceMap, Mask, draw_mask
from coco_cats_tfds.sources import Source

# Examples that each worker may be ahead of the writer.
_AHEAD = 4


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one image.

    Attributes:
      example: By feature name: the JPEG's bytes, the mask as PNG, id and file name, and
        what the choice asks for besides; None if the image was left out.
      counts: Of this image alone.
    """

    example: dict[str, Any] | None
    counts: Counts


def make_example(record: ImageRecord, source: Source, choice: Choice) -> Outcome:
    """Reads, checks and draws one image.

    Args:
      record: The image and its annotations.
      source: Where its bytes are.
      choice: How to draw, and what to do if the record cannot be used.

    Raises:
      CocoDataError: The record cannot be used, and `choice.on_invalid` is "stop".
    """
    image = record.image
    try:
        jpeg = source.read(image)
        turned = check_jpeg(jpeg, image, origin=source.locate(image))
        if turned and choice.orientation == "refuse" and not image.is_cocos:
            raise CocoDataError(
                f"Image {image.id}, {source.locate(image)}, has an EXIF orientation, by"
                " which viewers turn or mirror it, and its outlines may have been drawn"
                " on either picture. If it was turned then, save it turned, without"
                " that tag. If they are of the stored pixels, build with"
                ' `"orientation": "stored"`.'
            )
        drawing = draw_mask(
            record.annotations,
            height=image.height,
            width=image.width,
            labels=record.labels,
            crowd=choice.crowd,
            ignored=record.ignored,
            with_instances=choice.instances,
        )
        attribution = _attribution(image) if choice.attribution else {}
    except CocoDataError as error:
        if choice.on_invalid == "stop":
            raise
        return Outcome(None, Counts(invalid=[(image.id, str(error))]))
    counts = _count(record, drawing, choice)
    counts.turned = [image.id] if turned else []
    example = {
        "image": jpeg,
        "segmentation_mask": encode_png(drawing.mask),
        "image/id": image.id,
        "image/filename": image.file_name,
        **attribution,
    }
    if drawing.instances is not None:
        example["instance_map"] = encode_png(drawing.instances)
    return Outcome(example, counts)


def _attribution(image: Image) -> dict[str, Any]:
    """Licence and address, 0 and "" where the file has none."""
    license, url = image.license, image.flickr_url
    is_number = type(license) is int and license.bit_length() < 64
    for is_right, name, value in (
        (license is None or is_number, "license", license),
        (url is None or isinstance(url, str), "flickr_url", url),
    ):
        if not is_right:
            raise CocoDataError(
                f"Image {image.id} has a {name} that cannot be recorded, {value!r}."
                " Correct it in the instances file, or build without `attribution`."
            )
    return {"image/license": license or 0, "image/flickr_url": url or ""}


def _count(record: ImageRecord, drawing: Drawing, choice: Choice) -> Counts:
    ignored = np.count_nonzero(drawing.mask == IGNORE)
    crowds = sum(each.iscrowd for each in record.annotations)
    counts = Counts(
        images=1,
        negatives=not (record.annotations or record.ignored),
        instances=len(record.annotations) - crowds,
        crowds=crowds,
        too_small=len(record.ignored),
        pixels=drawing.mask.size,
        foreground=int(np.count_nonzero(drawing.mask) - ignored),
        ignored=int(ignored),
        unseen=list(drawing.unseen),
    )
    for label, name in enumerate(choice.class_names, start=1):
        shown = [
            each
            for each in record.annotations
            if record.labels[each.category_id] == label
        ]
        crowds = sum(each.iscrowd for each in shown)
        counts.classes[name] = ClassCounts(
            images=bool(shown),
            instances=len(shown) - crowds,
            crowds=crowds,
            pixels=int(np.count_nonzero(drawing.mask == label)),
        )
    return counts


def make_examples(
    records: Iterable[ImageRecord], source: Source, choice: Choice, *, workers: int = 0
) -> Iterator[Outcome]:
    """`make_example` of every record, in their order.

    Args:
      records: The images.
      source: Where their bytes are.
      choice: As for `make_example`.
      workers: Threads; 0 takes one a core. The result does not depend on it.
    """
    workers = workers or os.cpu_count() or 1
    if workers == 1:
        for record in records:
            yield make_example(record, source, choice)
        return
    todo = iter(records)
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:

        def submit(record: ImageRecord) -> concurrent.futures.Future[Outcome]:
            return pool.submit(make_example, record, source, choice)

        ahead = itertools.islice(todo, _AHEAD * workers)
        pending = collections.deque(map(submit, ahead))
        try:
            while pending:
                yield pending.popleft().result()
                pending.extend(map(submit, itertools.islice(todo, 1)))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def encode_png(mask: Mask | InstanceMap) -> bytes:
    """A mask [height, width, 1] as a greyscale PNG, whose values are the mask's."""
    stream = io.BytesIO()
    PIL.Image.fromarray(mask[..., 0]).save(stream, "PNG")
    return stream.getvalue()
