"""What a model's layers compute in, and by which operations.

```python
set_precision(model, "mixed_bfloat16")
speed_up(model, on_cpu=True)
```

The layers stay Keras's own, with the same weights, and the results are the same but for
rounding, so a saved model is not affected. Measured by `benchmarks/train_step.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import tensorflow as tf

from unet_train.options import Precision

Convolution = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

# With oneDNN a filter's gradient is quicker as matrix products from so many input
# channels on; in float32, of an image of so many pixels, from fewer.
MANY_CHANNELS = 256
MANY_CHANNELS_OF_MANY_PIXELS, MANY_PIXELS = 128, 10_000
# Without it gradients are quicker as convolutions. Not those of a layer with so many
# input times output channels: it has few pixels, and its filter is turned at each step.
MANY_WEIGHTS = 512 * 1024
# Nor with so few products of pixels, input and output channels.
FEW_PRODUCTS = 50_000_000

_IN_FLOAT32 = (keras.layers.Rescaling, keras.Model)


def set_precision(model: keras.Model, precision: Precision) -> None:
    """Sets what all layers compute in, those of models within the model too.

    Input scaling and logits keep float32. So do inner models as such: they would round
    what they are given, be it an image, before their layers see it.
    """
    kept = _output_layers(model.outputs)
    for layer in model._flatten_layers(include_self=False):
        is_kept = layer in kept or isinstance(layer, _IN_FLOAT32)
        layer.dtype_policy = keras.DTypePolicy("float32" if is_kept else precision)


def _output_layers(outputs: Iterable[keras.KerasTensor]) -> set[keras.Layer]:
    """The layers that give these outputs, in the innermost models.

    A sum is given by what it adds up: rounded before, it would be rounded all the same.
    """
    found: set[keras.Layer] = set()
    for tensor in outputs:
        layer, node, index = tensor._keras_history
        if isinstance(layer, keras.Model) and getattr(layer, "outputs", None):
            found |= _output_layers([layer.outputs[index]])
        elif isinstance(layer, keras.Layer):
            found |= {*layer._flatten_layers()}
        if isinstance(layer, keras.layers.Add):
            found |= _output_layers(layer._inbound_nodes[node].input_tensors)
    return found


def weights_by_place(
    model: keras.Model,
) -> Iterator[tuple[tuple[str, int], keras.Variable]]:
    """All weights, by the name of the outermost layer and their number in it.

    Unlike a weight's path, this is another one for each, and the same in a clone of the
    model or of a part of it. A layer that lies in two models is there twice.
    """
    for layer in model.layers:
        for number, weight in enumerate(layer.weights):
            yield (layer.name, number), weight


def speed_up(model: keras.Model, *, on_cpu: bool) -> None:
    """Has the layers of a model train by quicker operations. Twice changes nothing.

    Args:
      model: Its batch norms and, on a CPU, its 3x3 convolutions are changed, those of
        models within it too, as far as they are of the plain kind.
      on_cpu: Whether it trains on one; on a GPU the convolutions are left to cuDNN.
    """
    for layer in model._flatten_layers(include_self=False):
        if not layer.built or vars(layer).keys() & {"call", "convolution_op"}:
            continue
        if type(layer) is keras.layers.BatchNormalization and _is_plain_norm(layer):
            layer.call = functools.wraps(layer.call)(
                functools.partial(_fused_norm, layer, layer.call)
            )
        elif type(layer) is keras.layers.Cropping2D and _has_channels_last(layer):
            layer.call = functools.partial(_crop, layer.cropping)
        elif type(layer) is keras.layers.Conv2D and on_cpu and _is_plain_conv(layer):
            way = quicker_way(*layer.kernel.shape[2:], use_bias=layer.use_bias)
            if way is not None:
                layer.convolution_op = way(layer.padding.upper())


def _is_plain_norm(layer: keras.layers.BatchNormalization) -> bool:
    is_of_images = layer.input_spec.ndim == 4 and layer.axis in (-1, 3)
    return is_of_images and not layer.synchronized and not layer.renorm


def _is_plain_conv(layer: keras.layers.Conv2D) -> bool:
    is_3x3 = layer.kernel_size == (3, 3) and layer.padding in ("same", "valid")
    is_dense = layer.strides == layer.dilation_rate == (1, 1) and layer.groups == 1
    return is_3x3 and is_dense and _has_channels_last(layer)


def _has_channels_last(layer: keras.layers.Conv2D | keras.layers.Cropping2D) -> bool:
    return bool(layer.data_format == "channels_last")


def _fused_norm(
    layer: keras.layers.BatchNormalization,
    call: Callable[..., tf.Tensor],
    inputs: tf.Tensor,
    training: bool | None = None,
    mask: Any = None,
) -> tf.Tensor:
    """Normalises with the batch's statistics and moves those kept for prediction.

    A frozen one normalises with the latter, and leaves them as they are.

    Keras 3 does this in some twenty operations on float32, each of which goes through
    memory once more; TensorFlow has one, forward and backward.
    """
    if not training or mask is not None:
        return call(inputs, training=training, mask=mask)
    inputs = tf.cast(inputs, layer.compute_dtype)
    channels = inputs.shape[-1]
    frozen = {"mean": layer.moving_mean.value, "variance": layer.moving_variance.value}
    outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
        inputs,
        scale=layer.gamma.value if layer.scale else tf.ones(channels),
        offset=layer.beta.value if layer.center else tf.zeros(channels),
        epsilon=layer.epsilon,
        is_training=layer.trainable,
        **({} if layer.trainable else frozen),
    )
    if not layer.trainable:
        return outputs
    # The operation gives the variance of the population that a sample speaks for; Keras
    # keeps that of the sample.
    count = tf.cast(tf.size(inputs) // channels, tf.float32)
    variance *= (count - 1) / count
    for kept, now in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        kept.assign(kept * layer.momentum + now * (1 - layer.momentum))
    return outputs


def _crop(
    cropping: tuple[tuple[int, int], tuple[int, int]], inputs: tf.Tensor
) -> tf.Tensor:
    """Cuts with `tf.slice`, whose gradient pads; that of Keras's indexing is slow."""
    (top, bottom), (left, right) = cropping
    height = tf.shape(inputs)[1] - top - bottom
    width = tf.shape(inputs)[2] - left - right
    return tf.slice(inputs, [0, top, left, 0], [-1, height, width, -1])


def convolve_by_products(padding: str) -> Convolution:
    """A 3x3 convolution whose filter's gradient is nine matrix products.

    The gradient of one of the nine weights of a filter is the product of the image,
    shifted by where the weight stands, and the gradient of the output, both as matrices
    of pixels by channels. The latter has zeros around it, to be as large as the image:
    then a shift is a place in the list of pixels to begin at, and nothing is copied.
    """

    def of_kernel(
        inputs: tf.Tensor, kernel: tf.Tensor, upstream: tf.Tensor
    ) -> tf.Tensor:
        if padding == "SAME":
            inputs = tf.pad(inputs, [[0, 0], [1, 1], [1, 1], [0, 0]])
        upstream = tf.pad(upstream, [[0, 0], [0, 2], [0, 2], [0, 0]])
        image = tf.reshape(inputs, [-1, kernel.shape[2]])
        gradient = tf.reshape(upstream, [-1, kernel.shape[3]])
        width = tf.shape(inputs)[2]
        # The last shift begins so many pixels behind the first.
        count = tf.shape(image)[0] - (2 * width + 2)
        products = [
            tf.linalg.matmul(
                image[start : start + count], gradient[:count], transpose_a=True
            )
            for start in (
                row * width + column for row in range(3) for column in range(3)
            )
        ]
        return tf.reshape(tf.stack(products), kernel.shape)

    return _with_gradient_of_kernel(padding, of_kernel)


def convolve_apart_from_bias(padding: str) -> Convolution:
    """A 3x3 convolution whose filter's gradient is not computed with the bias's.

    TensorFlow with oneDNN makes one operation of both, up to five times as slow in
    float32; a check of the shape keeps them apart. In 16 bits it is Keras's own.
    """

    def of_kernel(
        inputs: tf.Tensor, kernel: tf.Tensor, upstream: tf.Tensor
    ) -> tf.Tensor:
        return tf.raw_ops.Conv2DBackpropFilter(
            input=inputs,
            filter_sizes=kernel.shape,
            out_backprop=tf.ensure_shape(upstream, upstream.shape),
            strides=[1, 1, 1, 1],
            padding=padding,
        )

    apart = _with_gradient_of_kernel(padding, of_kernel)
    own = _of_layer(lambda inputs, kernel: tf.nn.conv2d(inputs, kernel, 1, padding))
    return lambda inputs, kernel: (apart if inputs.dtype == tf.float32 else own)(
        inputs, kernel
    )


def convolve_large_by_products(padding: str) -> Convolution:
    """`convolve_by_products` of large images in float32, else apart from the bias."""
    products, apart = convolve_by_products(padding), convolve_apart_from_bias(padding)

    def choose(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        is_large = (inputs.shape[1:3].num_elements() or 0) >= MANY_PIXELS
        gains = is_large and inputs.dtype == tf.float32
        return (products if gains else apart)(inputs, kernel)

    return choose


def _with_gradient_of_kernel(
    padding: str, of_kernel: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
) -> Convolution:
    @tf.custom_gradient
    def convolve(inputs: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Any]:
        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            of_inputs = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(inputs),
                filter=kernel,
                out_backprop=upstream,
                strides=[1, 1, 1, 1],
                padding=padding,
            )
            return of_inputs, of_kernel(inputs, kernel, upstream)

        return tf.nn.conv2d(inputs, kernel, 1, padding), gradient

    return _of_layer(convolve)


def convolve_by_convolutions(padding: str) -> Convolution:
    """A 3x3 convolution of which both gradients are convolutions, too.

    That of the image is the convolution of the output's with the filter, turned by half
    and its channels exchanged. That of the filter has the output's as its filter, and
    the image as its input: channels stand for images there, and images for channels.
    Without oneDNN TensorFlow is up to twice as quick at these as at its own gradients.
    In 16 bits the latter are left to it, as sums over so many pixels need more; so are
    those of few pixels and channels.
    """
    border = 1 if padding == "SAME" else 0

    def around(pixels: int) -> list[list[int]]:
        return [[0, 0], [pixels, pixels], [pixels, pixels], [0, 0]]

    @tf.custom_gradient
    def convolve(inputs: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Any]:
        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            turned = tf.transpose(kernel[::-1, ::-1], [0, 1, 3, 2])
            of_inputs = tf.nn.conv2d(upstream, turned, 1, around(2 - border))
            image = tf.transpose(inputs, [3, 1, 2, 0])
            filters = tf.transpose(upstream, [1, 2, 0, 3])
            of_kernel = tf.nn.conv2d(image, filters, 1, around(border))
            return of_inputs, tf.transpose(of_kernel, [1, 2, 0, 3])

        return tf.nn.conv2d(inputs, kernel, 1, padding), gradient

    def convolve_where_it_gains(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        numbers = inputs.shape.num_elements()
        is_small = numbers and numbers * kernel.shape[-1] < FEW_PRODUCTS
        if inputs.dtype != tf.float32 or is_small:
            return tf.nn.conv2d(inputs, kernel, 1, padding)
        return convolve(inputs, kernel)

    return _of_layer(convolve_where_it_gains)


def quicker_way(
    channels: int, filters: int, *, use_bias: bool
) -> Callable[[str], Convolution] | None:
    """What 3x3 convolutions are made by on this CPU; None for Keras's own.

    A rule and no measurement, which could come out otherwise when a run is resumed.
    `benchmarks/layers.py` measures it.

    Args:
      channels: Of the input.
      filters: Channels of the output.
      use_bias: Whether a bias is added to it.
    """
    if not uses_onednn():
        is_large = channels * filters >= MANY_WEIGHTS
        return None if is_large else convolve_by_convolutions
    if channels >= MANY_CHANNELS:
        return convolve_by_products
    if channels >= MANY_CHANNELS_OF_MANY_PIXELS:
        return convolve_large_by_products
    return convolve_apart_from_bias if use_bias else None


def uses_onednn() -> bool:
    """Whether TensorFlow has oneDNN compute convolutions, as it was started here."""
    try:
        # It has no public name.
        from tensorflow.python.util import _pywrap_util_port
    except ImportError:
        return True
    return bool(_pywrap_util_port.IsMklEnabled())


def _of_layer(convolve: Convolution) -> Convolution:
    """As a layer calls it, with its variable as the filter."""
    return lambda inputs, kernel: convolve(
        inputs, tf.cast(keras.ops.convert_to_tensor(kernel), inputs.dtype)
    )
