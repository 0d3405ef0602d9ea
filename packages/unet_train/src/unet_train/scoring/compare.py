"""Sets evaluations of runs side by side, on the same images.

```python
records = [read_evaluation("runs/a"), read_evaluation("runs/b")]
for row in compare(records):
    print(row.score, row.values, row.differences)
```
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unet_train.runs.folder import METRICS
from unet_train.runs.remote import to_read
from unet_train.scoring.bootstrap import interval, resampled
from unet_train.scoring.classes import class_samples
from unet_train.scoring.counts import (
    Floats,
    ImageCounts,
    counts_table,
    false_area_of,
    false_shares,
    ratios,
)
from unet_train.scoring.report import FOLDER

SCORES = (
    "iou",
    "false_area",
    "dice",
    "precision",
    "recall",
    "boundary_iou",
    "mean_image_iou",
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One score of several runs.

    ```python
    from unet_train.scoring.compare import Row

    row = Row("iou", [0.80, 0.85], [0.05], [(0.02, 0.08)])
    least, most = row.intervals[0]
    print("better" if least > 0 else "may be chance")
    ```

    Attributes:
      score: Its name.
      values: Of each run.
      differences: Of each run to the first.
      intervals: Between which 95% of these differences lie if the images are drawn
        anew, the same for both runs (paired bootstrap).
    """

    score: str
    values: list[float]
    differences: list[float]
    intervals: list[tuple[float, float]]


def read_evaluation(run_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """What `unet-train evaluate` wrote for a run, or into a folder given to it.

    ```python
    from unet_train.scoring.compare import read_evaluation

    read_evaluation("runs/cats")["iou"]
    ```

    Raises:
      ValueError: Nothing, or something else.
    """
    folder = to_read(run_dir)
    inner = folder / FOLDER
    path = (inner if inner.is_dir() else folder) / METRICS
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        record["image_counts"] = [
            ImageCounts(**each) for each in record["image_counts"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{run_dir} has no evaluation: cannot read {path} ({error!r}). Run"
            f" `unet-train evaluate --run_dir {run_dir}` first."
        ) from error
    return dict(record)


def compare(records: Sequence[dict[str, Any]], *, seed: int = 0) -> list[Row]:
    """The scores of runs, and how sure the differences to the first are.

    ```python
    from unet_train.scoring.compare import compare, read_evaluation

    records = [read_evaluation("runs/cats"), read_evaluation("runs/cats")]
    for row in compare(records):
        print(row.score, row.values, row.differences)
    ```

    Args:
      records: Of `read_evaluation`, two or more.
      seed: Of the drawing of images.

    Raises:
      ValueError: They are not of the same images.
    """
    first, *others = records
    for other in others:
        _require_same_images(first, other)
    names = [
        name
        for name in first.get("classes", ())
        if all(name in other.get("classes", ()) for other in others)
    ]
    tables = [counts_table(record["image_counts"]) for record in records]
    of_classes = [_class_table(record, names) for record in records]
    count = len(tables[0])
    values, samples = [], []
    for pair in zip(tables, of_classes, strict=True):
        compute = functools.partial(_scores, names, *pair)
        values.append(compute(np.ones((1, count))))
        samples.append(resampled(count, compute, seed=seed))
    # Of classes that some run found where there are none, others have no score.
    scored = [score for score in values[0] if all(score in each for each in values)]
    if any(len(record.get("classes", ())) != len(names) for record in records):
        scored = [score for score in scored if score != "mean_iou"]
    return [
        Row(
            score,
            [float(each[score][0]) for each in values],
            [float((each[score] - values[0][score])[0]) for each in values],
            [interval(each[score] - samples[0][score]) for each in samples],
        )
        for score in sorted(scored, key=_place)
        if not np.isnan(values[0][score]).any()
    ]


def _class_table(record: dict[str, Any], names: Sequence[str]) -> npt.NDArray[np.int64]:
    """Counts of these classes, [images, n, 6]; n = 0 if the record has none of them."""
    images = record.get("class_counts", [])
    counts = [[image.get(name, [0] * 6) for name in names] for image in images]
    count = len(record["image_counts"])
    return np.array(counts, np.int64).reshape(count, len(names) if images else 0, 6)


def _scores(
    names: Sequence[str],
    table: npt.NDArray[np.int64],
    of_classes: npt.NDArray[np.int64],
    drawn: Floats,
) -> dict[str, Floats]:
    """Scores of data sets [sets, images] that have each image so many times."""
    classes = class_samples(names, of_classes, drawn)
    return {
        **ratios(drawn @ table),
        "mean_image_iou": drawn @ ratios(table)["iou"] / len(table),
        "false_area": false_area_of(drawn, false_shares(table)),
        **{name: classes[name] for name in classes if _is_iou(name)},
    }


def _is_iou(score: str) -> bool:
    """Of all that is known of classes, what is set side by side."""
    return score == "mean_iou" or score.startswith("iou/")


def _place(score: str) -> int:
    """In the table: classes first, their mean before each, then the foreground."""
    return -2 if score == "mean_iou" else -1 if _is_iou(score) else SCORES.index(score)


def _require_same_images(first: dict[str, Any], other: dict[str, Any]) -> None:
    ids = [
        [(image.id, image.foreground) for image in record["image_counts"]]
        for record in (first, other)
    ]
    if not ids[0] or ids[0] != ids[1]:
        raise ValueError(
            f"{first['run']} was evaluated on {len(ids[0])} images of"
            f" {first['dataset']}, {first['split']}, and {other['run']} on"
            f" {len(ids[1])} of {other['dataset']}, {other['split']}, which are not the"
            " same. Evaluate both on the same data with `unet-train evaluate --split`."
        )
