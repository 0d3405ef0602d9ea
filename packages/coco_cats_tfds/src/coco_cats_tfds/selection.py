"""Which images of an instances file a dataset takes, and with which annotations.

```python
selection = select(index, Choice(categories=("cat",), negatives=1))
for record in selection.records:
    print(record.image.file_name, len(record.annotations))
```
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from coco_cats_tfds.annotations import (
    Annotation,
    Image,
    ImageRecord,
    InstancesIndex,
    License,
)
from coco_cats_tfds.choice import Choice
from coco_cats_tfds.counts import ClassCounts, Counts
from coco_cats_tfds.errors import CocoDataError
from coco_cats_tfds.masks import count_pixels


@dataclasses.dataclass(frozen=True)
class Selection:
    """What to build.

    Attributes:
      records: One an image, by ascending id.
      omitted: Counts of what was left out.
      licenses: What the numbers of licences stand for, if the choice records them.
    """

    records: list[ImageRecord]
    omitted: Counts
    licenses: Sequence[License] = ()


def select(index: InstancesIndex, choice: Choice) -> Selection:
    """Takes the images that show a category, and the negatives asked for.

    Args:
      index: The instances file.
      choice: What is wanted.

    Raises:
      CocoDataError: A category or a licence is unknown, or an annotation belongs to no
        image or has no category of the file, or an image has no licence where some are
        asked for (with `on_invalid` "omit" these are counted instead).
    """
    numbers = index.license_numbers(choice.licenses)
    labels = index.labels(choice.classes)
    like = index.category_ids(choice.negatives_like)
    counts = Counts(classes={name: ClassCounts() for name in choice.class_names})
    showing = index.by_image(labels)
    doubtful = set()
    for stray, fault in _strays(index, showing):
        doubtful.add(stray.image_id)
        if choice.on_invalid == "stop":
            raise CocoDataError(
                f"{index.origin}: {fault}. Complete the file or remove the annotation,"
                ' or build with `"on_invalid": "omit"`.'
            )
        counts.invalid.append((None, fault))

    images = _licensed(index, choice, numbers, showing, counts)
    records = []
    for image_id, shown in showing.items():
        if image_id not in images:
            continue  # Counted among the strays, or by its licence.
        record = _split_by_area(images[image_id], shown, choice, labels)
        if reason := _reason_to_leave_out(record, choice):
            counts.left_out[reason] += 1
        else:
            records.append(record)
    count = round(len(records) * choice.negatives)
    others = images.keys() - showing.keys()
    candidates = (images[image_id] for image_id in others - doubtful)
    negatives = _negatives(index, candidates, like, count)
    found = len(negatives)
    counts.negatives_lacking = count - found
    if choice.limit:
        records, negatives = _limited(records, negatives, choice.limit, counts)
    records += negatives
    if unasked := len(others) - found:
        counts.left_out["show none of the categories"] = unasked
    records.sort(key=lambda record: record.image.id)
    licenses = index.licenses() if choice.attribution else []
    return Selection([_detached(record) for record in records], counts, licenses)


def _strays(
    index: InstancesIndex, showing: Mapping[int, Sequence[Annotation]]
) -> Iterator[tuple[Annotation, str]]:
    """Annotations that may be of these categories and fit nowhere, with the fault."""
    known = {category.id for category in index.categories}
    # Most files have none, and a set is made faster than a loop is run.
    if unknown := {each.category_id for each in index.annotations} - known:
        for stray in index.annotations:
            if stray.category_id in unknown:
                yield (
                    stray,
                    f"annotation {stray.id} of image {stray.image_id} has the category"
                    f" id {stray.category_id}, which the file does not list",
                )
    for image_id in sorted(showing.keys() - index.images.keys()):
        for stray in showing[image_id]:
            yield (
                stray,
                f"annotation {stray.id} belongs to image {image_id}, which the file"
                " does not list",
            )


def _licensed(
    index: InstancesIndex,
    choice: Choice,
    numbers: Collection[int],
    showing: Collection[int],
    counts: Counts,
) -> dict[int, Image]:
    """The images with a licence that was asked for; counts the others."""
    if not choice.licenses:
        return index.images
    found = {}
    for image in index.images.values():
        is_wanted = image.id in showing or choice.negatives > 0
        if type(image.license) is int and image.license in numbers:
            found[image.id] = image
        elif type(image.license) is int or not is_wanted:
            counts.left_out["have none of the licences"] += 1
        else:
            fault = f"image {image.id} has no licence number, but {image.license!r}"
            if choice.on_invalid == "stop":
                raise CocoDataError(
                    f"{index.origin}: {fault}. Complete the file, build with"
                    ' `"on_invalid": "omit"`, or choose images of any licence'
                    " (`licenses` [])."
                )
            counts.invalid.append((image.id, fault))
    return found


def _split_by_area(
    image: Image,
    annotations: list[Annotation],
    choice: Choice,
    labels: Mapping[int, int],
) -> ImageRecord:
    """Instances under `min_area` are to be ignored; the rest is drawn."""
    if not choice.min_area:
        return ImageRecord(image, tuple(annotations), labels=labels)
    large: list[Annotation] = []
    small: list[Annotation] = []
    for annotation in annotations:
        fits = annotation.iscrowd or _area(annotation, image) >= choice.min_area
        (large if fits else small).append(annotation)
    return ImageRecord(image, tuple(large), tuple(small), labels)


def _area(annotation: Annotation, image: Image) -> float:
    if annotation.area is not None:
        return annotation.area
    try:
        return count_pixels(annotation, height=image.height, width=image.width)
    except CocoDataError:
        return float("inf")  # Kept, so that drawing it reports the fault.


def _reason_to_leave_out(record: ImageRecord, choice: Choice) -> str | None:
    if not record.annotations:
        return "show only instances under min_area"
    only_crowds = all(each.iscrowd for each in record.annotations)
    if only_crowds and choice.crowd == "background":
        return "show only crowds, which are background"
    return None


def _negatives(
    index: InstancesIndex,
    candidates: Iterable[Image],
    like: Collection[int],
    count: int,
) -> list[ImageRecord]:
    """`count` of the candidates, look-alikes first, else by hash of id."""
    if not count:
        return []
    look_alikes = index.by_image(like)
    order = sorted(
        candidates,
        key=lambda image: (image.id not in look_alikes, _hash(image.id), image.id),
    )
    return [ImageRecord(image) for image in order[:count]]


def _limited(
    positives: list[ImageRecord],
    negatives: list[ImageRecord],
    limit: int,
    counts: Counts,
) -> tuple[list[ImageRecord], list[ImageRecord]]:
    """The first by id, and of the negatives as large a share as in the whole."""
    count = len(positives) + len(negatives)
    if count <= limit:
        return positives, negatives
    counts.left_out["are beyond the limit"] = count - limit
    some = limit * len(negatives) // count
    positives = sorted(positives, key=lambda record: record.image.id)
    return positives[: limit - some], negatives[:some]


def _hash(image_id: int) -> bytes:
    """The same on every machine and in every version of Python."""
    return hashlib.blake2b(str(image_id).encode(), digest_size=8).digest()


def _detached(record: ImageRecord) -> ImageRecord:
    """A copy that does not keep the whole instances file in memory."""
    return dataclasses.replace(
        record,
        annotations=tuple(map(_copy, record.annotations)),
        ignored=tuple(map(_copy, record.ignored)),
    )


def _copy(annotation: Annotation) -> Annotation:
    segmentation = annotation.segmentation.copy()
    return msgspec.structs.replace(annotation, segmentation=segmentation)
