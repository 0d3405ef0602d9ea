"""Which photos are for training, and which for validation."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping, Sequence

from coco_cats_tfds.errors import CocoDataError
from coco_cats_tfds.imports.labels import Labels
from coco_cats_tfds.places import place_of

VALIDATION = 0.2


def splits_of(
    by_photo: Mapping[pathlib.Path, Sequence[Labels]],
    validation: float | None,
    group_by: str | None,
) -> tuple[dict[pathlib.Path, str], str]:
    """The split of each photo, "train" or "validation", and what it follows.

    Where the names of folders tell it may also be "test".

    Args:
      by_photo: What was said of each photo.
      validation: Share of them; None for the folders' names, or 0.2.
      group_by: "folder", or a pattern: see `import_photos`.

    Raises:
      CocoDataError: There is but one photo or group, or the pattern is none.
    """
    named = {
        path: {each.split for each in labels if each.split is not None}
        for path, labels in by_photo.items()
    }
    sides = {side for each in named.values() for side in each}
    is_clear = all(len(each) == 1 for each in named.values())
    if validation is None and is_clear and {"train", "validation"} <= sides:
        by_name = {path: next(iter(each)) for path, each in named.items()}
        return by_name, "the names of the labels' folders"
    share = VALIDATION if validation is None else validation
    places = {path: place_of(_group(path, group_by)) for path in by_photo}
    border = share
    ordered = sorted(set(places.values()))
    if len(ordered) > 1 and not ordered[0] < border <= ordered[-1]:
        # So few that all are on one side: the nearest goes to the other.
        border = ordered[1] if ordered[0] >= border else ordered[-1]
    if len(ordered) == 1:
        raise CocoDataError(
            "There is only one photo, or one group of photos, with labels: it cannot be"
            " on both sides. Add others, or give another --group_by."
        )
    split = {
        path: "validation" if place < border else "train"
        for path, place in places.items()
    }
    return split, "a hash of their " + ("groups" if group_by else "names")


def _group(path: pathlib.Path, group_by: str | None) -> str:
    if group_by is None:
        return path.name
    if group_by == "folder":
        return path.parent.name
    try:
        found = re.search(group_by, path.name)
    except re.error as error:
        raise CocoDataError(
            f"`group_by` is neither 'folder' nor a regular expression: {group_by!r}"
            f" ({error})."
        ) from error
    if found is None:
        return path.name
    return str(found[1] if found.groups() else found[0])
