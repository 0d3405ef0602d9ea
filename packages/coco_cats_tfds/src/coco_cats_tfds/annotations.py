"""The typed index of a COCO instances file: images, annotations, categories.

```python
index = InstancesIndex.load("annotations/instances_val2017.json")
cats = index.category_ids(["cat"])
for image_id, annotations in index.by_image(cats).items():
    print(index.images[image_id].file_name, len(annotations))
```

Only the fields that the dataset needs are decoded. A segmentation stays raw JSON until
a mask is drawn, so a file of COCO's full size loads in a second or two. A file whose
fields have other types than COCO's, as some tools write them, is read a second time and
with more patience (`_with_coco_types`).
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import errno
import itertools
import mmap
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from etils import epath

from coco_cats_tfds.errors import CocoDataError

COCO_ADDRESSES = ("http://images.cocodataset.org/", "https://images.cocodataset.org/")
# The format of a JPEG has no room for more rows or columns.
Side = Annotated[int, msgspec.Meta(ge=1, le=65_535)]
# The feature `image/id` is an int64.
ImageId = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Image(msgspec.Struct, frozen=True, gc=False):
    """One entry of `images`. Height and width are in pixels.

    `license` is the number of an entry of `licenses`, `coco_url` the address of a COCO
    image, `flickr_url` where its author put it; other files may have none, or something
    else.
    """

    id: ImageId
    file_name: str
    height: Side
    width: Side
    license: Any = None
    coco_url: Any = None
    flickr_url: Any = None

    @property
    def is_cocos(self) -> bool:
        """Whether it is one of COCO's own."""
        return str(self.coco_url).startswith(COCO_ADDRESSES)


class Annotation(msgspec.Struct, frozen=True, gc=False):
    """One entry of `annotations`: one instance, or a crowd (`iscrowd` 1).

    `area` is in pixels, as recorded by COCO; other files may lack it.
    """

    id: int
    image_id: int
    category_id: int
    segmentation: msgspec.Raw
    iscrowd: Annotated[int, msgspec.Meta(ge=0, le=1)] = 0
    area: float | None = None


class Category(msgspec.Struct, frozen=True):
    """One entry of `categories`."""

    id: int
    name: str
    supercategory: str = ""


class License(msgspec.Struct, frozen=True):
    """One entry of `licenses`."""

    id: int
    name: str = ""
    url: str = ""


class _Instances(msgspec.Struct):
    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category]
    # Decoded where licences are asked for: in many files it is not what it should be.
    licenses: msgspec.Raw = msgspec.Raw(b"[]")


@dataclasses.dataclass(frozen=True)
class ImageRecord:
    """An image with those of its annotations that were selected.

    ```python
    from coco_cats_tfds.annotations import ImageRecord, InstancesIndex
    from coco_cats_tfds.choice import Choice
    from coco_cats_tfds.selection import select

    index = InstancesIndex.load("COCO/annotations/instances_val2017.json")
    record = select(index, Choice()).records[0]
    assert isinstance(record, ImageRecord)
    print(record.image.file_name, len(record.annotations))
    ```

    Attributes:
      image: The entry of the instances file.
      annotations: To be drawn: foreground, or what the rule for crowds says.
      ignored: To be drawn as ignored pixels where none of the others lies.
      labels: What the pixels of a category are to be, by its id.
    """

    image: Image
    annotations: tuple[Annotation, ...] = ()
    ignored: tuple[Annotation, ...] = ()
    labels: Mapping[int, int] = dataclasses.field(default_factory=dict)


_WHOLE = {
    "images": ("id", "height", "width", "license"),
    "annotations": ("id", "image_id", "category_id", "iscrowd"),
    "categories": ("id",),
}
_ABSENT_IF_NULL = ("iscrowd", "supercategory")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def _decode(content: bytes | mmap.mmap) -> _Instances:
    start = len(_BYTE_ORDER_MARK) if content[:3] == _BYTE_ORDER_MARK else 0
    json = memoryview(content)[start:]
    try:
        return msgspec.json.decode(json, type=_Instances)
    except msgspec.ValidationError:
        return msgspec.json.decode(_with_coco_types(json), type=_Instances)


def _with_coco_types(content: memoryview) -> bytes:
    """The same file with whole numbers, and no null, where COCO has them.

    Some tools write 1.0 for 1, true or false for `iscrowd`, or null for a field that
    may as well be absent.
    """
    instances = msgspec.json.decode(content)
    for name, fields in _WHOLE.items():
        entries = instances.get(name) if isinstance(instances, dict) else None
        for entry in entries if isinstance(entries, list) else ():
            if not isinstance(entry, dict):
                continue
            for field in _ABSENT_IF_NULL:
                if entry.get(field, "") is None:
                    del entry[field]
            if isinstance(entry.get("iscrowd"), bool):
                entry["iscrowd"] = int(entry["iscrowd"])
            for field in fields:
                value = entry.get(field)
                if isinstance(value, float) and value.is_integer():
                    entry[field] = int(value)
    return msgspec.json.encode(instances)


class InstancesIndex:
    """Images, annotations and categories of one instances file.

    ```python
    from coco_cats_tfds.annotations import InstancesIndex

    index = InstancesIndex.load("COCO/annotations/instances_val2017.json")
    for image_id, annotations in index.by_image(index.category_ids(["cat"])).items():
        print(index.images[image_id].file_name, len(annotations))
    ```

    Attributes:
      origin: Where the file was read, for messages.
      images: Every image by id, in the order of the file.
      annotations: Every annotation, in the order of the file.
      categories: Every category, in the order of the file.
    """

    def __init__(self, content: bytes | mmap.mmap, *, origin: object) -> None:
        """Decodes an instances file.

        Args:
          content: The file's bytes: JSON in COCO's instances format.
          origin: Where they came from.

        Raises:
          CocoDataError: Not JSON, a field is absent or of another type, or an image id
            occurs twice.
        """
        # Of a part: only the whole file tells which of its categories are used.
        self._whole: InstancesIndex | None = None
        try:
            instances = _decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise CocoDataError(
                f"{origin} is not a COCO instances file: {error}. Correct that field;"
                " if the file is cut off or of another kind (captions, keypoints),"
                " fetch or extract it again."
            ) from error
        self.origin = origin
        self.categories = tuple(instances.categories)
        names: dict[int, str] = {}
        for each in self.categories:
            if names.setdefault(each.id, each.name) != each.name:
                raise CocoDataError(
                    f"{origin}: the category id {each.id} stands for"
                    f" {names[each.id]!r} and for {each.name!r}. Give each category an"
                    " id of its own."
                )
        self.annotations = instances.annotations
        self._licenses = instances.licenses
        self.images = {image.id: image for image in instances.images}
        if len(self.images) != len(instances.images):
            times = Counter(image.id for image in instances.images)
            twice = sorted(id for id, count in times.items() if count > 1)
            raise CocoDataError(
                f"{origin}: {len(twice)} image ids occur more than once, the first"
                f" {twice[:5]}. Give every image an id of its own."
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> InstancesIndex:
        """Reads an instances file.

        Args:
          path: A JSON file in COCO's instances format.

        Raises:
          CocoDataError: The file cannot be read or is not an instances file.
        """
        try:
            content = _map_file(path)
        except OSError as error:
            raise CocoDataError(
                f"Cannot read the annotations {path}: {error.strerror or error}. The"
                " COCO folder must hold annotations/instances_train2017.json and"
                " annotations/instances_val2017.json, or"
                " annotations_trainval2017.zip. `coco-cats import` makes it from labels"
                " in other files; where there are photos to train on only,"
                ' `"validation": 0.2` has a fifth of them validated on.'
            ) from error
        return cls(content, origin=path)

    def category_ids(self, names: Sequence[str]) -> frozenset[int]:
        """The ids of categories given by name or by supercategory.

        Raises:
          CocoDataError: A name is not in the file; the text gives the nearest ones. Or
            it is that of a supercategory and of a category which no annotation has.
        """
        for name in names:
            self._check_no_placeholder(name)
        return find_categories(names, self.categories, origin=self.origin)

    def labels(self, classes: Mapping[str, Sequence[str]]) -> dict[int, int]:
        """The label of every category of some classes, by category id.

        Args:
          classes: Names as for `category_ids`, by class, in the order of the labels.

        Raises:
          CocoDataError: As `category_ids`, or a category is in two classes.
        """
        for name in itertools.chain.from_iterable(classes.values()):
            self._check_no_placeholder(name)
        return find_labels(classes, self.categories, origin=self.origin)

    def _check_no_placeholder(self, name: str) -> None:
        own = {each.id for each in self.categories if each.name == name}
        others = [
            each.name
            for each in self.categories
            if each.supercategory == name and each.id not in own
        ]
        annotations = (self._whole or self).annotations
        if own and others and not any(a.category_id in own for a in annotations):
            raise CocoDataError(
                f"{self.origin}: {name!r} is a category that no annotation has, and"
                f" also the supercategory of {sorted(others)}. Some tools (Roboflow)"
                " export such a placeholder. Choose the categories by their own names,"
                f" or delete the category {name!r} from the file."
            )

    def licenses(self) -> list[License]:
        """The file's table of licences.

        Raises:
          CocoDataError: It is none.
        """
        try:
            return msgspec.json.decode(self._licenses, type=list[License])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise CocoDataError(
                f"{self.origin}: `licenses` is no list of licences: {error}. Correct"
                " it, or choose images of any licence (`licenses` []) and no"
                " `attribution`."
            ) from error

    def license_numbers(self, wanted: Iterable[int | str]) -> frozenset[int]:
        """The numbers of licences given by number or by name.

        Raises:
          CocoDataError: One is not in the file; the text gives those that are.
        """
        wanted = list(wanted)
        listed = self.licenses() if wanted else []
        found: set[int] = set()
        for each in wanted:
            numbers = {known.id for known in listed if each in (known.id, known.name)}
            if not numbers:
                names = ", ".join(f"{known.id} ({known.name})" for known in listed)
                raise CocoDataError(
                    f"Unknown licence {each!r} in {self.origin}. It lists"
                    f" {names or 'none'}."
                )
            found |= numbers
        return frozenset(found)

    def part(self, is_kept: Callable[[Image], bool]) -> InstancesIndex:
        """An index of some of the images, and of what is annotated on them.

        Annotations of images that are not listed are in every part.
        """
        part = copy.copy(self)
        part._whole = self
        part.images = {id: each for id, each in self.images.items() if is_kept(each)}
        others = self.images.keys() - part.images.keys()
        part.annotations = [
            each for each in self.annotations if each.image_id not in others
        ]
        return part

    def by_image(self, category_ids: Collection[int]) -> dict[int, list[Annotation]]:
        """The annotations of these categories, in file order, by image id."""
        found: dict[int, list[Annotation]] = defaultdict(list)
        for annotation in self.annotations:
            if annotation.category_id in category_ids:
                found[annotation.image_id].append(annotation)
        return found


def _map_file(path: str | os.PathLike[str]) -> bytes | mmap.mmap:
    """A file's content; of a local file without copying it, which takes the longest."""
    if "://" in os.fspath(path):
        return bytes(epath.Path(path).read_bytes())
    if os.path.exists(path) and not os.path.isfile(path):
        kind = errno.EISDIR if os.path.isdir(path) else errno.EINVAL
        raise OSError(kind, os.strerror(kind))  # Reading a pipe would not end.
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return b""  # Cannot be mapped.
        if not hasattr(mmap, "MAP_POPULATE"):
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        # Every page at once, which is quicker than one by one when it is read.
        flags = mmap.MAP_PRIVATE | mmap.MAP_POPULATE
        return mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ)


def find_categories(
    names: Sequence[str], categories: Iterable[Category], *, origin: object
) -> frozenset[int]:
    """The ids of categories given by name; a supercategory stands for all of its own.

    Args:
      names: E.g. `["cat", "vehicle"]`. Where a name is both, the category counts.
      categories: All that there are.
      origin: Where they are listed, for the error's text.

    Raises:
      CocoDataError: A name is neither; the text gives the nearest ones.
    """
    ids: dict[str, set[int]] = defaultdict(set)
    groups: dict[str, set[int]] = defaultdict(set)
    for category in categories:
        ids[category.name].add(category.id)
        groups[category.supercategory].add(category.id)
    groups.pop("", None)
    found: set[int] = set()
    for name in names:
        if name not in ids and name not in groups:
            near = difflib.get_close_matches(name, [*ids, *groups], n=3, cutoff=0.5)
            raise CocoDataError(
                f"Unknown category {name!r} in {origin}. "
                + (f"The nearest names are {near}. " if near else "")
                + f"All {len(ids)} names: {sorted(ids)}. Supercategories:"
                f" {sorted(groups)}."
            )
        found |= ids.get(name) or groups[name]
    return frozenset(found)


def find_labels(
    classes: Mapping[str, Sequence[str]],
    categories: Sequence[Category],
    *,
    origin: object,
) -> dict[int, int]:
    """The label of every category of some classes, by category id.

    Args:
      classes: Names as for `find_categories`, by class; the i-th has the label i,
        counted from 1.
      categories: All that there are.
      origin: Where they are listed, for the error's text.

    Raises:
      CocoDataError: A name is unknown, or a category is in two classes.
    """
    owners: dict[int, str] = {}
    labels = {}
    for label, (owner, names) in enumerate(classes.items(), start=1):
        for id in sorted(find_categories(names, categories, origin=origin)):
            if owners.setdefault(id, owner) != owner:
                name = next(each.name for each in categories if each.id == id)
                raise CocoDataError(
                    f"The category {name!r} is in two classes, {owners[id]!r} and"
                    f" {owner!r}. A pixel has one label: take it out of either, or"
                    " name single categories in place of a supercategory."
                )
            labels[id] = label
    return labels
