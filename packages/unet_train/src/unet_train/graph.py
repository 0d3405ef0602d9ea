"""How functions become operations of a graph."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

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


def compiled_on_processors(function: Function) -> Function:
    """Has XLA compile a function where there is neither a GPU nor a TPU.

    There it is left to what it is called in, as the rest of a step is. Arguments that
    are no tensors must be hashable, and for each value of them it is compiled anew.

    ```python
    @compiled_on_processors
    def blur(planes, sigma, strongest): ...
    ```
    """
    compiled = tf.function(function, jit_compile=True, autograph=False)

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        devices = tf.config.list_logical_devices()
        if any(each.device_type in ("GPU", "TPU") for each in devices):
            return function(*arguments)
        return compiled(*arguments)

    return call  # type: ignore[return-value]
