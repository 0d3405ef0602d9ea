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
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unet_train.runs.folder import METRICS
from unet_train.scoring.bootstrap import interval, resampled
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

    Raises:
      ValueError: Nothing, or something else.
    """
    folder = pathlib.Path(run_dir)
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

    Args:
      records: Of `read_evaluation`, two or more.
      seed: Of the drawing of images.

    Raises:
      ValueError: They are not of the same images.
    """
    first, *others = records
    for other in others:
        _require_same_images(first, other)
    tables = [counts_table(record["image_counts"]) for record in records]
    values = [_scores(np.ones((1, len(table))), table) for table in tables]
    samples = [
        resampled(len(table), functools.partial(_scores, table=table), seed=seed)
        for table in tables
    ]
    return [
        Row(
            score,
            [float(each[score][0]) for each in values],
            [float((each[score] - values[0][score])[0]) for each in values],
            [interval(each[score] - samples[0][score]) for each in samples],
        )
        for score in SCORES
        if not np.isnan(values[0][score]).any()
    ]


def _scores(drawn: Floats, table: npt.NDArray[np.int64]) -> dict[str, Floats]:
    """Scores of data sets [sets, images] that have each image so many times."""
    return {
        **ratios(drawn @ table),
        "mean_image_iou": drawn @ ratios(table)["iou"] / len(table),
        "false_area": false_area_of(drawn, false_shares(table)),
    }


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
