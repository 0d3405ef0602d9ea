"""The build on Apache Beam: the same examples, made by as many machines as there are.

Every worker must be able to read the images, and the folder that the dataset is built
in: a folder that all share, or a bucket. What is to be drawn goes by files there,
and their names alone through the graph, which runners limit to some megabytes.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from etils import epath

from coco_cats_tfds.annotations import ImageRecord
from coco_cats_tfds.choice import Choice
from coco_cats_tfds.counts import Counts
from coco_cats_tfds.examples import Outcome, make_example
from coco_cats_tfds.sources import Source

# Images whose annotations lie in one file: what a worker reads at once.
_TOGETHER = 500
_SOURCE, _COUNTS = "source.pickle", "counts.json"


def generate_examples(
    records: Sequence[ImageRecord],
    source: Source,
    choice: Choice,
    *,
    folder: epath.Path,
) -> beam.PTransform:
    """A transform from nothing to (image id, example), for a TFDS split.

    Args:
      records: The images.
      source: Where their bytes are.
      choice: How to draw.
      folder: That all workers share, made for this; `read_counts` finds there what was
        counted. Remove it afterwards.
    """
    paths = _write_records(records, source, folder)

    def expand(pipeline: Any) -> Any:
        outcomes = (
            pipeline
            | "Files" >> beam.Create(paths)
            | "SpreadFiles" >> beam.Reshuffle()
            | "Records" >> beam.FlatMap(_read)
            | "SpreadOverWorkers" >> beam.Reshuffle()
            | "MakeExample" >> beam.ParDo(_MakeExample(str(folder / _SOURCE), choice))
        )
        _ = (
            outcomes
            | "CountsOf" >> beam.Map(_counts)
            | "Sum" >> beam.CombineGlobally(_sum)
            | "WriteCounts" >> beam.Map(_write, path=str(folder / _COUNTS))
        )
        return outcomes | "Examples" >> beam.FlatMap(_keyed)

    return beam.ptransform_fn(expand)()


def read_counts(folder: epath.Path) -> Counts:
    """What the pipeline counted."""
    return Counts.from_json(json.loads((folder / _COUNTS).read_text()))


class _MakeExample(beam.DoFn):
    """Makes examples from a source that each worker reads once."""

    def __init__(self, source_path: str, choice: Choice) -> None:
        self._source_path, self._choice = source_path, choice

    def setup(self) -> None:
        self._source: Source = _read(self._source_path)

    def process(self, record: ImageRecord) -> Iterator[Outcome]:
        yield make_example(record, source=self._source, choice=self._choice)


def _write_records(
    records: Sequence[ImageRecord], source: Source, folder: epath.Path
) -> list[str]:
    """Files of some records each, and one of the source; the paths of the former."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _SOURCE).write_bytes(pickle.dumps(source))
    paths = []
    for start in range(0, len(records), _TOGETHER):
        path = folder / f"{start:09d}.pickle"
        path.write_bytes(pickle.dumps(records[start : start + _TOGETHER]))
        paths.append(str(path))
    return paths


def _read(path: str) -> Any:
    """What this build wrote."""
    return pickle.loads(epath.Path(path).read_bytes())


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
