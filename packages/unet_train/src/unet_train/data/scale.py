"""Sizes of images and masks.

```python
image = resize_image(image, (192, 256))  # [H, W, 3] uint8, antialiased
```
"""

from __future__ import annotations

import tensorflow as tf


def scaled_size(
    shape: tf.Tensor, longer_side: tf.Tensor, aspect: tf.Tensor | None = None
) -> tf.Tensor:
    """Height and width after scaling the longer side; int32 [2], at least 1.

    Args:
      shape: int32, begins with height and width in pixels.
      longer_side: What the longer of the two becomes, in pixels, may be fractional.
      aspect: By how much width over height then grows, at the same area.
    """
    size = tf.cast(shape[:2], tf.float32)
    scale = tf.cast(longer_side, tf.float32) / tf.reduce_max(size)
    if aspect is not None:
        size *= tf.stack([1 / tf.sqrt(aspect), tf.sqrt(aspect)])
    return tf.maximum(tf.cast(tf.round(size * scale), tf.int32), 1)


def resize_image(image: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Resizes uint8 [H, W, C] to uint8 [size[0], size[1], C], antialiased."""
    return to_uint8(tf.image.resize(image, size, antialias=True))


def resize_mask(mask: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Resizes a mask to the nearest neighbour: labels are never mixed."""
    return tf.image.resize(mask, size, method="nearest")


def random_scale(jitter: float, seed: tf.Tensor) -> tf.Tensor:
    """A factor from 1 / (1 + jitter) to 1 + jitter, as likely to shrink as to grow."""
    limit = tf.math.log(1.0 + jitter)
    return tf.exp(tf.random.stateless_uniform([], seed, -limit, limit))


def to_uint8(pixels: tf.Tensor) -> tf.Tensor:
    """The nearest whole numbers from 0 to 255."""
    return tf.cast(tf.round(tf.clip_by_value(pixels, 0, 255)), tf.uint8)
