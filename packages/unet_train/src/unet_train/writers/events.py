"""Event files of a run that goes on from an earlier step."""

from __future__ import annotations

import pathlib

import tensorflow as tf
from tensorflow.core.util import event_pb2


def drop_events_after(directory: pathlib.Path, step: int) -> None:
    """Removes what a killed run wrote after the checkpoint that it goes on from.

    Without this TensorBoard would show those steps twice. A record that the kill tore
    is dropped too. A file in which nothing is to be dropped is left alone.
    """
    for path in sorted(directory.glob("events.out.tfevents.*")):
        records, is_torn = _read(path)
        kept = [
            record
            for record in records
            if (event := event_pb2.Event.FromString(record)).step <= step
            or not event.HasField("summary")
        ]
        if not is_torn and len(kept) == len(records):
            continue
        partial = path.with_name(f"partial.{path.name}")
        with tf.io.TFRecordWriter(str(partial)) as writer:
            for record in kept:
                writer.write(record)
        partial.replace(path)


def _read(path: pathlib.Path) -> tuple[list[bytes], bool]:
    """The whole records of a file, and whether more follows that is torn."""
    records: list[bytes] = []
    try:
        for record in tf.data.TFRecordDataset(str(path)):
            records.append(record.numpy())
    except tf.errors.DataLossError:
        return records, True
    return records, False
