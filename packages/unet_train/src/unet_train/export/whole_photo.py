"""What `Predictor` does with a photo's pixels, in TensorFlow operations.

```python
whole = WholePhoto(forward, geometry, image_sizes=(640,), largest_tile=572)
probability = whole(pixels)  # uint8 [H, W, 3] -> float32 [H, W], or [H, W, n + 1]
```

Traced into a graph it needs no Python; called eagerly, `forward` may be anything, such
as the session of another runtime.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from unet_core.geometry import Geometry
from unet_train.data import cut, scale

Forward = Callable[[tf.Tensor], tf.Tensor]
"""Pixel values float32 [1, H, W, 3], of valid H and W, to logits [1, H', W', C]."""


class WholePhoto:
    """Scales a photo, predicts it in tiles that leave no seams, scales the result back.

    The tiles are those of `unet_core.TiledPredictor`, one at a time: they start at
    multiples of 2^depth, and of each is used what sees all of its surroundings.
    """

    def __init__(
        self,
        forward: Forward,
        geometry: Geometry,
        *,
        image_sizes: tuple[int, ...],
        largest_tile: int | None,
        logits: int = 1,
    ) -> None:
        """Does nothing yet.

        Args:
          forward: The network.
          geometry: Of the network.
          image_sizes: Longer sides in pixels that photos are scaled to, whose
            probabilities are averaged; empty for none.
          largest_tile: Side of the largest tiles, a valid size; None for one pass over
            the whole photo whatever its size.
          logits: That the network gives a pixel.
        """
        self._channels = logits
        self._forward = forward
        self._geometry = geometry
        self._image_sizes = image_sizes
        self._largest_tile = largest_tile

    def __call__(self, photo: tf.Tensor) -> tf.Tensor:
        """Probability of foreground, float32 [H, W], of uint8 [H, W, 3].

        Of n classes, two or more, those of the background and of each, [H, W, n + 1].
        """
        found = self._probabilities(photo)
        return found[..., 0] if self._channels == 1 else found

    def _probabilities(self, photo: tf.Tensor) -> tf.Tensor:
        activate = tf.nn.sigmoid if self._channels == 1 else tf.nn.softmax
        if not self._image_sizes:
            return activate(self._logits(photo))
        shape = tf.shape(photo)
        total = tf.zeros([shape[0], shape[1], self._channels])
        for longer_side in self._image_sizes:
            size = scale.scaled_size(shape, longer_side)
            scaled = activate(self._logits(scale.resize_image(photo, size)))
            total += tf.image.resize(scaled, shape[:2])
        return total / len(self._image_sizes)

    def _logits(self, image: tf.Tensor) -> tf.Tensor:
        """float32 [H, W, C]."""
        height, width = tf.unstack(tf.shape(image)[:2])
        tile_height, tile_width = self._tile_shape(height, width)
        rows = self._spans(height, tile_height)
        columns = self._spans(width, tile_width)

        def piece(row: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
            """What one tile gives, [W of the piece, H of the piece, C]."""
            y, x = rows[row], columns[column]
            places = self._places(y[0], tile_height, height)
            tile = tf.gather(image, places)
            places = self._places(x[0], tile_width, width)
            tile = tf.cast(tf.gather(tile, places, axis=1), tf.float32)
            logits = self._forward(tile[tf.newaxis])[0]
            top, left = y[1] - y[0], x[1] - x[0]
            used = logits[top : top + y[2] - y[1], left : left + x[2] - x[1]]
            return tf.transpose(used, [1, 0, 2])

        def band(row: tf.Tensor) -> tf.Tensor:
            """All tiles side by side, [H of the band, W, C]."""
            pieces = self._join(_count(columns), lambda column: piece(row, column))
            return tf.transpose(pieces, [1, 0, 2])

        return self._join(_count(rows), band)

    def _join(
        self, count: tf.Tensor, make: Callable[[tf.Tensor], tf.Tensor]
    ) -> tf.Tensor:
        """What is made of 0 to count - 1, one after the other, joined along axis 0."""
        shape = (None, None, self._channels)
        pieces = tf.TensorArray(
            tf.float32, count, infer_shape=False, element_shape=shape
        )
        _, pieces = tf.while_loop(
            lambda index, _: index < count,
            lambda index, pieces: (index + 1, pieces.write(index, make(index))),
            (0, pieces),
            parallel_iterations=1,  # Memory for one tile.
        )
        return tf.ensure_shape(pieces.concat(), shape)

    def _places(self, start: tf.Tensor, count: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """The pixels of a tile along one axis, mirrored at both ends of the image."""
        start -= self._geometry.margin
        return cut.mirrored_index(tf.range(start, start + count), size)

    def _tile_shape(
        self, height: tf.Tensor, width: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Height and width of the tiles for an image, at most those of one pass."""
        whole = [self._tile_for_output(size) for size in (height, width)]
        if self._largest_tile is None:
            return whole[0], whole[1]
        one_pass = whole[0] * whole[1] <= self._largest_tile**2
        tile = [
            tf.where(one_pass, whole_side, self._even_tile(size, whole_side))
            for size, whole_side in zip((height, width), whole, strict=True)
        ]
        return tile[0], tile[1]

    def _even_tile(self, size: tf.Tensor, whole: tf.Tensor) -> tf.Tensor:
        """The shortest tile that needs no more passes than the largest would."""
        assert self._largest_tile is not None
        step, seam = self._geometry.step, self._geometry.seam
        used = (self._largest_tile - self._border) // step * step
        count = _round_up(size, used) // used
        needed = _round_up(size, count * step) // count
        even = self._tile_for_output(needed + 2 * seam)
        return tf.where(whole <= self._largest_tile, whole, tf.minimum(even, whole))

    @property
    def _border(self) -> int:
        """What of a tile's input has no part in the output used, both sides."""
        return 2 * (self._geometry.margin + self._geometry.seam)

    def _tile_for_output(self, size: tf.Tensor) -> tf.Tensor:
        """The smallest valid side whose output has at least `size` pixels."""
        smallest = self._geometry.smallest_valid_size
        missing = tf.maximum(size + 2 * self._geometry.margin - smallest, 0)
        return smallest + _round_up(missing, self._geometry.step)

    def _spans(self, size: tf.Tensor, tile: tf.Tensor) -> tf.Tensor:
        """The tiles along one axis, int32 [tiles, 3].

        Of each: where its output begins, and first and end of what is used of that, all
        in pixels of the image.
        """
        step, seam = self._geometry.step, self._geometry.seam
        last = self._tile_for_output(size) - tile
        given = tile - 2 * self._geometry.margin - seam
        used = tf.maximum((tile - self._border) // step * step, 1)
        furthest = tf.maximum(tf.minimum(last, size - given), 0)
        starts = tf.minimum(
            tf.range(_round_up(furthest, used) // used + 1) * used, last
        )
        ends = tf.where(starts == last, size, tf.minimum(starts + given, size))
        firsts = tf.concat([[0], ends[:-1]], axis=0)
        return tf.stack([starts, firsts, ends], axis=1)


def _count(spans: tf.Tensor) -> tf.Tensor:
    """How many tiles there are."""
    return tf.shape(spans)[0]


def _round_up(value: tf.Tensor, multiple: tf.Tensor | int) -> tf.Tensor:
    return -(-value // multiple) * multiple
