"""Functions written in operations of the graph, which AutoGraph need not rewrite."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import tensorflow as tf

Function = TypeVar("Function", bound=Callable[..., object])


def as_written(function: Function) -> Function:
    """Leaves a function, and what it calls, as it is written.

    AutoGraph otherwise parses every function of a graph, to make its `if` and `for`
    over tensors into operations, which takes seconds before a first step. This is for
    functions that have none, and call none of a user's own, such as a loss: in them
    such an `if` is an error of TensorFlow's.

    ```python
    @as_written
    def make_tile(records, options): ...
    ```
    """
    left: Function = tf.autograph.experimental.do_not_convert(function)
    return left
