"""Pieces cut from an image: anywhere, or where there is something to find.

```python
start = random_start(tf.shape(pixels), window=388, seed=seed)
piece = cut_piece(pixels, start - 92, side=572)
```
"""

from __future__ import annotations

import tensorflow as tf

from unet_train.data.labels import is_foreground
from unet_train.data.pixels import IGNORED


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
      mask: Labels [H, W].
      share: How often there is one; else, and without foreground, it is (-1, -1).
      seed: int32 [2].
    """
    seeds = tf.random.split(seed, 2)
    foreground = tf.cast(is_foreground(mask), tf.int32)
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


def random_start(
    shape: tf.Tensor, *, window: int, seed: tf.Tensor, aim: tf.Tensor | None = None
) -> tf.Tensor:
    """Where the window begins that is predicted, drawn so that all is seen.

    It lies anywhere on the image, the border as likely as the middle.

    Args:
      shape: int32, begins with height and width of the image.
      window: Its side in pixels.
      seed: int32 [2].
      aim: Of `random_aim`: a pixel that the window has to have, at any place in it.

    Returns:
      First row and column of the window; int32 [2], negative on small images.
    """
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


def cut_piece(
    pixels: tf.Tensor, start: tf.Tensor, side: int, mirror: tf.Tensor | None = None
) -> tf.Tensor:
    """A square of an image; what lies beyond it is mirrored, and ignored in the mask.

    Args:
      pixels: int32 [H, W], as `pack` makes them.
      start: int32 [2], its first row and column.
      side: Of the square, in pixels.
      mirror: bool [2]: turn it upside down, and left to right.

    Returns:
      int32 [side, side].
    """
    inside = []
    for axis in (0, 1):
        size = tf.shape(pixels)[axis]
        index = start[axis] + tf.range(side)
        if mirror is not None:
            index = tf.where(mirror[axis], tf.reverse(index, [0]), index)
        inside.append((index >= 0) & (index < size))
        pixels = tf.gather(pixels, mirrored_index(index, size), axis=axis)
    within = inside[0][:, None] & inside[1]
    pixels = tf.where(within, pixels, tf.bitwise.bitwise_or(pixels, IGNORED))
    return tf.ensure_shape(pixels, (side, side))


def paste(pixels: tf.Tensor, others: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Values of another piece, where that has foreground, over those of a piece.

    Ghiasi et al. 2021, without blending.

    Args:
      pixels: int32 [S, S].
      others: The other piece's.
      labels: Of the other piece.
    """
    return tf.where(is_foreground(labels), others, pixels)
