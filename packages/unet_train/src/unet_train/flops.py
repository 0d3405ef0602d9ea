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

from unet_core.encoders.class_prior import without_class_prior
from unet_train.options import AnyPrecision

# Of the matrices whose product tells what a device can do: doubled until it takes long
# enough to tell.
_SIDES = (512, 1024, 2048, 4096, 8192, 16384)
_SECONDS = 0.05
# Axes of the kernel that each output adds up; a transposed one: that each input feeds.
_SUMMED_AXES = {"Conv2D": 3, "DepthwiseConv2dNative": 2, "Conv2DBackpropInput": 3}


def train_gflop(model: keras.Model, tile_size: int) -> float:
    """Work of the convolutions in one training step on one tile, in 10^9 operations.

    Counted on the graph as TensorFlow traces it, for whatever model it is. Forward, the
    gradients of all weights that are not frozen, and those of all activations that
    depend on such weights; a multiplication and an addition are two operations.
    """
    model = without_class_prior(model)
    image = tf.TensorSpec((1, tile_size, tile_size, model.input_shape[-1]))
    graph = tf.function(model, autograph=False).get_concrete_function(image).graph
    # What depends on no weight that moves needs no gradient: the image, and constants.
    moving = {id(weight.value.handle) for weight in model.trainable_variables}
    fixed = {graph.inputs[0].ref()}
    fixed |= {
        inside.ref() for outside, inside in graph.captures if id(outside) not in moving
    }
    work = 0.0
    for operation in graph.get_operations():
        inputs = [tensor.ref() for tensor in operation.inputs]
        if operation.type != "Placeholder" and fixed.issuperset(inputs):
            fixed.update(tensor.ref() for tensor in operation.outputs)
        if operation.type not in _SUMMED_AXES:
            continue
        transposed = operation.type == "Conv2DBackpropInput"
        source = operation.inputs[2 if transposed else 0]
        pixels = source if transposed else operation.outputs[0]
        kernel = operation.inputs[1]
        passes = 1 + (source.ref() not in fixed) + (kernel.ref() not in fixed)
        summed = kernel.shape[: _SUMMED_AXES[operation.type]]
        work += passes * 2 * math.prod(pixels.shape) * math.prod(summed)
    return work / 1e9


def matrix_product_gflops(precision: AnyPrecision) -> float:
    """The speed of a large matrix product here, in 10^9 operations a second."""
    dtype = tf.as_dtype(precision.removeprefix("mixed_"))
    for side in _SIDES:
        matrix = tf.cast(tf.random.stateless_normal((side, side), (0, 0)), dtype)
        seconds = _seconds_of_product(matrix)
        if seconds >= _SECONDS:
            break
    return 2 * side**3 / 1e9 / seconds


def _seconds_of_product(matrix: tf.Tensor) -> float:
    """Of a matrix by itself, the quickest of three after the one that compiles."""
    product = tf.function(lambda: tf.linalg.matmul(matrix, matrix)[0, 0])
    product().numpy()
    fastest = math.inf
    for _ in range(3):
        start = time.perf_counter()
        product().numpy()
        fastest = min(fastest, time.perf_counter() - start)
    return fastest
