"""Records whose bytes depend on their content alone.

TFDS serializes an example's features in the order of a hash map, which differs from
process to process.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import tensorflow as tf
from tensorflow_datasets.core import writer


class DeterministicExampleWriter(writer.ExampleWriter):
    """TFDS's writer, with the features of each example in the order of their names."""

    def write(
        self, path: str | os.PathLike[str], examples: Iterable[tuple[Any, bytes]]
    ) -> Any:
        """Writes one shard; see TFDS."""
        return super().write(path, ((key, _in_order(each)) for key, each in examples))


def _in_order(serialized: bytes) -> bytes:
    example = tf.train.Example.FromString(serialized)
    return bytes(example.SerializeToString(deterministic=True))
