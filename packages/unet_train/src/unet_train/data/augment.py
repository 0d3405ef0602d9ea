"""Image and mask together: resize, mirror, paste, cut out, vary the light.

Every random choice is a pure function of a seed, so that a tile can be made again:

```python
image = resize_image(image, (192, 256))  # [H, W, 3] uint8, antialiased
image, mask = random_mirror(image, mask, seed)
```

Keras's preprocessing layers would not do: they draw from a state in place of a seed,
and fill what a rotation brings in from outside with a colour in place of "ignored".
"""

from __future__ import annotations

import math

import tensorflow as tf

from unet_train.data.cut import mirrored_index, to_uint8
from unet_train.data.labels import IGNORE, is_foreground


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


def random_mirror(
    image: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor, *, axis: int = 1
) -> tuple[tf.Tensor, tf.Tensor]:
    """Reverses image and mask along an axis (1: left to right), or neither."""
    mirror = tf.random.stateless_uniform([], seed) < 0.5
    return tuple(
        tf.cond(
            mirror, lambda each=each: tf.reverse(each, [axis]), lambda each=each: each
        )
        for each in (image, mask)
    )


def paste(
    image: tf.Tensor, mask: tf.Tensor, other_image: tf.Tensor, other_mask: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Pastes the foreground of another tile of the same size over a tile.

    Ghiasi et al. 2021, without blending. Of masks the first channel is the label.
    """
    foreground = is_foreground(other_mask[..., :1])
    return (
        tf.where(foreground, other_image, image),
        tf.where(foreground, other_mask, mask),
    )


def random_cutout(
    image: tf.Tensor, mask: tf.Tensor, share: float, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Greys out a rectangle, and ignores it: nobody can know what is under it.

    Args:
      image: uint8 [T, T, 3].
      mask: [T, T, C].
      share: Its sides are drawn from 0 to this share of the tile's.
      seed: int32 [2].
    """
    draws = tf.random.stateless_uniform([2, 2], seed)
    side = tf.cast(tf.shape(image)[0], tf.float32)
    is_cut = tf.constant(True)
    for axis in (0, 1):
        length = draws[0, axis] * share * side
        start = draws[1, axis] * side - length / 2
        index = tf.range(side)
        along = (index >= start) & (index < start + length)
        is_cut &= tf.reshape(along, [-1, 1, 1] if axis == 0 else [1, -1, 1])
    return (
        tf.where(is_cut, tf.constant(127, image.dtype), image),
        tf.where(is_cut, tf.constant(IGNORE, mask.dtype), mask),
    )


def random_blur(image: tf.Tensor, strongest: float, seed: tf.Tensor) -> tf.Tensor:
    """Blurs by a Gaussian with a standard deviation from 0 to `strongest` pixels.

    Args:
      image: uint8 [T, T, 3]; its border is mirrored.
      strongest: In pixels.
      seed: int32 [2].
    """
    sigma = tf.random.stateless_uniform([], seed, 1e-3, strongest)
    radius = math.ceil(3 * strongest)
    kernel = tf.exp(-0.5 * (tf.range(-radius, radius + 1.0) / sigma) ** 2)
    kernel /= tf.reduce_sum(kernel)
    pixels = tf.cast(image, tf.float32)
    for axis in (0, 1):
        size = tf.shape(image)[axis]
        # A sum of shifted images: on a CPU quicker than a convolution of 3 channels.
        pixels = tf.add_n(
            [
                kernel[shift + radius]
                * tf.gather(
                    pixels, mirrored_index(tf.range(size) + shift, size), axis=axis
                )
                for shift in range(-radius, radius + 1)
            ]
        )
    return to_uint8(pixels)


def random_color(image: tf.Tensor, strength: float, seed: tf.Tensor) -> tf.Tensor:
    """Varies brightness, contrast and saturation by up to `strength` (a share).

    Args:
      image: uint8 [H, W, 3].
      strength: 0 to 1; each factor is drawn from 1 - strength to 1 + strength.
      seed: int32 [2].

    Returns:
      uint8 [H, W, 3].
    """
    factors = tf.random.stateless_uniform([3], seed, 1 - strength, 1 + strength)
    pixels = tf.cast(image, tf.float32) * factors[0]
    mean = tf.reduce_mean(pixels)
    pixels = mean + (pixels - mean) * factors[1]
    grey = tf.reduce_mean(pixels, axis=-1, keepdims=True)
    pixels = grey + (pixels - grey) * factors[2]
    return to_uint8(pixels)


def random_scale(jitter: float, seed: tf.Tensor) -> tf.Tensor:
    """A factor from 1 / (1 + jitter) to 1 + jitter, as likely to shrink as to grow."""
    limit = tf.math.log(1.0 + jitter)
    return tf.exp(tf.random.stateless_uniform([], seed, -limit, limit))
