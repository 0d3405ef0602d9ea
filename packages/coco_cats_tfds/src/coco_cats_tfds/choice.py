"""What a dataset is to hold: every field that decides over its content.

```python
pets = Choice(categories=("cat", "dog"), negatives=0.5, crowd="ignore")
animals = Choice(categories={"pet": ["cat", "dog"], "bird": ["bird"]})
animals.classes  # {"pet": ("cat", "dog"), "bird": ("bird",)}: labels 1 and 2
```
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from coco_cats_tfds.errors import CocoDataError
from coco_cats_tfds.masks import CROWD_RULES, CrowdRule

LabelRule = Literal["one", "each"]
LABEL_RULES: tuple[str, ...] = get_args(LabelRule)
InvalidRule = Literal["stop", "omit"]
INVALID_RULES: tuple[str, ...] = get_args(InvalidRule)
OrientationRule = Literal["refuse", "stored"]
ORIENTATION_RULES: tuple[str, ...] = get_args(OrientationRule)

BACKGROUND_NAME = "background"
MOST_CLASSES = 254
"""What 8 bits hold beside 0, background, and 255, ignored."""


@dataclasses.dataclass(kw_only=True)
class Choice:
    """Which images to take and how to draw their masks.

    ```python
    from coco_cats_tfds.choice import Choice

    pets = Choice(categories=["cat", "dog"], labels="each", negatives=0.5)
    print(pets.class_names)  # What the labels 1 and 2 stand for.
    ```

    Attributes:
      categories: COCO names or supercategories ("animal"). An image that shows any of
        them counts. As an object, groups of them by a name of your own:
        `{"pet": ["cat", "dog"], "bird": ["bird"]}`; each group is a class.
      labels: "one": the mask is 1 on every instance, whatever its category. "each": the
        i-th category, or group, has the label i, counted from 1; where instances
        overlap, the smaller one is on top. None is "one" for a list and "each" for
        groups, which have no other.
      crowd: What becomes of crowd regions where no single instance covers them:
        "ignore" (255), "foreground" (their label, as in the original of 2018) or
        "background" (0; images that show nothing but crowds are left out).
      min_area: Instances of fewer pixels (COCO's `area`) are ignored (255); images
        that show nothing else are left out.
      negatives: Images that show none of the categories, per image that does. They
        are chosen by a hash of the image id, so a larger share keeps all of a smaller.
      negatives_like: Names of look-alikes, e.g. `["dog", "teddy bear"]`: images that
        show one of these are preferred as negatives.
      licenses: Numbers or names of the licences (COCO's `license` of an image, 4 being
        CC BY, "Attribution License") that images may have, negatives too; those with
        another one are left out. Empty takes all images.
      on_invalid: What a record that cannot be trusted does (an image that is missing,
        damaged or of another size than recorded, or without a licence where `licenses`
        asks for some; a segmentation that does not decode; an annotation of an unknown
        image or category): "stop" the build, or "omit" the image, counted and named.
      validation: Where a folder has photos to train on only: the share of them to
        validate on in their place, chosen by a hash of their files' names. 0 for
        folders with a split of its own for that.
      limit: Images of a split at most, for a trial: the first by id, and of negatives
        their share; 0 takes all. `--max_examples_per_split` sets it.
      orientation: What becomes of a JPEG that EXIF has viewers turn or mirror, while
        its size fits the record: "refuse" takes it for one that cannot be trusted,
        since its outlines may be those of either picture; "stored" says that they are
        those of the stored pixels, as those of COCO's own images (by `coco_url`) are.
      attribution: Record the number of each image's licence and its address at Flickr,
        and in the dataset's info what the numbers stand for.
      instances: Record of each pixel which instance it is of, as a second picture.
    """

    categories: Sequence[str] | Mapping[str, Sequence[str]] = ("cat",)
    labels: LabelRule | None = None
    crowd: CrowdRule = "ignore"
    min_area: float = 0.0
    negatives: float = 0.0
    negatives_like: Sequence[str] = ()
    licenses: Sequence[int | str] = ()
    on_invalid: InvalidRule = "stop"
    validation: float = 0.0
    limit: int = 0
    orientation: OrientationRule = "refuse"
    attribution: bool = False
    instances: bool = False

    def __post_init__(self) -> None:
        """Refuses what cannot be built.

        Raises:
          CocoDataError: A field has an impossible value.
        """
        self.categories = _categories(self.categories)
        is_grouped = isinstance(self.categories, Mapping)
        if self.labels is None:
            self.labels = "each" if is_grouped else "one"
        self.negatives_like = _names("negatives_like", self.negatives_like)
        self.licenses = _licenses(self.licenses)
        for field, allowed in (
            ("labels", LABEL_RULES),
            ("crowd", CROWD_RULES),
            ("on_invalid", INVALID_RULES),
            ("orientation", ORIENTATION_RULES),
        ):
            value = getattr(self, field)
            if value not in allowed:
                raise CocoDataError(
                    f"`{field}` must be one of {list(allowed)}. Received: {value!r}"
                )
        if is_grouped and self.labels == "one":
            raise CocoDataError(
                "`categories` are groups, each of which is a class, but `labels` is"
                ' "one". Leave `labels` out, or give the categories as a list.'
            )
        if self.labels == "each":
            _check_classes(self.categories)
        for field in ("min_area", "negatives"):
            value = getattr(self, field)
            if not _is_number(value) or not 0 <= value <= sys.float_info.max:
                raise CocoDataError(
                    f"`{field}` must be a number from 0 up. Received: {value!r}"
                )
            setattr(self, field, float(value))
        share = self.validation
        if not _is_number(share) or not 0 <= share < 1:
            raise CocoDataError(
                "`validation` must be a share from 0 to below 1, such as 0.2."
                f" Received: {share!r}"
            )
        self.validation = float(share)
        for field in ("attribution", "instances"):
            if type(getattr(self, field)) is not bool:
                raise CocoDataError(
                    f"`{field}` must be true or false. Received:"
                    f" {getattr(self, field)!r}"
                )
        if type(self.limit) is not int or self.limit < 0:
            raise CocoDataError(
                "`limit` must be a whole number of images, or 0 for all. Received:"
                f" {self.limit!r}"
            )
        if self.negatives_like and not self.negatives:
            raise CocoDataError(
                "`negatives_like` says which negatives to prefer, but `negatives` is 0,"
                " so that there are none. Set `negatives`, e.g. to 1."
            )

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """The categories of each class, in the order of their labels 1, 2, ...

        Where there is but one label, that is of the class "foreground".
        """
        if isinstance(self.categories, Mapping):
            return {name: tuple(some) for name, some in self.categories.items()}
        if self.labels == "each":
            return {name: (name,) for name in self.categories}
        return {"foreground": tuple(self.categories)}

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the labels 1, 2, ...; none where there is but one label."""
        return tuple(self.classes) if self.labels == "each" else ()

    @property
    def choice(self) -> Choice:
        """These fields alone, where this is part of something larger."""
        return Choice(
            **{each.name: getattr(self, each.name) for each in _FIELDS},
        )

    def as_json(self) -> dict[str, Any]:
        """As it is recorded in the dataset's info.

        Fields that came later are recorded where they say something, so that a dataset
        that needs none of them is the same file as before.
        """
        values = {
            each.name: getattr(self, each.name)
            for each in _FIELDS
            if each.name not in _LATER or getattr(self, each.name) != _LATER[each.name]
        }
        return {name: _with_lists(value) for name, value in values.items()}

    @classmethod
    def of_record(cls, record: Any) -> Choice:
        """The choice that `as_json` recorded, in this version or an earlier one.

        A field that the version did not know yet counts as its default.

        Raises:
          CocoDataError: It is no such record, or one of a later version.
        """
        if not isinstance(record, Mapping):
            raise CocoDataError(f"No choice is recorded. Received: {record!r}")
        if later := sorted(record.keys() - {each.name for each in _FIELDS}):
            raise CocoDataError(
                f"The choice has the fields {later}, which this version does not know."
                " Upgrade coco_cats_tfds."
            )
        return Choice(**record)

    def is_recorded_as(self, record: Any) -> bool:
        """Whether a record of `as_json`, of any version, is of this choice."""
        try:
            recorded = Choice.of_record(record)
        except CocoDataError:
            return False
        # As text: the order of groups is that of their labels.
        return json.dumps(recorded.as_json()) == json.dumps(self.as_json())


_FIELDS = dataclasses.fields(Choice)
_LATER = {
    "labels": "one",
    "validation": 0.0,
    "limit": 0,
    "orientation": "refuse",
    "attribution": False,
    "instances": False,
}
"""Fields that the first version did not have, with what says nothing."""


def _with_lists(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _with_lists(some) for name, some in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _categories(value: Any) -> tuple[str, ...] | dict[str, tuple[str, ...]]:
    if isinstance(value, Mapping):
        groups = {
            name: _names(f"categories[{name!r}]", some) for name, some in value.items()
        }
        if empty := [name for name, some in groups.items() if not some]:
            raise CocoDataError(
                f"The group {empty[0]!r} of `categories` is empty. Name the categories"
                " that belong to it, or leave it out."
            )
        if groups:
            return groups
    elif names := _names("categories", value):
        return names
    raise CocoDataError(
        '`categories` must name at least one COCO category, e.g. ["cat", "dog"].'
        f" Received: {value!r}"
    )


def _check_classes(categories: Sequence[str] | Mapping[str, Sequence[str]]) -> None:
    """Refuses names of classes that cannot be told apart, or are too many."""
    seen: set[str] = set()
    for name in categories:
        fault = None
        if not isinstance(name, str) or not name.isprintable() or name.strip() != name:
            fault = "has line breaks or spaces around it, or is no text"
        elif not name:
            fault = "is empty"
        elif name == BACKGROUND_NAME:
            fault = "is that of the label 0"
        elif name in seen:
            fault = "is there twice"
        if fault:
            raise CocoDataError(
                f"The class name {name!r} {fault}. Give every class a name of its own,"
                ' as in `"categories": {"pet": ["cat", "dog"], "bird": ["bird"]}`.'
            )
        seen.add(name)
    if len(categories) > MOST_CLASSES:
        raise CocoDataError(
            f"{len(categories)} classes do not fit into a mask of 8 bits, which holds"
            f" {MOST_CLASSES} beside 0 (background) and 255 (ignored). Group them:"
            ' `"categories": {"pet": ["cat", "dog"], ...}`.'
        )


def _names(field: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise CocoDataError(
            f"`{field}` must be a list of COCO category names, e.g."
            f' ["cat", "dog"]. Received: {value!r}'
        )
    for name in value:
        if not isinstance(name, str):
            raise CocoDataError(f"`{field}` holds {name!r}, which is not a name.")
    return tuple(value)


def _licenses(value: Any) -> tuple[int | str, ...]:
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    if not is_list or any(type(each) not in (int, str) for each in value):
        raise CocoDataError(
            "`licenses` must be a list of numbers or names of COCO's licences, e.g."
            " [4, 5] for CC BY and CC BY-SA. Received: "
            f"{value!r}"
        )
    return tuple(sorted(set(value), key=lambda each: (isinstance(each, str), each)))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
