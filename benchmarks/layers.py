"""The 3x3 convolutions of the recipes, in each of `speed_up`'s ways and in Keras's.

    python benchmarks/layers.py [--precision mixed_bfloat16] [--turns 7]

Prints one JSON line: for each shape in the networks that the configurations describe,
how many times as fast as Keras's layer the outputs and both gradients are in each way.
`speed_up` takes that which is `chosen`; its rule is right on a machine where all those
are above 1. The ways take turns, and the medians are compared.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from unet_core import UNetConfig, build_unet
from unet_train.task.layers import (
    convolve_apart_from_bias,
    convolve_by_convolutions,
    convolve_by_products,
    convolve_large_by_products,
    quicker_way,
    uses_onednn,
)

WAYS = {
    "products": convolve_by_products,
    "large_by_products": convolve_large_by_products,
    "apart_from_bias": convolve_apart_from_bias,
    "convolutions": convolve_by_convolutions,
}

# Tiles a step (fewer than there where they are large), their side, and the network of
# each configuration.
RECIPES: dict[str, tuple[int, int, dict[str, Any]]] = {
    "sample": (4, 160, {"depth": 3, "base_filters": 16, "padding": "same"}),
    "feral_cats": (12, 320, {"encoder": "efficientnet_lite0"}),
    "coco_cats_pretrained": (2, 512, {"encoder": "efficientnet_lite2"}),
    "coco_cats": (1, 572, {"depth": 4, "base_filters": 64}),
}
# Of image and kernel; padding, and whether there is a bias.
Shape = tuple[tuple[int, ...], tuple[int, ...], str, bool]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--recipes", nargs="+", default=[*RECIPES])
    options = parser.parse_args()
    dtype = tf.as_dtype(options.precision.removeprefix("mixed_"))
    rows = []
    for recipe in options.recipes:
        for shape in shapes(recipe):
            image, kernel, padding, use_bias = shape
            way = quicker_way(*kernel[2:], use_bias=use_bias)
            rows.append(
                {
                    "recipe": recipe,
                    "image": image,
                    "channels": kernel[2:],
                    "padding": padding,
                    "bias": use_bias,
                    "times_as_fast": times_as_fast(shape, dtype, options.turns),
                    "chosen": next((name for name in WAYS if WAYS[name] is way), None),
                }
            )
    chosen = [row["times_as_fast"][row["chosen"]] for row in rows if row["chosen"]]
    record = {
        "benchmark": "layers",
        "precision": options.precision,
        "onednn": uses_onednn(),
        "least_of_chosen": min(chosen, default=None),
        "layers": rows,
    }
    print(json.dumps(record))


def shapes(recipe: str) -> list[Shape]:
    """Of the dense 3x3 convolutions, each once."""
    batch, side, options = RECIPES[recipe]
    model = build_unet(UNetConfig(**options))
    found: dict[Shape, None] = {}
    for layer in model._flatten_layers(include_self=False):
        is_dense = type(layer) is keras.layers.Conv2D and layer.groups == 1
        if is_dense and (layer.kernel_size, layer.strides) == ((3, 3), (1, 1)):
            layer.convolution_op = recorder(layer, found)
    tf.function(model).get_concrete_function(tf.TensorSpec((batch, side, side, 3)))
    return [*found]


def recorder(
    layer: keras.layers.Conv2D, found: dict[Shape, None]
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """The layer's convolution, which notes what it is given."""
    convolve = layer.convolution_op

    def record(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        padding = layer.padding.upper()
        shape = tuple(inputs.shape), tuple(kernel.shape), padding, layer.use_bias
        found[shape] = None
        return convolve(inputs, kernel)

    return record


def times_as_fast(shape: Shape, dtype: tf.DType, turns: int) -> dict[str, float]:
    """Keras's median by that of each way."""
    image_shape, kernel_shape, padding, use_bias = shape
    image = tf.cast(tf.random.normal(image_shape), dtype)
    kernel = tf.cast(tf.random.normal(kernel_shape), dtype)
    runs = {"keras": gradients_by(lambda *of: tf.nn.conv2d(*of, 1, padding), use_bias)}
    runs |= {name: gradients_by(way(padding), use_bias) for name, way in WAYS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(turns + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            for value in run(image, kernel):
                value.numpy()
            if turn:  # The first traces.
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    return {name: round(medians["keras"] / medians[name], 2) for name in WAYS}


def gradients_by(
    convolve: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], use_bias: bool
) -> Callable[[tf.Tensor, tf.Tensor], list[tf.Tensor]]:
    """A function of image and kernel: sums of the gradients, as of a layer's."""

    @tf.function
    def run(image: tf.Tensor, kernel: tf.Tensor) -> list[tf.Tensor]:
        sources = [image, kernel]
        if use_bias:
            sources.append(tf.zeros(kernel.shape[-1], kernel.dtype))
        with tf.GradientTape() as tape:
            tape.watch(sources)
            outputs = convolve(image, kernel)
            if use_bias:
                outputs = tf.nn.bias_add(outputs, sources[2])
        gradients = tape.gradient(outputs, sources, outputs)
        return [tf.reduce_sum(each) for each in gradients]

    return run


if __name__ == "__main__":
    main()
