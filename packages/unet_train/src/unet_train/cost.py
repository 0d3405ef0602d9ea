"""What a step costs, and what the machine could do at most.

```python
step_gflop = train_gflop(model, tile_size=572) * batch_size
share = step_gflop / seconds / matrix_product_gflops("float32")
```
"""

from __future__ import annotations

import math
import time

import keras
import tensorflow as tf

from unet_train.options import Precision

_SIDE = 2048
_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")


def train_gflop(model: keras.Model, tile_size: int) -> float:
    """Work of the convolutions in one training step on one tile, in 10^9 operations.

    Counted on the graph as TensorFlow traces it, for whatever model it is. Forward,
    gradients of all weights, and those of all activations but the image; a
    multiplication and an addition are two operations.
    """
    image = tf.TensorSpec((1, tile_size, tile_size, model.input_shape[-1]))
    graph = tf.function(model).get_concrete_function(image).graph
    forward, first = 0.0, 0.0
    for operation in graph.get_operations():
        if operation.type in _CONVOLUTIONS:
            outputs = math.prod(operation.outputs[0].shape)
            kernel = operation.inputs[1].shape
            work = 2 * outputs * math.prod(kernel[:3])
            first = first or work
        elif operation.type == "Conv2DBackpropInput":  # A transposed convolution.
            inputs = math.prod(operation.inputs[2].shape)
            work = 2 * inputs * math.prod(operation.inputs[1].shape[:3])
        else:
            continue
        forward += work
    return (3 * forward - first) / 1e9


def matrix_product_gflops(precision: Precision) -> float:
    """The speed of a large matrix product here, in 10^9 operations a second."""
    dtype = tf.as_dtype(precision.removeprefix("mixed_"))
    matrix = tf.cast(tf.random.stateless_normal((_SIDE, _SIDE), (0, 0)), dtype)
    product = tf.function(lambda: tf.linalg.matmul(matrix, matrix)[0, 0])
    fastest = math.inf
    for _ in range(4):
        start = time.perf_counter()
        product().numpy()
        fastest = min(fastest, time.perf_counter() - start)
    return 2 * _SIDE**3 / 1e9 / fastest
