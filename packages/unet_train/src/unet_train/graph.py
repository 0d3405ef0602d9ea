"""Functions that say themselves what is computed in the graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import tensorflow as tf

Function = TypeVar("Function", bound=Callable[..., object])


def as_written(function: Function) -> Function:
    """Leaves a function, and what it calls, as it is written.

    TensorFlow otherwise reads the source of every function of a graph, to make its `if`
    and `for` over tensors into operations: a third of the time before the first step.
    Ours have none. Those of a task of one's own are still read.

    ```python
    @as_written
    def train_step(self, batch): ...
    ```
    """
    left: Function = tf.autograph.experimental.do_not_convert(function)
    return left
