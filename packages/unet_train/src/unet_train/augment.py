"""Image and mask together: resize, crop to a tile, mirror, vary the light.

Every random choice is a pure function of a seed, so that a tile can be made again:

```python
image = resize_image(image, (192, 256))  # [H, W, 3] uint8, antialiased
tile, target = random_tile(image, mask, tile_size=572, margin=92, seed=seed)
```
"""

from __future__ import annotations

import tensorflow as tf

IGNORE = 255


def scaled_size(shape: tf.Tensor, longer_side: tf.Tensor) -> tf.Tensor:
    """Height and width after scaling the longer side; int32 [2], at least 1.

    Args:
      shape: int32, begins with height and width in pixels.
      longer_side: What the longer of the two becomes, in pixels, may be fractional.
    """
    size = tf.cast(shape[:2], tf.float32)
    scale = tf.cast(longer_side, tf.float32) / tf.reduce_max(size)
    return tf.maximum(tf.cast(tf.round(size * scale), tf.int32), 1)


def resize_image(image: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Resizes uint8 [H, W, C] to uint8 [size[0], size[1], C], antialiased."""
    resized = tf.image.resize(image, size, antialias=True)
    return tf.cast(tf.round(tf.clip_by_value(resized, 0, 255)), tf.uint8)


def resize_mask(mask: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Resizes a mask to the nearest neighbour: labels are never mixed."""
    return tf.image.resize(mask, size, method="nearest")


def mirrored_index(index: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Where a coordinate falls in an axis of `size` pixels mirrored without end.

    The border pixel is not repeated (numpy's "reflect"): -1 is 1, `size` is size - 2.

    Args:
      index: int32, any coordinates.
      size: int32 scalar, at least 1.
    """
    period = tf.maximum(2 * (size - 1), 1)
    index = tf.math.floormod(index, period)
    return tf.minimum(index, period - index)


def random_tile(
    image: tf.Tensor, mask: tf.Tensor, *, tile_size: int, margin: int, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Cuts a tile for the network and the part of the mask that it predicts.

    The predicted window lies anywhere on the image, the border as likely as the middle;
    what the tile needs around it, or beyond an image smaller than the window, is
    mirrored. Pixels of the window outside the image are ignored (255).

    Args:
      image: uint8 [H, W, 3].
      mask: uint8 [H, W, 1].
      tile_size: Side of the tile in pixels.
      margin: Pixels a side by which the predicted window is smaller.
      seed: int32 [2].

    Returns:
      uint8 [tile_size, tile_size, 3] and uint8 [window, window, 1], where window is
      tile_size - 2 * margin.
    """
    window = tile_size - 2 * margin
    seeds = tf.random.split(seed, 2)
    inside = tf.ones_like(mask, tf.bool)
    for axis in (0, 1):
        size = tf.shape(image)[axis]
        start = _random_start(size, window, seeds[axis])
        tile_index = start - margin + tf.range(tile_size)
        window_index = start + tf.range(window)
        image = tf.gather(image, mirrored_index(tile_index, size), axis=axis)
        mask = tf.gather(mask, mirrored_index(window_index, size), axis=axis)
        inside = tf.gather(inside, mirrored_index(window_index, size), axis=axis)
        is_inside = (window_index >= 0) & (window_index < size)
        inside &= tf.reshape(is_inside, [-1, 1, 1] if axis == 0 else [1, -1, 1])
    target = tf.where(inside, mask, tf.constant(IGNORE, mask.dtype))
    image.set_shape([tile_size, tile_size, 3])
    target.set_shape([window, window, 1])
    return image, target


def _random_start(size: tf.Tensor, window: int, seed: tf.Tensor) -> tf.Tensor:
    """First pixel of the window along an axis of `size` pixels."""
    draw = tf.random.stateless_uniform([], seed)
    slack = tf.cast(size - window, tf.float32)
    # On a large image the window's centre is drawn anywhere and then moved inside, or
    # pixels at the border would hardly ever be seen. On a small one it slides freely.
    centred = draw * tf.cast(size, tf.float32) - window / 2
    start = tf.where(slack > 0, tf.clip_by_value(centred, 0.0, slack), draw * slack)
    return tf.cast(tf.round(start), tf.int32)


def random_mirror(
    image: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mirrors image and mask left to right, or neither."""
    mirror = tf.random.stateless_uniform([], seed) < 0.5
    return tuple(
        tf.cond(mirror, lambda each=each: tf.reverse(each, [1]), lambda each=each: each)
        for each in (image, mask)
    )


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
    return tf.cast(tf.round(tf.clip_by_value(pixels, 0, 255)), tf.uint8)


def random_scale(jitter: float, seed: tf.Tensor) -> tf.Tensor:
    """A factor from 1 / (1 + jitter) to 1 + jitter, as likely to shrink as to grow."""
    limit = tf.math.log(1.0 + jitter)
    return tf.exp(tf.random.stateless_uniform([], seed, -limit, limit))
