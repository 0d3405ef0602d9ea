"""Event files of a run that goes on from an earlier step."""

from __future__ import annotations

import math
import pathlib

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorflow.core.util import event_pb2

from unet_train.runs.checkpoint import Checkpoints, step_of
from unet_train.runs.folder import CHECKPOINTS

# Where a file's last event is looked for, in bytes from its end.
_TAILS = (1 << 16, 1 << 20, 1 << 24)


def drop_events_after(directory: pathlib.Path, step: int) -> None:
    """Removes what a killed run wrote after the checkpoint that it goes on from.

    Without this TensorBoard would show those steps twice. A record that the kill tore
    is dropped too. A file in which nothing is to be dropped is left alone. Only the end
    is read of one whose last event is older than the checkpoint and of no later step:
    before the checkpoint nobody could tell of the steps after it.

    Args:
      directory: The run folder.
      step: Of the checkpoint.
    """
    saved = _saved_at(directory, step)
    for path in sorted(directory.glob("events.out.tfevents.*")):
        last = _last_event(path)
        if last is not None and last.step <= step and last.wall_time < saved:
            continue
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


def _saved_at(directory: pathlib.Path, step: int) -> float:
    """When the checkpoint of a step was written; -infinity if there is none."""
    for path in Checkpoints(directory / CHECKPOINTS, keep=0).all():
        if step_of(path) == step:
            return (path / "state.json").stat().st_mtime
    return -math.inf


def _last_event(path: pathlib.Path) -> event_pb2.Event | None:
    """The last event of a file, from its end; None if it is torn or hardly begun.

    A record is the length of its data (8 bytes), a checksum of that (4), the data, and
    a checksum of them (4). The last one begins where the length is what is left.
    """
    size = path.stat().st_size
    for length in _TAILS:
        with path.open("rb") as file:
            file.seek(max(0, size - length))
            tail = file.read()
        for shift in range(min(8, max(0, len(tail) - 15))):
            words = (len(tail) - shift) // 8
            lengths = np.frombuffer(tail, "<i8", words, shift)
            starts = shift + 8 * np.arange(words)
            for start in starts[lengths == len(tail) - 16 - starts]:
                event = _event_of(tail[start:])
                if event is not None:
                    return event
        if length >= size:
            break
    return None


def _event_of(record: bytes) -> event_pb2.Event | None:
    """The event in a record; None if that is none."""
    if masked_crc32c(record[:8]) != int.from_bytes(record[8:12], "little"):
        return None
    try:
        return event_pb2.Event.FromString(record[12:-4])
    except DecodeError:
        return None


def _read(path: pathlib.Path) -> tuple[list[bytes], bool]:
    """The whole records of a file, and whether more follows that is torn."""
    records: list[bytes] = []
    try:
        for record in tf.data.TFRecordDataset(str(path)):
            records.append(record.numpy())
    except tf.errors.DataLossError:
        return records, True
    return records, False
