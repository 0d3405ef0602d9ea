"""Image and mask together: resize, cut a tile, turn, bend, mirror, vary the light.

Every random choice is a pure function of a seed, so that a tile can be made again:

```python
image = resize_image(image, (192, 256))  # [H, W, 3] uint8, antialiased
tile, tile_mask = random_tile(image, mask, tile_size=572, margin=92, seed=seed)
```

Keras's preprocessing layers would not do: they draw from a state in place of a seed,
and fill what a rotation brings in from outside with a colour in place of "ignored".
"""

from __future__ import annotations

import math

import tensorflow as tf

from unet_train.data.labels import IGNORE


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
    return _to_uint8(tf.image.resize(image, size, antialias=True))


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
    """Cuts a tile for the network, at a place drawn so that all is seen.

    The window that is predicted, the tile without its margin, lies anywhere on the
    image, the border as likely as the middle; what the tile needs around it, or beyond
    an image smaller than the window, is mirrored, and ignored (255) in the mask.

    Args:
      image: uint8 [H, W, 3].
      mask: uint8 [H, W, 1].
      tile_size: Side of the tile in pixels.
      margin: What the predicted window lacks at each border, in pixels.
      seed: int32 [2].

    Returns:
      uint8 [tile_size, tile_size, 3] and uint8 [tile_size, tile_size, 1].
    """
    starts = _random_starts(tf.shape(mask), tile_size - 2 * margin, seed)
    inside = tf.ones_like(mask, tf.bool)
    for axis in (0, 1):
        size = tf.shape(image)[axis]
        index = starts[axis] - margin + tf.range(tile_size)
        mirrored = mirrored_index(index, size)
        image = tf.gather(image, mirrored, axis=axis)
        mask = tf.gather(mask, mirrored, axis=axis)
        inside = tf.gather(inside, mirrored, axis=axis)
        is_inside = (index >= 0) & (index < size)
        inside &= tf.reshape(is_inside, [-1, 1, 1] if axis == 0 else [1, -1, 1])
    return _finish_tile(image, mask, inside, tile_size)


def random_warped_tile(
    image: tf.Tensor,
    mask: tf.Tensor,
    *,
    tile_size: int,
    margin: int,
    rotation: float,
    elastic: float,
    seed: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Cuts a tile as `random_tile` does, turned about its middle and bent.

    The elastic deformation of Ronneberger et al. 2015: displacements on a grid of 3 x 3
    are drawn from a normal distribution and interpolated bicubically to the pixels.
    The image is sampled bilinearly, the mask at the nearest pixel, so that labels are
    never mixed.

    Args:
      image: uint8 [H, W, 3].
      mask: uint8 [H, W, 1].
      tile_size: Side of the tile in pixels.
      margin: What the predicted window lacks at each border, in pixels.
      rotation: By up to this many degrees, either way.
      elastic: Standard deviation of the displacements in pixels.
      seed: int32 [2].

    Returns:
      uint8 [tile_size, tile_size, 3] and uint8 [tile_size, tile_size, 1], ignored (255)
      where the place lies outside the image.
    """
    seeds = tf.random.split(seed, 3)
    starts = _random_starts(tf.shape(mask), tile_size - 2 * margin, seeds[0])
    middle = (tile_size - 1) / 2
    offsets = tf.range(tile_size, dtype=tf.float32) - middle
    rows, columns = tf.meshgrid(offsets, offsets, indexing="ij")
    limit = rotation * math.pi / 180
    angle = tf.random.stateless_uniform([], seeds[1], -limit, limit)
    sine, cosine = tf.sin(angle), tf.cos(angle)
    turned = tf.stack([cosine * rows - sine * columns, sine * rows + cosine * columns])
    grid = elastic * tf.random.stateless_normal([3, 3, 2], seeds[2])
    bent = tf.image.resize(grid, [tile_size, tile_size], method="bicubic")
    start = tf.cast(starts - margin, tf.float32) + middle
    places = start + tf.transpose(turned, [1, 2, 0]) + bent

    nearest = tf.cast(tf.round(places), tf.int32)
    size = tf.shape(mask)[:2]
    inside = tf.reduce_all((nearest >= 0) & (nearest < size), -1, keepdims=True)
    return _finish_tile(
        sample_bilinear(image, places), _sample(mask, nearest), inside, tile_size
    )


def sample_bilinear(image: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Pixels of an image, mirrored without end, at fractional places.

    Args:
      image: uint8 [H, W, C].
      places: float32 [..., 2]: row and column; whole numbers are middles of pixels.

    Returns:
      uint8 [..., C].
    """
    floor = tf.floor(places)
    first = tf.cast(floor, tf.int32)
    fraction = places - floor
    total: tf.Tensor = 0.0
    for down in (0, 1):
        for right in (0, 1):
            share = [
                fraction[..., axis] if step else 1 - fraction[..., axis]
                for axis, step in enumerate((down, right))
            ]
            corner = tf.constant([down, right])
            pixels = tf.cast(_sample(image, first + corner), tf.float32)
            total += pixels * (share[0] * share[1])[..., None]
    return _to_uint8(total)


def _sample(image: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Pixels at whole places int32 [..., 2] of an image mirrored without end."""
    size = tf.shape(image)
    index = [mirrored_index(places[..., axis], size[axis]) for axis in (0, 1)]
    return tf.gather_nd(image, tf.stack(index, -1))


def _finish_tile(
    image: tf.Tensor, mask: tf.Tensor, inside: tf.Tensor, tile_size: int
) -> tuple[tf.Tensor, tf.Tensor]:
    mask = tf.where(inside, mask, tf.constant(IGNORE, mask.dtype))
    image.set_shape([tile_size, tile_size, 3])
    mask.set_shape([tile_size, tile_size, 1])
    return image, mask


def _random_starts(shape: tf.Tensor, window: int, seed: tf.Tensor) -> tf.Tensor:
    """First row and column of the window; int32 [2], negative on small images."""
    size = tf.cast(shape[:2], tf.float32)
    seeds = tf.random.split(seed, 2)
    draw = tf.stack([tf.random.stateless_uniform([], seeds[axis]) for axis in (0, 1)])
    slack = size - window
    # On a large image the window's centre is drawn anywhere and then moved inside, or
    # pixels at the border would hardly ever be seen. On a small one it slides freely.
    centred = tf.clip_by_value(draw * size - window / 2, 0.0, tf.maximum(slack, 0.0))
    return tf.cast(tf.round(tf.where(slack > 0, centred, draw * slack)), tf.int32)


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

    Ghiasi et al. 2021, without blending.
    """
    foreground = other_mask == 1
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
      mask: uint8 [T, T, 1].
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
    return _to_uint8(pixels)


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
    return _to_uint8(pixels)


def _to_uint8(pixels: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.round(tf.clip_by_value(pixels, 0, 255)), tf.uint8)


def random_scale(jitter: float, seed: tf.Tensor) -> tf.Tensor:
    """A factor from 1 / (1 + jitter) to 1 + jitter, as likely to shrink as to grow."""
    limit = tf.math.log(1.0 + jitter)
    return tf.exp(tf.random.stateless_uniform([], seed, -limit, limit))
