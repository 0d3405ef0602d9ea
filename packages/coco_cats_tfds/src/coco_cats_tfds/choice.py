"""What a dataset is to hold: every field that decides over its content.

```python
pets = Choice(categories=("cat", "dog"), negatives=0.5, crowd="ignore")
```
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any, Literal, get_args

from coco_cats_tfds.errors import CocoDataError
from coco_cats_tfds.masks import CROWD_RULES, CrowdRule

InvalidRule = Literal["stop", "omit"]
INVALID_RULES: tuple[str, ...] = get_args(InvalidRule)
OrientationRule = Literal["refuse", "stored"]
ORIENTATION_RULES: tuple[str, ...] = get_args(OrientationRule)


@dataclasses.dataclass(kw_only=True)
class Choice:
    """Which images to take and how to draw their masks.

    Attributes:
      categories: COCO names or supercategories ("animal"). An image that shows any of
        them counts, and the mask is the union of all their instances.
      crowd: What becomes of crowd regions where no single instance covers them:
        "ignore" (255), "foreground" (1, as in the original of 2018) or "background"
        (0; images that show nothing but crowds are left out).
      min_area: Instances of fewer pixels (COCO's `area`) are ignored (255); images
        that show nothing else are left out.
      negatives: Images that show none of the categories, per image that does. They
        are chosen by a hash of the image id, so a larger share keeps all of a smaller.
      negatives_like: Names of look-alikes, e.g. `["dog", "teddy bear"]`: images that
        show one of these are preferred as negatives.
      licenses: Numbers of the licences (COCO's `license` of an image, 4 being CC BY)
        that images may have, negatives too; those with another one are left out. Empty
        takes all images.
      on_invalid: What a record that cannot be trusted does (an image that is missing,
        damaged or of another size than recorded, or without a licence where `licenses`
        asks for some; a segmentation that does not decode; an annotation of an unknown
        image or category): "stop" the build, or "omit" the image, counted and named.
      limit: Images of a split at most, for a trial: the first by id, and of negatives
        their share; 0 takes all. `--max_examples_per_split` sets it.
      orientation: What becomes of a JPEG that EXIF has viewers turn or mirror, while
        its size fits the record: "refuse" takes it for one that cannot be trusted,
        since its outlines may be those of either picture; "stored" says that they are
        those of the stored pixels, as those of COCO's own images (by `coco_url`) are.
    """

    categories: Sequence[str] = ("cat",)
    crowd: CrowdRule = "ignore"
    min_area: float = 0.0
    negatives: float = 0.0
    negatives_like: Sequence[str] = ()
    licenses: Sequence[int] = ()
    on_invalid: InvalidRule = "stop"
    limit: int = 0
    orientation: OrientationRule = "refuse"

    def __post_init__(self) -> None:
        """Refuses what cannot be built.

        Raises:
          CocoDataError: A field has an impossible value.
        """
        self.categories = _names("categories", self.categories)
        if not self.categories:
            raise CocoDataError(
                "`categories` must name at least one COCO category, e.g."
                ' ["cat", "dog"]. Received: []'
            )
        self.negatives_like = _names("negatives_like", self.negatives_like)
        self.licenses = _numbers("licenses", self.licenses)
        for field, allowed in (
            ("crowd", CROWD_RULES),
            ("on_invalid", INVALID_RULES),
            ("orientation", ORIENTATION_RULES),
        ):
            value = getattr(self, field)
            if value not in allowed:
                raise CocoDataError(
                    f"`{field}` must be one of {list(allowed)}. Received: {value!r}"
                )
        for field in ("min_area", "negatives"):
            value = getattr(self, field)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not 0 <= value <= sys.float_info.max:
                raise CocoDataError(
                    f"`{field}` must be a number from 0 up. Received: {value!r}"
                )
            setattr(self, field, float(value))
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
            if each.name not in _LATER or getattr(self, each.name) != each.default
        }
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
        }

    def is_recorded_as(self, record: Any) -> bool:
        """Whether a record of `as_json`, of any version, is of this choice.

        A field that the version did not know yet counts as its default.
        """
        if not isinstance(record, dict):
            return False
        return {**Choice().as_json(), **record} == self.as_json()


_FIELDS = dataclasses.fields(Choice)
_LATER = ("limit", "orientation")


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


def _numbers(field: str, value: Any) -> tuple[int, ...]:
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    if not is_list or any(type(each) is not int for each in value):
        raise CocoDataError(
            f"`{field}` must be a list of COCO's licence numbers, e.g. [4, 5] for CC BY"
            f" and CC BY-SA. Received: {value!r}"
        )
    return tuple(sorted(set(value)))
