"""From photos and label files to a folder in COCO's layout."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterable, Sequence

from coco_cats_tfds.errors import CocoDataError
from coco_cats_tfds.imports.label_files import read_labels
from coco_cats_tfds.imports.labels import Labels
from coco_cats_tfds.imports.photos import Photo, PhotosByName, find_photos
from coco_cats_tfds.imports.report import SHOWN, Report
from coco_cats_tfds.imports.splitting import splits_of
from coco_cats_tfds.imports.writing import write_coco


def import_photos(
    photos: Sequence[str | os.PathLike[str]],
    annotations: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    categories: Sequence[str] = (),
    names: Sequence[str] = (),
    attribute: str | None = None,
    validation: float | None = None,
    group_by: str | None = None,
    orientation: str | None = None,
) -> Report:
    """Writes photos and labels as `tfds build --manual_dir` takes them.

    Args:
      photos: Files, and folders with all photos in them.
      annotations: Files, and folders of files: COCO's instances, labelme, VIA; text of
        YOLO's segmentation; mask PNGs.
      output: A folder to create.
      categories: What is taken; none stands for all.
      names: Of YOLO's classes from 0, or of the masks' labels from 1.
      attribute: VIA's attribute that names the category.
      validation: Share of the photos to validate on, chosen by a hash of their names;
        None for folders named `train` and `val`, if the labels lie in such, else 0.2.
      group_by: "folder", or a pattern whose first group, or all that it matches in a
        file's name, photos have in common that shall be on one side.
      orientation: What labels were made on, "stored" pixels or the "upright" photo,
        where a photo is turned by EXIF and its size does not tell.

    Returns:
      What was taken.

    Raises:
      CocoDataError: Something is damaged, missing or ambiguous; nothing is written.

    Example:
      ```python
      from coco_cats_tfds.imports import import_photos

      report = import_photos(["photos"], ["labels.json"], "MINE")
      print(report.photos["train"], report.left)
      ```
    """
    output = pathlib.Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise CocoDataError(
            f"{output} is there already. Nothing is overwritten: name a new folder."
        )
    if validation is not None and not 0 < validation < 1:
        raise CocoDataError(
            f"`validation` is a share between 0 and 1. Received: {validation}"
        )
    report = Report(output)
    found = find_photos([pathlib.Path(each) for each in photos])
    places = [pathlib.Path(each) for each in annotations]
    labels, found = read_labels(places, found, names, attribute, report.left)
    by_photo = _by_photo(found, labels, report)
    _require_orientation(by_photo, orientation)
    known = _category_names(labels)
    # Of a class of this name a dataset knows that it is none.
    wanted = list(categories) or [each for each in known if each != "background"]
    missing = [each for each in wanted if each not in known]
    outlined = {s.category for each in labels for s in each.shapes if not s.is_crowd}
    if missing or not outlined & {*wanted}:
        raise CocoDataError(
            f"No label has the category {missing[0]!r}; there are {known}."
            if missing
            else f"There is no outline in {[str(each) for each in places]}, only"
            f" {dict(report.left) or 'boxes and crowds'}."
        )
    split, report.by = splits_of(by_photo, validation, group_by)
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = pathlib.Path(
        tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent)
    )
    try:
        write_coco(folder, by_photo, split, wanted, orientation, report)
        folder.chmod(0o755)
        folder.replace(output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return report


def _by_photo(
    photos: Sequence[pathlib.Path], labels: Iterable[Labels], report: Report
) -> dict[pathlib.Path, list[Labels]]:
    """All that was said of each photo."""
    known, found = PhotosByName(photos), dict[pathlib.Path, list[Labels]]()
    for each in labels:
        path = known.find(each)
        if path is None:
            report.without_photo.append(each.photo)
        else:
            found.setdefault(path, []).append(
                _without(found.get(path, ()), each, report)
            )
    report.without_labels = [path.name for path in photos if path not in found]
    if not found:
        raise CocoDataError(
            f"None of the {len(photos)} photos has labels: the label files speak of"
            f" {report.without_photo[:3]}, the photos are"
            f" {report.without_labels[:3]}. Name the folder of the photos that were"
            " labelled."
        )
    return {path: found[path] for path in photos if path in found}


def _require_orientation(
    by_photo: dict[pathlib.Path, list[Labels]], orientation: str | None
) -> None:
    """Refuses to guess."""
    unclear = []
    for path, labels in by_photo.items():
        photo = Photo(path)
        made_on = [photo.labelled(each.size, orientation) for each in labels]
        if any(
            rule is None and each.shapes
            for rule, each in zip(made_on, labels, strict=True)
        ):
            unclear.append(path.name)
    if unclear:
        raise CocoDataError(
            f"{len(unclear)} photos are turned or mirrored by their EXIF tag, and their"
            " size does not tell whether the labels were made on the photo as a viewer"
            f" shows it: {', '.join(unclear[:SHOWN])}. Say so with --orientation"
            " upright, or with --orientation stored if the tool ignores the tag."
        )


def _category_names(labels: Iterable[Labels]) -> list[str]:
    """In the order in which they come."""
    shapes = (shape for each in labels for shape in each.shapes)
    return list(dict.fromkeys(shape.category for shape in shapes))


def _without(known: Iterable[Labels], labels: Labels, report: Report) -> Labels:
    """Labels without what another file says of the photo, to the last corner."""
    others = [
        shape for each in known if each.file != labels.file for shape in each.shapes
    ]
    new = [shape for shape in labels.shapes if shape not in others]
    if again := len(labels.shapes) - len(new):
        report.left["objects that another file has, too"] += again
    return dataclasses.replace(labels, shapes=new)
