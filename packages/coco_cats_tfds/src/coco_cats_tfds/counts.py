"""What a split holds and everything that was left out of it, with the reason."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

from coco_cats_tfds.errors import CocoDataError

_NAMED = 10


@dataclasses.dataclass
class ClassCounts:
    """Of one class; two of them add up.

    Attributes:
      images: That show it.
      instances: Single ones, drawn with its label.
      crowds: Crowd regions, whatever became of them.
      pixels: With its label.
    """

    images: int = 0
    instances: int = 0
    crowds: int = 0
    pixels: int = 0

    def __add__(self, other: ClassCounts) -> ClassCounts:
        """The sum, field by field."""
        return ClassCounts(
            **{
                each.name: getattr(self, each.name) + getattr(other, each.name)
                for each in dataclasses.fields(self)
            }
        )


@dataclasses.dataclass
class Counts:
    """Sums over images; two of them add up.

    Attributes:
      images: Written.
      negatives: Of these, images that show none of the categories.
      negatives_lacking: Asked for, but so many images without the categories there are
        not.
      instances: Single instances drawn as foreground.
      crowds: Crowd regions of the categories, whatever became of them.
      too_small: Instances under `min_area`, drawn as ignored.
      pixels: Of all masks.
      foreground: Pixels of 1, or of any class.
      ignored: Pixels of 255.
      unseen: Ids of annotations that cover no pixel of their image.
      turned: Ids of images whose EXIF data asks viewers to turn or mirror them. COCO's
        sizes and outlines are those of the stored pixels, and so are these masks.
      left_out: Images not taken, by reason.
      invalid: What `on_invalid` "omit" left out: image id (or None) and fault.
      classes: By name, in the order of their labels; none where there is one label.
    """

    images: int = 0
    negatives: int = 0
    negatives_lacking: int = 0
    instances: int = 0
    crowds: int = 0
    too_small: int = 0
    pixels: int = 0
    foreground: int = 0
    ignored: int = 0
    unseen: list[int] = dataclasses.field(default_factory=list)
    turned: list[int] = dataclasses.field(default_factory=list)
    left_out: Counter[str] = dataclasses.field(default_factory=Counter)
    invalid: list[tuple[int | None, str]] = dataclasses.field(default_factory=list)
    classes: dict[str, ClassCounts] = dataclasses.field(default_factory=dict)

    def __add__(self, other: Counts) -> Counts:
        """The sum, field by field."""
        none = ClassCounts()
        classes = {
            name: self.classes.get(name, none) + other.classes.get(name, none)
            for name in {**self.classes, **other.classes}
        }
        return Counts(
            **{
                each.name: getattr(self, each.name) + getattr(other, each.name)
                for each in dataclasses.fields(self)
                if each.name != "classes"
            },
            classes=classes,
        )

    def as_json(self) -> dict[str, Any]:
        """As recorded in the dataset's info; independent of the order of work."""
        record = dataclasses.asdict(self)
        for name in ("unseen", "turned"):
            record[name] = sorted(record[name])
        record["left_out"] = dict(sorted(self.left_out.items()))
        by_id = sorted(self.invalid, key=lambda each: (each[0] or 0, each[1]))
        record["invalid"] = [{"image": image, "fault": text} for image, text in by_id]
        if not self.classes:  # As before there were any.
            del record["classes"]
        return record

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Counts:
        """The inverse of `as_json`."""
        invalid = [(each["image"], each["fault"]) for each in record["invalid"]]
        left_out = Counter(record["left_out"])
        classes = {
            name: ClassCounts(**counts)
            for name, counts in record.get("classes", {}).items()
        }
        return cls(
            **{
                **record,
                "left_out": left_out,
                "invalid": invalid,
                "classes": classes,
            }
        )

    def check_something_is_left(self) -> None:
        """Raises CocoDataError if no image was written."""
        if not self.images:
            first = self.as_json()["invalid"][0]["fault"] if self.invalid else ""
            raise CocoDataError(
                "Not one image of the split can be used, and TFDS has no empty splits."
                f" The first fault: {first}"
            )

    def report(self, split: str) -> str:
        """Lines for people."""
        share = 100 / max(1, self.pixels)
        lines = [
            f"{split}: {self.images:,} images ({self.negatives:,} of them negatives),"
            f" {self.instances:,} instances, {self.crowds:,} crowds;"
            f" {self.foreground * share:.2f}% of the pixels foreground,"
            f" {self.ignored * share:.2f}% ignored"
        ]
        lines += [
            f"  {name}: {some.images:,} images, {some.instances:,} instances,"
            f" {some.crowds:,} crowds; {some.pixels * share:.2f}% of the pixels"
            for name, some in self.classes.items()
        ]
        if self.negatives_lacking:
            lines.append(
                f"  noticed: {self.negatives_lacking:,} more negatives were asked for;"
                " no other images show none of the categories"
            )
        if self.too_small:
            lines.append(f"  ignored: {self.too_small:,} instances under min_area")
        for ids, what in (
            (self.unseen, "annotations cover no pixel of their image"),
            (self.turned, "images have an EXIF orientation, which is not applied"),
        ):
            if ids:
                lines.append(f"  noticed: {len(ids):,} {what}: ids {_some(ids)}")
        for reason, count in sorted(self.left_out.items()):
            lines.append(f"  left out: {count:,} images that {reason}")
        if self.invalid:
            lines.append(f"  left out: {len(self.invalid):,} that cannot be used:")
            faults = [each["fault"] for each in self.as_json()["invalid"]]
            lines += [f"    {fault}" for fault in faults[:_NAMED]]
            if len(faults) > _NAMED:
                lines.append(
                    f"    and {len(faults) - _NAMED:,} more, all in metadata.json"
                )
        return "\n".join(lines)


def _some(ids: list[int]) -> str:
    shown = ", ".join(map(str, sorted(ids)[:_NAMED]))
    return shown + (", ..." if len(ids) > _NAMED else "")
