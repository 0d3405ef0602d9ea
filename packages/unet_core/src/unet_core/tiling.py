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
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Literal

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from unet_core.model import read_geometry

TileSize = int | None | Literal["auto"]
Progress = Callable[[int, int], None]

MEMORY_BUDGET = 2 * 1024**3
"""Bytes that one pass through the network may take unless told otherwise: 2 GiB."""

# A pass takes most memory at the top of the way up, where it holds some tensors of
# `base_filters` channels at full size. Measured on nine networks: 3.4 to 7.0 of them.
_TENSORS_AT_THE_TOP = 8


def predict_image(
    model: keras.Model,
    image: npt.NDArray[np.uint8],
    *,
    tile_size: TileSize = "auto",
    flips: bool = False,
    memory_budget: int = MEMORY_BUDGET,
    progress: Progress | None = None,
) -> npt.NDArray[np.float32]:
    """Predicts every pixel of one image.

    To predict many, make one `TiledPredictor`: it compiles the model once.

    Args:
      model: A model of `build_unet`, or one loaded from its `.keras` file.
      image: uint8 [H, W, C], any H and W from 1.
      tile_size: Side of the input tiles in pixels, a valid size of the model; None for
        one pass over the whole image; "auto" for one pass where `memory_budget` allows
        it, since that is cheapest, else the largest tiles that keep within it.
      flips: Averages the predictions of the image and of its mirror images (left to
        right, upside down, both), at four times the cost.
      memory_budget: Bytes that a pass may take; image and result come on top.
      progress: Is told the number of tiles done and of all tiles, after each pass.

    Returns:
      float32 [H, W, classes]: probabilities, by sigmoid for one class and by softmax
      for more.

    Raises:
      ValueError: The image, the tile size or the budget does not fit the model.
    """
    predictor = TiledPredictor(
        model, tile_size=tile_size, flips=flips, memory_budget=memory_budget
    )
    return predictor(image, progress=progress)


@dataclasses.dataclass(frozen=True)
class _Span:
    """One tile along one axis: where it starts, and what of its output is used.

    Attributes:
      start: First input pixel, in pixels of the image; negative where it is mirrored.
      output: Output pixels used, in pixels of the image.
      offset: First of these in pixels of the tile's output.
    """

    start: int
    output: slice
    offset: int

    @property
    def taken(self) -> slice:
        """What of the tile's output is used."""
        return slice(self.offset, self.offset + self.output.stop - self.output.start)


class TiledPredictor:
    """Predicts images of any size with one compiled graph.

    Attributes:
      geometry: Of the model, read off its layers.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        tile_size: TileSize = "auto",
        flips: bool = False,
        memory_budget: int = MEMORY_BUDGET,
    ) -> None:
        """Compiles nothing yet; arguments as for `predict_image`."""
        self.geometry = read_geometry(model)
        logits = model.outputs[0]
        self._channels: int = model.inputs[0].shape[-1]
        self._classes: int = logits.shape[-1]
        self._tile_size = tile_size
        self._flips = flips
        self._pixels_a_pass = memory_budget // _bytes_a_pixel(model)
        self._sees_all = any(
            isinstance(layer, keras.layers.GroupNormalization) for layer in model.layers
        )
        if isinstance(tile_size, int):
            self.geometry.output_size(tile_size)
            self._check_tile(tile_size)
        forward = keras.Model(model.inputs, logits)  # Without further heads.
        activate = tf.nn.sigmoid if self._classes == 1 else tf.nn.softmax
        signature = tf.TensorSpec((None, None, None, self._channels), tf.uint8)
        self._forward = tf.function(
            lambda tiles: activate(forward(tiles, training=False)),
            input_signature=[signature],
        )

    def __call__(
        self,
        image: npt.NDArray[np.uint8],
        *,
        out: npt.NDArray[np.float32] | None = None,
        progress: Progress | None = None,
    ) -> npt.NDArray[np.float32]:
        """Predicts one image; see `predict_image`.

        Args:
          image: uint8 [H, W, C].
          out: float32 [H, W, classes] to write into, tile by tile; a `numpy.memmap`
            serves for results larger than memory.
          progress: As for `predict_image`.
        """
        self._check_image(image)
        shape = (*image.shape[:2], self._classes)
        if out is None:
            out = np.empty(shape, np.float32)
        elif out.shape != shape or out.dtype != np.float32:
            raise ValueError(
                f"`out` must be float32 {shape}. Received {out.dtype} {out.shape}."
            )
        turns = list(_mirrors(image, out)) if self._flips else [(image, out)]
        tile = self._tile_shape(*image.shape[:2])
        rows, columns = (
            list(self._spans(size, side))
            for size, side in zip(image.shape[:2], tile, strict=True)
        )
        total = len(turns) * len(rows) * len(columns)
        done = 0
        for turn, (source, target) in enumerate(turns):
            for batch in self._batches(rows, columns, tile):
                outputs = self._predict_tiles(source, batch, tile)
                for (y, x), output in zip(batch, outputs, strict=True):
                    used = output[y.taken, x.taken]
                    if turn:
                        target[y.output, x.output] += used
                    else:
                        target[y.output, x.output] = used
                done += len(batch)
                if progress:
                    progress(done, total)
        if self._flips:
            out /= len(turns)
        return out

    @property
    def largest_tile(self) -> int | None:
        """Side of the largest square tile that keeps within the memory budget.

        None where the model sees the whole image at once (group norm). The smallest
        that the model takes if the budget is not even enough for that.
        """
        if self._sees_all:
            return None
        largest = self.geometry.nearest_valid_sizes(math.isqrt(self._pixels_a_pass))[0]
        return max(largest or 0, self._smallest_tile())

    def _predict_tiles(
        self,
        image: npt.NDArray[np.uint8],
        batch: list[tuple[_Span, _Span]],
        tile: tuple[int, int],
    ) -> npt.NDArray[np.float32]:
        height, width = image.shape[:2]
        tiles = [
            image[
                _mirrored(y.start, tile[0], height)[:, np.newaxis],
                _mirrored(x.start, tile[1], width),
            ]
            for y, x in batch
        ]
        return self._forward(np.stack(tiles)).numpy()

    def _batches(
        self, rows: list[_Span], columns: list[_Span], tile: tuple[int, int]
    ) -> Iterator[list[tuple[_Span, _Span]]]:
        at_once = max(1, self._pixels_a_pass // (tile[0] * tile[1]))
        spans = itertools.product(rows, columns)
        while batch := list(itertools.islice(spans, at_once)):
            yield batch

    def _tile_shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the tiles for an image, at most those of one pass."""
        whole = (
            self.geometry.valid_size_for_output(height),
            self.geometry.valid_size_for_output(width),
        )
        if self._tile_size is None:
            return whole
        if self._tile_size != "auto":
            return min(self._tile_size, whole[0]), min(self._tile_size, whole[1])
        if math.prod(whole) <= self._pixels_a_pass:
            return whole
        if self._sees_all:
            self._check_tile(0)
        side = math.isqrt(self._pixels_a_pass)
        # Where one side of the image is short, the tile may be longer in the other.
        longest_y = min(whole[0], max(side, self._pixels_a_pass // whole[1]))
        tile_height = self._even_tile(height, longest_y, whole[0])
        longest_x = min(whole[1], self._pixels_a_pass // tile_height)
        return tile_height, self._even_tile(width, longest_x, whole[1])

    def _even_tile(self, size: int, longest: int, whole: int) -> int:
        """The shortest tile that needs no more passes than the longest one would."""
        if longest >= whole:
            return whole
        used = self._used(longest)
        if used < self.geometry.step:
            least = self._smallest_tile() ** 2
            raise ValueError(
                f"The memory budget is enough for {self._pixels_a_pass:,} pixels, but"
                f" the smallest tiles of this model have {least:,}. Raise"
                " `memory_budget`"
                f" {least / max(1, self._pixels_a_pass):.1f} times."
            )
        count = -(-size // used)
        step = self.geometry.step
        needed = -(-size // (count * step)) * step + self._border
        return min(self.geometry.nearest_valid_sizes(needed)[1], whole)

    @property
    def _border(self) -> int:
        """What of a tile's input has no part in the output used, both sides."""
        return 2 * (self.geometry.margin + self.geometry.seam)

    def _used(self, tile: int) -> int:
        """Output pixels that a tile contributes: the distance between two tiles."""
        return (tile - self._border) // self.geometry.step * self.geometry.step

    def _smallest_tile(self) -> int:
        step = self.geometry.step
        return self.geometry.nearest_valid_sizes(self._border + step)[1]

    def _spans(self, size: int, tile: int) -> Iterator[_Span]:
        """Covers `size` pixels of the image with tiles of `tile` input pixels."""
        margin, seam = self.geometry.margin, self.geometry.seam
        last = self.geometry.valid_size_for_output(size) - tile
        done = start = 0
        while done < size:
            start = min(start, last)
            end = size if start == last else start + tile - 2 * margin - seam
            end = min(size, end)
            yield _Span(start - margin, slice(done, end), done - start)
            done = end
            start += self._used(tile)

    def _check_tile(self, tile_size: int) -> None:
        if self._sees_all:
            raise ValueError(
                "Group norm takes the statistics of a whole image, so that tiles would"
                " not agree. Use tile_size=None, which takes one pass whatever its"
                " memory, or scale the image down."
            )
        if tile_size < self._smallest_tile():
            raise ValueError(
                f"Tiles of {tile_size} pixels are all border for a U-Net of depth"
                f" {self.geometry.depth} with {self.geometry.padding} padding. Use"
                f" {self._smallest_tile()} or more."
            )

    def _check_image(self, image: npt.NDArray[np.uint8]) -> None:
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


def _bytes_a_pixel(model: keras.Model) -> int:
    """Memory of a pass for each pixel of its input."""
    top = next(
        layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)
    )
    bytes_a_value = 2 if "16" in top.compute_dtype else 4
    ends = model.inputs[0].shape[-1] + model.outputs[0].shape[-1]
    return _TENSORS_AT_THE_TOP * (top.filters * bytes_a_value + ends)


def _mirrored(start: int, count: int, size: int) -> npt.NDArray[np.intp]:
    """Indices of `count` pixels from `start` on, mirrored at both ends of `size`."""
    places = np.arange(start, start + count)
    if size == 1:
        return np.zeros_like(places)
    places %= 2 * (size - 1)
    return np.where(places < size, places, 2 * (size - 1) - places)


def _mirrors(
    image: npt.NDArray[np.uint8], out: npt.NDArray[np.float32]
) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]]:
    """The image and its three mirror images, each with a view to write into."""
    for turn in itertools.product((slice(None), slice(None, None, -1)), repeat=2):
        yield image[turn], out[turn]
