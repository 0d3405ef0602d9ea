"""Prediction for photos of any size, in tiles that leave no seams.

```python
probabilities = predict_image(model, photo)  # uint8 [H, W, 3] -> float32 [H, W, 1]
```

The overlap-tile strategy of the paper: what a tile needs beyond the photo is mirrored
from it, and tiles overlap so that each output pixel sees all of its surroundings. Tiles
start at multiples of 2^depth, so that all of them pool the same 2x2 cells and agree
with one pass over the whole photo.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Literal

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from unet_core import geometry
from unet_core.model import read_geometry

TileSize = int | None | Literal["auto"]

# A pass over this many input pixels with 64 filters takes about 1 GB in float32.
_PIXELS_A_PASS = 1024 * 1024
_FILTERS_MEASURED = 64


def predict_image(
    model: keras.Model,
    image: npt.NDArray[np.uint8],
    *,
    tile_size: TileSize = "auto",
) -> npt.NDArray[np.float32]:
    """Predicts every pixel of one image.

    To predict many, make one `TiledPredictor`: it compiles the model once.

    Args:
      model: A model of `build_unet`, or one loaded from its `.keras` file.
      image: uint8 [H, W, C], any H and W from 1.
      tile_size: Side of the input tiles in pixels, a valid size of the model; None for
        one pass over the whole image; "auto" for one pass where about a gigabyte is
        enough for it, else the largest tiles that keep within that.

    Returns:
      float32 [H, W, classes]: probabilities, by sigmoid for one class and by softmax
      for more.

    Raises:
      ValueError: The image or the tile size does not fit the model.
    """
    return TiledPredictor(model, tile_size=tile_size)(image)


@dataclasses.dataclass(frozen=True)
class _Span:
    """One tile along one axis: where it starts, and what of its output is used.

    Attributes:
      start: First input pixel, in pixels of the padded image.
      output: Output pixels used, in pixels of the image.
      offset: First of these in pixels of the tile's output.
    """

    start: int
    output: range
    offset: int


class TiledPredictor:
    """Predicts images of any size with one compiled graph.

    Attributes:
      depth: Poolings of the model, read off its layers.
      padding: Of its convolutions, likewise.
    """

    def __init__(self, model: keras.Model, *, tile_size: TileSize = "auto") -> None:
        """Compiles nothing yet; arguments as for `predict_image`."""
        self.depth, self.padding = read_geometry(model)
        self._channels: int = model.inputs[0].shape[-1]
        self._classes: int = model.outputs[0].shape[-1]
        self._tile_size = tile_size
        if isinstance(tile_size, int):
            geometry.output_size(tile_size, self.depth, self.padding)
            self._check_overlap(tile_size)
        filters = next(
            layer.filters
            for layer in model.layers
            if isinstance(layer, keras.layers.Conv2D)
        )
        self._pixels_a_pass = int(_PIXELS_A_PASS * min(_FILTERS_MEASURED / filters, 8))
        activate = tf.nn.sigmoid if self._classes == 1 else tf.nn.softmax
        signature = tf.TensorSpec((None, None, None, self._channels), tf.uint8)
        self._forward = tf.function(
            lambda tiles: activate(model(tiles, training=False)),
            input_signature=[signature],
        )

    def __call__(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Predicts one image; see `predict_image`."""
        if image.ndim != 3 or image.shape[-1] != self._channels or 0 in image.shape:
            raise ValueError(
                f"The model takes images [H, W, {self._channels}]. Received the shape"
                f" {image.shape}."
            )
        if image.dtype != np.uint8:
            raise ValueError(
                f"Images are uint8, 0 to 255. Received {image.dtype}; convert with"
                " `image.astype(numpy.uint8)` after scaling to that range."
            )
        height, width = image.shape[:2]
        padded = self._pad(image)
        tile_height, tile_width = self._tile_shape(*padded.shape[:2])
        probabilities = np.empty((height, width, self._classes), np.float32)
        for y in self._spans(height, padded.shape[0], tile_height):
            for x in self._spans(width, padded.shape[1], tile_width):
                tile = padded[
                    y.start : y.start + tile_height, x.start : x.start + tile_width
                ]
                output = self._forward(tile[np.newaxis])[0].numpy()
                probabilities[_slice(y.output), _slice(x.output)] = output[
                    y.offset : y.offset + len(y.output),
                    x.offset : x.offset + len(x.output),
                ]
        return probabilities

    def _pad(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Mirrors the image to the size that one pass over the whole of it takes."""
        before = geometry.margin(self.depth, self.padding)
        widths = []
        for size in image.shape[:2]:
            total = geometry.valid_size_for_output(size, self.depth, self.padding)
            widths.append((before, total - before - size))
        return np.pad(image, (*widths, (0, 0)), mode="reflect")

    def _tile_shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the tiles for a padded image, at most its own."""
        if self._tile_size is None:
            return height, width
        if self._tile_size != "auto":
            return min(self._tile_size, height), min(self._tile_size, width)
        if height * width <= self._pixels_a_pass:
            return height, width
        side = math.isqrt(self._pixels_a_pass)
        # Where one side of the image is short, the tile may be longer in the other.
        tile_height = min(height, max(side, self._pixels_a_pass // width))
        tile_width = min(width, max(side, self._pixels_a_pass // tile_height))
        return self._tile_side(tile_height, height), self._tile_side(tile_width, width)

    def _tile_side(self, wanted: int, padded: int) -> int:
        """A valid side near the wanted one, but no longer than the padded image's."""
        below, above = geometry.nearest_valid_sizes(wanted, self.depth, self.padding)
        return min(max(below or above, self._smallest_tile()), padded)

    def _smallest_tile(self) -> int:
        step = geometry.step(self.depth)
        if self.padding == "valid":
            return geometry.nearest_valid_sizes(
                2 * geometry.margin(self.depth) + step, self.depth
            )[1]
        return step * (1 + 2 * -(-geometry.halo(self.depth) // step))

    def _check_overlap(self, tile_size: int) -> None:
        if tile_size < self._smallest_tile():
            raise ValueError(
                f"Tiles of {tile_size} pixels are all border for a U-Net of depth"
                f" {self.depth} with {self.padding} padding. Use"
                f" {self._smallest_tile()} or more."
            )

    def _spans(self, size: int, padded: int, tile: int) -> Iterator[_Span]:
        """Covers `size` image pixels with tiles of `tile` input pixels along an axis.

        Args:
          size: Of the image.
          padded: Of the mirrored image.
          tile: Of the tiles' input, a valid size up to `padded`.
        """
        step = geometry.step(self.depth)
        # How much of a tile's output is not to be used where another tile adjoins:
        # nothing for valid padding; for same padding what the zeros outside reach.
        unsafe = 0
        if self.padding == "same":
            unsafe = -(-geometry.halo(self.depth) // step) * step
        shrink = 2 * geometry.margin(self.depth, self.padding)
        stride = (tile - shrink - 2 * unsafe) // step * step
        done, start = 0, 0
        while done < size:
            start = min(start, padded - tile)
            is_last = start == padded - tile
            end = size if is_last else min(size, start + tile - shrink - unsafe)
            yield _Span(start, range(done, end), done - start)
            done = end
            start += stride


def _slice(span: range) -> slice:
    return slice(span.start, span.stop)
