"""The build on Apache Beam: the same examples, made by as many machines as there are.

Every worker must be able to read the images: a folder that all share, or a bucket.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
from etils import epath

from coco_cats_tfds.annotations import ImageRecord
from coco_cats_tfds.choice import Choice
from coco_cats_tfds.counts import Counts
from coco_cats_tfds.examples import Outcome, make_example
from coco_cats_tfds.sources import Source


def generate_examples(
    records: Sequence[ImageRecord],
    source: Source,
    choice: Choice,
    *,
    counts_path: epath.Path,
) -> beam.PTransform:
    """A transform from nothing to (image id, example), for a TFDS split.

    Args:
      records: The images.
      source: Where their bytes are.
      choice: How to draw.
      counts_path: Where to write what was counted, for `read_counts`.
    """
    make = functools.partial(make_example, source=source, choice=choice)

    def expand(pipeline: Any) -> Any:
        outcomes = (
            pipeline
            | "Records" >> beam.Create(records)
            | "SpreadOverWorkers" >> beam.Reshuffle()
            | "MakeExample" >> beam.Map(make)
        )
        _ = (
            outcomes
            | "CountsOf" >> beam.Map(_counts)
            | "Sum" >> beam.CombineGlobally(_sum)
            | "WriteCounts" >> beam.Map(_write, path=str(counts_path))
        )
        return outcomes | "Examples" >> beam.FlatMap(_keyed)

    return beam.ptransform_fn(expand)()


def read_counts(path: epath.Path) -> Counts:
    """What the pipeline counted."""
    return Counts.from_json(json.loads(path.read_text()))


def _counts(outcome: Outcome) -> Counts:
    return outcome.counts


def _sum(counts: Iterable[Counts]) -> Counts:
    return sum(counts, start=Counts())


def _write(counts: Counts, path: str) -> None:
    counts.check_something_is_left()
    epath.Path(path).write_text(json.dumps(counts.as_json()))


def _keyed(outcome: Outcome) -> list[tuple[int, dict[str, Any]]]:
    if outcome.example is None:
        return []
    return [(outcome.example["image/id"], outcome.example)]
