"""The embedded sample: a small data set in COCO's layout, without COCO itself.

```python
write_sample("sample", train=64, validation=16)
```

writes

```
sample/annotations/instances_train2017.json   sample/train2017/*.jpg
sample/annotations/instances_val2017.json     sample/val2017/*.jpg
```

The cat is Chelsea, of a CC0 photograph of scikit-image: cut out along an outline drawn
by hand, turned, mirrored, scaled and lit at random, and pasted on other pictures (CC0
or public domain), which the splits do not share. A fifth of the images show no cat. In
some a bar hides a strip of the cat, so the annotation has several polygons; one image
of the training split shows a group of cats annotated as a crowd. What else there is to
see is not annotated, unless it is a cup and cups are asked for.

The pictures lie in this package, drawn by `packages/coco_cats_tfds/make_sample` of the
repository: nothing is downloaded.
"""

from __future__ import annotations

import importlib.resources
import json
import os
import pathlib
import tempfile
import zipfile

__all__ = ["write_sample"]

TRAIN_COUNT = 64
VALIDATION_COUNT = 16


def write_sample(
    directory: str | os.PathLike[str],
    *,
    train: int = TRAIN_COUNT,
    validation: int = VALIDATION_COUNT,
    cups: bool = False,
) -> None:
    """Writes the sample data set, or the first images of each split.

    ```python
    from coco_cats_tfds.sample import write_sample

    write_sample("sample", train=8, validation=4)
    # coco-cats build --manual_dir sample --data_dir OUT
    ```

    Everything is written beside the target first and renamed at the end, so an
    interrupted run leaves no half-made data set.

    Args:
      directory: Where to write. It may exist if it is empty; its parents are made.
      train: Number of training images, 1 to 64.
      validation: Number of validation images, 1 to 16.
      cups: Show cups too, a second class. The images are others than without.

    Raises:
      ValueError: The sample has no such number of images.
      FileExistsError: `directory` holds files already, or is no directory.
    """
    _check("train", train, TRAIN_COUNT)
    _check("validation", validation, VALIDATION_COUNT)
    target = pathlib.Path(directory).absolute()
    _refuse_occupied(target)

    target.parent.mkdir(parents=True, exist_ok=True)
    pictures = importlib.resources.files(__package__) / "sample.zip"
    with (
        tempfile.TemporaryDirectory(
            dir=target.parent, prefix=f".{target.name}-"
        ) as scratch,
        pictures.open("rb") as stream,
        zipfile.ZipFile(stream) as archive,
    ):
        # A directory of its own, since the scratch directory is closed to others.
        draft = pathlib.Path(scratch) / "sample"
        (draft / "annotations").mkdir(parents=True)
        source = zipfile.Path(archive, "cats_and_cups/" if cups else "cats/")
        _write_split(source, draft, "train2017", train)
        _write_split(source, draft, "val2017", validation)
        _refuse_occupied(target)
        if target.exists():
            target.rmdir()
        draft.rename(target)


def _check(name: str, count: int, most: int) -> None:
    if not 1 <= count <= most:
        raise ValueError(
            f"{name}={count}: the sample has 1 to {most} such images to give"
        )


def _refuse_occupied(target: pathlib.Path) -> None:
    if target.exists() and not target.is_dir():
        raise FileExistsError(f"{target} is no directory: choose another path")
    if target.exists() and any(target.iterdir()):
        raise FileExistsError(
            f"{target} is not empty, and nothing is overwritten: "
            "choose another directory or empty this one"
        )


def _write_split(
    source: zipfile.Path, draft: pathlib.Path, split: str, count: int
) -> None:
    """Writes the first images of a split, and what is said of them."""
    name = f"annotations/instances_{split}.json"
    instances = json.loads((source / name).read_bytes())
    instances["images"] = instances["images"][:count]
    kept = {image["id"] for image in instances["images"]}
    instances["annotations"] = [
        annotation
        for annotation in instances["annotations"]
        if annotation["image_id"] in kept
    ]
    (draft / name).write_bytes((json.dumps(instances) + "\n").encode("ascii"))
    (draft / split).mkdir()
    for image in instances["images"]:
        file = f"{split}/{image['file_name']}"
        (draft / file).write_bytes((source / file).read_bytes())
