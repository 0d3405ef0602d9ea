"""Tiles in other light and with parts missing: in batches, on any device.

What is done follows from what was drawn for each tile and from nothing else, so that a
tile can be made again. All of it runs in the graph of a step, where a GPU does it. On
processors each function is compiled by XLA: one operation after the other would pass
over the pixels in memory, which takes up to eight times as long.

```python
planes = vary_color(planes, factors)  # [N, 3, T, T] float32, 0 to 255
```

Keras's preprocessing layers would not do: they draw from a state in place of a seed,
and fill what a rotation brings in from outside with a colour in place of "ignored".
"""

from __future__ import annotations

import math

import tensorflow as tf

from unet_train.graph import compiled_on_processors

# What a part that is cut out is filled with.
_GREY = 127.0


@compiled_on_processors
def vary_color(planes: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """Varies brightness, then contrast, then saturation.

    Args:
      planes: float32 [N, 3, H, W].
      factors: float32 [N, 3], one for each of the three.
    """
    brightness, contrast, saturation = tf.unstack(factors[..., None, None, None], 3, 1)
    # Of whole numbers, whose sum does not depend on how they are shared out. That of a
    # line of them is exact in float32.
    lines = tf.reduce_sum(tf.round(planes), -1, keepdims=True)
    total = tf.reduce_sum(tf.cast(lines, tf.int64), [1, 2, 3], keepdims=True)
    count = tf.size(planes[0], tf.int64)
    mean = brightness * tf.cast(total, tf.float32) / tf.cast(count, tf.float32)
    planes = mean + (planes * brightness - mean) * contrast
    grey = tf.reduce_mean(planes, 1, keepdims=True)
    return grey + (planes - grey) * saturation


@compiled_on_processors
def blur(planes: tf.Tensor, sigma: tf.Tensor, strongest: float) -> tf.Tensor:
    """Blurs by a Gaussian.

    Args:
      planes: float32 [N, 3, H, W]; their border is mirrored.
      sigma: Standard deviation in pixels; float32 [N], above 0.
      strongest: What that is at most.
    """
    height, width = planes.shape[2:]
    radius = min(math.ceil(3 * strongest), height - 1, width - 1)
    offsets = tf.range(-radius, radius + 1.0)
    kernels = tf.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
    kernels /= tf.reduce_sum(kernels, 1, keepdims=True)
    shares = tf.unstack(kernels[..., None, None, None], axis=1)
    # A sum of shifted planes: convolutions of one channel take longer.
    padded = tf.pad(planes, [[0, 0], [0, 0], [radius] * 2, [0, 0]], "REFLECT")
    planes = tf.add_n(
        [share * padded[:, :, i : i + height] for i, share in enumerate(shares)]
    )
    padded = tf.pad(planes, [[0, 0], [0, 0], [0, 0], [radius] * 2], "REFLECT")
    return tf.add_n(
        [share * padded[..., i : i + width] for i, share in enumerate(shares)]
    )


@compiled_on_processors
def cut_out(
    planes: tf.Tensor, labels: tf.Tensor, ends: tf.Tensor, ignored: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Greys out a rectangle, and ignores it: nobody can know what is under it.

    Args:
      planes: float32 [N, 3, T, T].
      labels: [N, T, T, 1].
      ends: Of the rectangle's sides; float32 [N, 2, 2], for rows and for columns from
        where to where, in pixels.
      ignored: The label that it gets.
    """
    places = tf.range(float(planes.shape[2]))
    first, last = ends[..., 0, None], ends[..., 1, None]
    along = (places >= first) & (places < last)
    is_cut = along[:, 0, :, None] & along[:, 1, None, :]
    grey = tf.where(is_cut[:, None], _GREY, planes)
    ignored_label = tf.constant(ignored, labels.dtype)
    return grey, tf.where(is_cut[..., None], ignored_label, labels)
