"""Finds the files with labels, and has each read by what knows its kind."""

from __future__ import annotations

import pathlib
from collections import Counter
from collections.abc import Iterable, Sequence

import yaml

from coco_cats_tfds.errors import CocoDataError
from coco_cats_tfds.imports.file_labels import MASK_SUFFIX, read_masks, read_yolo
from coco_cats_tfds.imports.json_labels import read_json
from coco_cats_tfds.imports.labels import Labels

_OTHER_TASKS = ("captions", "image_info", "panoptic", "person_keypoints", "stuff")


def read_labels(
    places: Sequence[pathlib.Path],
    photos: Sequence[pathlib.Path],
    names: Sequence[str],
    attribute: str | None,
    left: Counter[str],
) -> tuple[list[Labels], list[pathlib.Path]]:
    """All that label files say.

    Args:
      places: Files and folders.
      photos: Of `find_photos`; masks may be among them.
      names: Of YOLO's classes from 0, or of the masks' labels from 1.
      attribute: VIA's that names the category.
      left: Counts what is left out, by what it is.

    Returns:
      What they say, and the photos without the masks.

    Raises:
      CocoDataError: A file is missing, damaged or of an unknown kind.
    """
    files = _label_files(places, left)
    masks = _masks_among(files[".png"], photos, left)
    texts = files[".txt"]
    labels = list(read_yolo(texts, names or _listed(texts), left))
    labels += read_masks(masks, names) if masks else []
    for path in files[".json"]:
        labels += read_json(path, names, attribute, left)
    is_mask = {path.absolute() for path in masks}
    return labels, [path for path in photos if path not in is_mask]


def _label_files(
    places: Iterable[pathlib.Path], left: Counter[str]
) -> dict[str, list[pathlib.Path]]:
    """The label files by suffix; in a folder JSON goes before text, that before PNG."""
    found: dict[str, list[pathlib.Path]] = {".json": [], ".txt": [], ".png": []}
    for place in places:
        if not place.exists():
            raise CocoDataError(f"There is no file or folder {place}.")
        if not place.is_dir():
            if not place.is_file():
                raise CocoDataError(f"{place} is no regular file.")
            if place.suffix.lower() not in found:
                raise CocoDataError(
                    f"{place} is no label file: these are {', '.join(found)}."
                )
            found[place.suffix.lower()].append(place)
            continue
        inside = sorted(path for path in place.rglob("*") if path.is_file())
        for suffix, files in found.items():
            some = [path for path in inside if path.suffix.lower() == suffix]
            some = _only_labels(some, suffix, place, left)
            files += some
            if some:
                break
        else:
            raise CocoDataError(f"{place} has no label files: {', '.join(found)}.")
    return found


def _only_labels(
    paths: list[pathlib.Path], suffix: str, place: pathlib.Path, left: Counter[str]
) -> list[pathlib.Path]:
    """Of the files of one suffix in a folder those that hold labels."""
    paths = [path for path in paths if not path.name.startswith("README")]
    if suffix == ".json":
        if [path.name for path in paths] == ["notes.json"]:
            return []  # Label Studio's, beside text.
        if any(path.name.startswith("instances") for path in paths):
            own = [path for path in paths if not path.name.startswith(_OTHER_TASKS)]
            if others := len(paths) - len(own):
                left["JSON files of COCO's other tasks"] += others
            return own
    if suffix == ".txt":
        paths = [path for path in paths if path.name != "classes.txt"]
        # Beside a folder `labels` text lists the photos.
        own = [path for path in paths if "labels" in path.relative_to(place).parts[:-1]]
        return own or paths
    return paths


def _listed(paths: Iterable[pathlib.Path]) -> list[str]:
    """The names in a list or a `data.yaml` beside the files or above."""
    for path in paths:
        for folder in (path.parent, path.parent.parent, path.parent.parent.parent):
            for name in ("classes.txt", "obj.names"):
                if (file := folder / name).is_file():
                    return file.read_text("utf-8-sig").splitlines()
            if (file := folder / "data.yaml").is_file():
                return _names_of(file)
    return []


def _names_of(file: pathlib.Path) -> list[str]:
    """The names in the file with which Ultralytics' tools describe a dataset."""
    try:
        names = yaml.safe_load(file.read_bytes())["names"]
        if isinstance(names, dict):
            names = [names[number] for number in range(len(names))]
        return [str(name) for name in names]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise CocoDataError(
            f"{file} has no `names`, a list or numbered from 0 on ({error!r}). Correct"
            " it, or name the classes with --names."
        ) from error


def _masks_among(
    pictures: Sequence[pathlib.Path],
    photos: Sequence[pathlib.Path],
    left: Counter[str],
) -> list[pathlib.Path]:
    """Of PNGs those that are masks: photos, and what was drawn, may lie beside them."""
    among_photos, own = {*photos}, {path.absolute() for path in pictures}
    named = [path for path in pictures if path.stem.endswith(MASK_SUFFIX)]
    if named:
        # As `unet-train predict` leaves them, with overlays.
        others = own - among_photos - {path.absolute() for path in named}
        if others:
            left[f"PNGs beside those called {MASK_SUFFIX}"] += len(others)
        return named
    stems = {path.stem for path in photos if path not in own}
    return [
        path
        for path in pictures
        if path.absolute() not in among_photos or path.stem in stems
    ]
