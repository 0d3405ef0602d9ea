"""What an import took and what it left out."""

from __future__ import annotations

import dataclasses
import pathlib
from collections import Counter

SHOWN = 10


@dataclasses.dataclass
class Report:
    """What was taken and what was left out.

    ```python
    from coco_cats_tfds.imports import Report, import_photos

    report = import_photos(["photos"], ["labels.json"], "REPORTED")
    assert isinstance(report, Report)
    print(report.photos["train"], dict(report.objects), dict(report.left))
    ```

    Attributes:
      folder: What `--manual_dir` takes.
      photos: By split, "train" and "validation".
      objects: By category.
      ignored: Crowds, and boxes of objects without an outline.
      by: What the split follows.
      encoded: Photos whose pixels were encoded anew, as JPEG.
      turned: Photos that were turned upright, of these.
      left: How many things were left out, by what they are.
      without_photo: Names for which there is no photo.
      without_labels: Photos for which there are no labels.
    """

    folder: pathlib.Path
    photos: Counter[str] = dataclasses.field(default_factory=Counter)
    objects: Counter[str] = dataclasses.field(default_factory=Counter)
    ignored: int = 0
    by: str = ""
    encoded: int = 0
    turned: int = 0
    left: Counter[str] = dataclasses.field(default_factory=Counter)
    without_photo: list[str] = dataclasses.field(default_factory=list)
    without_labels: list[str] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        """A few lines."""
        often = self.objects.most_common(SHOWN)
        objects = ", ".join(f"{count:,} {name}" for name, count in often)
        if len(self.objects) > SHOWN:
            objects += f" and {len(self.objects) - SHOWN} more categories"
        lines = [
            f"{self.folder}: {self.photos['train']:,} photos to train on and"
            f" {self.photos['validation']:,} to validate on, by {self.by}",
            f"objects: {objects or 'none'}",
        ]
        if self.ignored:
            lines.append(
                f"ignored in training: {self.ignored:,} crowds, or boxes of objects"
                " without an outline"
            )
        if self.encoded:
            lines.append(
                f"{self.encoded:,} photos were encoded as JPEG of quality 95, of these"
                f" {self.turned:,} turned upright; the others are copied"
            )
        lines += [f"left out: {count:,} {what}" for what, count in self.left.items()]
        for what, names in (
            ("labels without a photo", self.without_photo),
            ("photos without labels", self.without_labels),
        ):
            if names:
                more = ", ..." if len(names) > SHOWN else ""
                shown = ", ".join(names[:SHOWN])
                lines.append(f"left out: {len(names):,} {what}: {shown}{more}")
        return "\n".join(lines)
