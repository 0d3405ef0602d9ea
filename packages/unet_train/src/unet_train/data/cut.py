"""Tiles cut from an image and its mask: anywhere, or where there is something to find.

```python
tile, tile_mask = random_tile(image, mask, tile_size=572, margin=92, seed=seed)
```
"""

from __future__ import annotations

import math

import tensorflow as tf

from unet_train.data.labels import IGNORE, is_foreground


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


def random_aim(mask: tf.Tensor, share: float, seed: tf.Tensor) -> tf.Tensor:
    """A pixel of the foreground, each as likely as another; int32 [2], row and column.

    Args:
      mask: [H, W, C], the label first.
      share: How often there is one; else, and without foreground, it is (-1, -1).
      seed: int32 [2].
    """
    seeds = tf.random.split(seed, 2)
    foreground = tf.cast(is_foreground(mask[..., 0]), tf.int32)
    ends = tf.cumsum(tf.reduce_sum(foreground, 1))  # They are numbered row by row.
    count = ends[-1]
    number = tf.random.stateless_uniform(
        [1], seeds[0], 0, tf.maximum(count, 1), "int32"
    )
    row = tf.searchsorted(ends, number, side="right")[0]
    row = tf.minimum(row, tf.size(ends) - 1)
    columns = tf.cumsum(foreground[row])
    number -= ends[row] - columns[-1]
    column = tf.searchsorted(columns, number, side="right")[0]
    aims = (count > 0) & (tf.random.stateless_uniform([], seeds[1]) < share)
    return tf.where(aims, tf.stack([row, column]), -1)


def random_tile(
    image: tf.Tensor,
    mask: tf.Tensor,
    *,
    tile_size: int,
    margin: int,
    seed: tf.Tensor,
    aim: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Cuts a tile for the network, at a place drawn so that all is seen.

    The window that is predicted, the tile without its margin, lies anywhere on the
    image, the border as likely as the middle; what the tile needs around it, or beyond
    an image smaller than the window, is mirrored, and ignored (255) in the mask.

    Args:
      image: uint8 [H, W, 3].
      mask: [H, W, C], the label first.
      tile_size: Side of the tile in pixels.
      margin: What the predicted window lacks at each border, in pixels.
      seed: int32 [2].
      aim: Of `random_aim`: a pixel that the window has to have, at any place in it.

    Returns:
      uint8 [tile_size, tile_size, 3] and [tile_size, tile_size, C].
    """
    starts = _random_starts(tf.shape(mask), tile_size - 2 * margin, seed, aim)
    inside = tf.ones_like(mask[..., :1], tf.bool)
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
    aim: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Cuts a tile as `random_tile` does, turned about its middle and bent.

    The elastic deformation of Ronneberger et al. 2015: displacements on a grid of 3 x 3
    are drawn from a normal distribution and interpolated bicubically to the pixels.
    The image is sampled bilinearly, the mask at the nearest pixel, so that labels are
    never mixed.

    Args:
      image: uint8 [H, W, 3].
      mask: [H, W, C], the label first.
      tile_size: Side of the tile in pixels.
      margin: What the predicted window lacks at each border, in pixels.
      rotation: By up to this many degrees, either way.
      elastic: Standard deviation of the displacements in pixels.
      seed: int32 [2].
      aim: As in `random_tile`.

    Returns:
      uint8 [tile_size, tile_size, 3] and [tile_size, tile_size, C], ignored (255) where
      the place lies outside the image.
    """
    seeds = tf.random.split(seed, 3)
    starts = _random_starts(tf.shape(mask), tile_size - 2 * margin, seeds[0], aim)
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
    if aim is not None:
        window = slice(margin, tile_size - margin)
        places += _way_onto(aim, places[window, window])

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
    return to_uint8(total)


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
    mask.set_shape([tile_size, tile_size, mask.shape[-1]])
    return image, mask


def _way_onto(aim: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """What moves the nearest of places [H, W, 2] onto a pixel; float32 [2]."""
    ways = tf.cast(aim, tf.float32) - tf.reshape(places, [-1, 2])
    nearest = tf.argmin(tf.reduce_sum(ways**2, axis=1))
    return tf.where(aim >= 0, ways[nearest], 0.0)


def _random_starts(
    shape: tf.Tensor, window: int, seed: tf.Tensor, aim: tf.Tensor | None
) -> tf.Tensor:
    """First row and column of the window; int32 [2], negative on small images."""
    size = tf.cast(shape[:2], tf.float32)
    seeds = tf.random.split(seed, 2)
    draw = tf.stack([tf.random.stateless_uniform([], seeds[axis]) for axis in (0, 1)])
    slack = size - window
    # On a large image the window's centre is drawn anywhere and then moved inside, or
    # pixels at the border would hardly ever be seen. On a small one it slides freely.
    centred = tf.clip_by_value(draw * size - window / 2, 0.0, tf.maximum(slack, 0.0))
    starts = tf.cast(tf.round(tf.where(slack > 0, centred, draw * slack)), tf.int32)
    if aim is None:
        return starts
    # Of those from which the window has the pixel, and otherwise lies as above, any.
    end = shape[:2] - window
    first = tf.maximum(tf.minimum(end, 0), aim - window + 1)
    last = tf.minimum(tf.maximum(end, 0), aim)
    choice = tf.floor(draw * tf.cast(last - first + 1, tf.float32))
    return tf.where(aim >= 0, first + tf.cast(choice, tf.int32), starts)


def to_uint8(pixels: tf.Tensor) -> tf.Tensor:
    """The nearest whole numbers from 0 to 255."""
    return tf.cast(tf.round(tf.clip_by_value(pixels, 0, 255)), tf.uint8)
