"""Tiles turned about their middle and bent: where each of their pixels is taken from.

The elastic deformation of Ronneberger et al. 2015: displacements on a grid of 3 x 3 are
drawn from a normal distribution and interpolated bicubically to the pixels.

A tile is cut out of a piece that is larger than it by `reach` pixels at each border, so
that all it can show is there; `warp` is then a function of pieces and of what was drawn
for them, in batches and without chance.

Places are whole multiples of a small part of a pixel, so that float32 has them exactly
(of tiles up to 2,000 pixels): a compiler that computes one twice, rounding otherwise,
could else take the pixel from one side of it and its weight from the other.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from unet_train.data.pixels import planes_of
from unet_train.graph import compiled_on_processors

# Displacements are drawn to within so many standard deviations: all but 0.3%.
_MOST = 3.0
# Sine and cosine are multiples of one over this. Times an offset, of half pixels, that
# makes places multiples of half of it.
_PARTS = 2.0**12


@dataclasses.dataclass(frozen=True)
class Warp:
    """How far tiles are turned and bent.

    Attributes:
      tile_size: Side of the tile in pixels.
      rotation: By up to this many degrees, either way.
      elastic: Standard deviation of the displacements in pixels.
    """

    tile_size: int
    rotation: float
    elastic: float

    @property
    def reach(self) -> int:
        """Pixels that a tile may show beyond each of its borders."""
        if not self.rotation and not self.elastic:
            return 0
        half, angle = (self.tile_size - 1) / 2, math.radians(min(self.rotation, 45))
        turned = half * (math.cos(angle) + math.sin(angle))
        # Between the nodes, bicubic interpolation goes beyond them.
        overshoot = np.abs(bend_weights(self.tile_size)).sum(-1).max() ** 2
        bent = _MOST * self.elastic * float(overshoot)
        # One more: places lie between pixels, and the piece may be half of one off.
        return math.ceil(turned - half + bent + 1)

    def draw(self, seeds: tf.Tensor) -> dict[str, tf.Tensor]:
        """What happens to one tile.

        Returns:
          "turn", float32 [2], cosine and sine of the angle, and "bend", float32
          [3, 3, 2], the displacements of the nodes.
        """
        limit = math.radians(self.rotation)
        angle = tf.random.stateless_uniform([], seeds[0], -limit, limit)
        normal = tf.random.stateless_normal([3, 3, 2], seeds[1])
        return {
            "turn": _whole(tf.stack([tf.cos(angle), tf.sin(angle)]), _PARTS),
            "bend": self.elastic * tf.clip_by_value(normal, -_MOST, _MOST),
        }


@functools.cache
def bend_weights(tile_size: int) -> npt.NDArray[np.float32]:
    """By how much each of 3 nodes counts at each pixel; float32 [tile_size, 3]."""
    with tf.init_scope(), tf.device("CPU"):
        nodes = tf.eye(3)[:, None]
        weights = tf.image.resize(nodes, [tile_size, 1], method="bicubic")
        found: npt.NDArray[np.float32] = weights[:, 0].numpy()
    return found


def way_onto(
    aim: tf.Tensor, drawn: dict[str, tf.Tensor], tile_size: int, margin: int
) -> tf.Tensor:
    """What moves the nearest pixel of a warped window onto a place; float32 [2].

    Args:
      aim: The place, from the middle of the tile as it would lie without the way;
        float32 [2], row and column.
      drawn: Of `Warp.draw`.
      tile_size: Side of the tile in pixels.
      margin: What the window lacks of it at each border.
    """
    half = (tile_size - 1) / 2
    cosine, sine = tf.unstack(drawn["turn"])
    pixel = tf.stack(_turn(aim[0], aim[1], cosine, -sine)) + half
    pixel = tf.clip_by_value(tf.round(pixel), margin, tile_size - margin - 1)
    turned = tf.stack(_turn(pixel[0] - half, pixel[1] - half, cosine, sine))
    weights = tf.gather(bend_weights(tile_size), tf.cast(pixel, tf.int32))
    bent = tf.einsum("a,b,abk->k", weights[0], weights[1], drawn["bend"])
    return aim - turned - _whole(bent, 2 * _PARTS)


@compiled_on_processors
def warp(
    layers: list[tf.Tensor], drawn: dict[str, tf.Tensor], tile_size: int
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Tiles out of pieces: the image sampled bilinearly, and the nearest pixels.

    From these the labels are, so that they are never mixed.

    Args:
      layers: int32 [N, S, S] each: pixels as `pack` makes them, and what else there is.
      drawn: Of `Warp.draw`, and "centre", float32 [N, 2]: the place in the piece that
        the middle of the tile shows.
      tile_size: T, the side of the tile.

    Returns:
      The image as planes, float32 [N, 3, T, T]; of each layer the nearest to each
      pixel of the tile, int32 [N, T, T].
    """
    flat = [_flat(each) for each in layers]
    side = layers[0].shape[1]
    offsets = tf.range(tile_size, dtype=tf.float32) - (tile_size - 1) / 2
    cosine, sine = tf.unstack(drawn["turn"][..., None, None], axis=1)
    turned = _turn(offsets[:, None], offsets, cosine, sine)
    weights = bend_weights(tile_size)
    bent = tf.einsum("ra,nabk,cb->knrc", weights, drawn["bend"], weights)
    bent = _whole(bent, 2 * _PARTS)
    middle = tf.transpose(drawn["centre"])[:, :, None, None]
    places = [turned[axis] + bent[axis] + middle[axis] for axis in (0, 1)]
    floors = [tf.floor(each) for each in places]
    # Not int32: on a GPU TensorFlow adds these on the host.
    row, column = (tf.cast(each, tf.int64) for each in floors)
    first = row * side + column
    after = [place - floor for place, floor in zip(places, floors, strict=True)]
    before = [1 - each for each in after]
    planes: tf.Tensor = 0.0
    for down in (0, 1):
        for right in (0, 1):
            share = (before, after)[down][0] * (before, after)[right][1]
            place = first + (down * side + right)
            corner = planes_of(tf.gather(flat[0], place, batch_dims=1))
            planes += corner * share[:, None]
    row, column = (tf.cast(tf.round(each), tf.int64) for each in places)
    nearest = row * side + column
    return planes, [tf.gather(each, nearest, batch_dims=1) for each in flat]


def _flat(layer: tf.Tensor) -> tf.Tensor:
    """int32 [N, S, S] as [N, S * S]; on a GPU TensorFlow reshapes int32 on the host."""
    bits = tf.bitcast(layer, tf.uint32)
    bits = tf.reshape(bits, [-1, layer.shape[1] * layer.shape[2]])
    return tf.bitcast(bits, tf.int32)


def _whole(values: tf.Tensor, parts: float) -> tf.Tensor:
    """The nearest multiples of one over `parts`."""
    return tf.round(values * parts) / parts


def _turn(
    rows: tf.Tensor, columns: tf.Tensor, cosine: tf.Tensor, sine: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Offsets from the middle, turned about it."""
    return cosine * rows - sine * columns, sine * rows + cosine * columns
