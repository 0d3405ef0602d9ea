"""The typed index of a COCO instances file: which images show which categories.

```python
index = InstancesIndex.load("annotations/instances_val2017.json")
for record in index.select(index.category_ids(["cat", "dog"])):
    print(record.image.file_name, len(record.annotations))
```

Only the fields that the dataset needs are decoded. A segmentation stays raw JSON until
a mask is drawn, so a file of COCO's full size loads in a second or two.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import pathlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from coco_cats_tfds.errors import CocoDataError


class Image(msgspec.Struct, frozen=True):
    """One entry of `images`. Height and width are in pixels."""

    id: int
    file_name: str
    height: int
    width: int


class Annotation(msgspec.Struct, frozen=True):
    """One entry of `annotations`: one instance, or a crowd (`iscrowd` 1)."""

    id: int
    image_id: int
    category_id: int
    segmentation: msgspec.Raw
    iscrowd: int = 0


class Category(msgspec.Struct, frozen=True):
    """One entry of `categories`."""

    id: int
    name: str
    supercategory: str = ""


class _Instances(msgspec.Struct):
    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category]


@dataclasses.dataclass(frozen=True)
class ImageRecord:
    """An image with those of its annotations that were selected."""

    image: Image
    annotations: tuple[Annotation, ...]


class InstancesIndex:
    """Images, annotations and categories of one instances file.

    Attributes:
      path: The file that was read.
      categories: Every category of the file, in its order.
    """

    def __init__(self, path: pathlib.Path, instances: _Instances) -> None:
        self.path = path
        self.categories = tuple(instances.categories)
        self._annotations = instances.annotations
        self._images = {image.id: image for image in instances.images}
        if len(self._images) != len(instances.images):
            raise CocoDataError(
                f"{path}: an image id occurs twice among {len(instances.images)}"
                " images. Give every image an id of its own."
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> InstancesIndex:
        """Reads an instances file.

        Args:
          path: A JSON file in COCO's instances format.

        Raises:
          CocoDataError: The file is missing, is not JSON or lacks a field.
        """
        path = pathlib.Path(path)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise CocoDataError(
                f"Cannot read the annotations {path}: {error.strerror}. The COCO"
                " folder must hold annotations/instances_train2017.json and"
                " annotations/instances_val2017.json."
            ) from error
        try:
            instances = msgspec.json.decode(content, type=_Instances)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CocoDataError(
                f"{path} is not a COCO instances file: {error}. It may be cut off or"
                " of another kind (captions, keypoints); fetch or extract it again."
            ) from error
        return cls(path, instances)

    def category_ids(self, names: Sequence[str]) -> frozenset[int]:
        """The ids of categories given by name.

        Raises:
          CocoDataError: A name is not in the file; the text gives the nearest ones.
        """
        ids = {category.name: category.id for category in self.categories}
        for name in names:
            if name not in ids:
                near = difflib.get_close_matches(name, ids, n=3, cutoff=0.5)
                raise CocoDataError(
                    f"Unknown category {name!r} in {self.path}. "
                    + (f"The nearest names are {near}. " if near else "")
                    + f"All {len(ids)} names: {sorted(ids)}."
                )
        return frozenset(ids[name] for name in names)

    def select(self, category_ids: Iterable[int]) -> list[ImageRecord]:
        """The images that show at least one of the categories, by ascending id.

        Args:
          category_ids: COCO category ids; an image with any of them counts.

        Returns:
          One record an image, with its annotations of these categories in file order.

        Raises:
          CocoDataError: An annotation names an image that the file does not list.
        """
        wanted = frozenset(category_ids)
        by_image: dict[int, list[Annotation]] = defaultdict(list)
        for annotation in self._annotations:
            if annotation.category_id in wanted:
                by_image[annotation.image_id].append(annotation)
        for image_id, of_image in by_image.items():
            if image_id not in self._images:
                raise CocoDataError(
                    f"{self.path}: annotation {of_image[0].id} belongs to image"
                    f" {image_id}, which the file does not list. Add the image or"
                    " remove the annotation."
                )
        return [
            ImageRecord(self._images[image_id], tuple(by_image[image_id]))
            for image_id in sorted(by_image)
        ]
