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

    Where the names of folders tell it may also be "test", which is neither.

    Args:
      by_photo: What was said of each photo.
      validation: Share of them; None for the folders' names, or 0.2.
      group_by: "folder", or a pattern: see `import_photos`.

    Raises:
      CocoDataError: There is but one photo or group, the pattern is none, a group is on
        two sides, or folders tell the side of some photos only.
    """
    named = {
        path: {each.split for each in labels if each.split is not None}
        for path, labels in by_photo.items()
    }
    sides = {side for each in named.values() for side in each}
    if validation is None and {"train", "validation"} <= sides:
        return _by_folders(named, group_by), "the names of the labels' folders"
    # Whoever sets photos apart to test on does not want them trained on.
    tests = {path for path, each in named.items() if each == {"test"}}
    tests = tests if len(tests) < len(by_photo) else set()
    share = VALIDATION if validation is None else validation
    places = {
        path: place_of(_group(path, group_by)) for path in by_photo if path not in tests
    }
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
    split |= dict.fromkeys(tests, "test")
    return split, "a hash of their " + ("groups" if group_by else "names")


def _by_folders(
    named: Mapping[pathlib.Path, set[str]], group_by: str | None
) -> dict[pathlib.Path, str]:
    unclear = [path for path, each in named.items() if len(each) != 1]
    if unclear:
        raise CocoDataError(
            f"Folders tell the split of {len(named) - len(unclear)} photos, not that of"
            f" {unclear[0].name} and {len(unclear) - 1} others. Name only labels in"
            " such folders, or give --validation, which divides all by a hash."
        )
    split = {path: next(iter(each)) for path, each in named.items()}
    of_group: dict[str, str] = {}
    for path, side in split.items() if group_by else ():
        group = _group(path, group_by)
        if of_group.setdefault(group, side) != side:
            raise CocoDataError(
                f"The group {group!r} is on two sides, {of_group[group]} and {side}, by"
                " the names of folders. Give --validation, which divides by groups, or"
                " leave out --group_by."
            )
    return split


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
