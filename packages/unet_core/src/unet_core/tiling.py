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

import collections
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from unet_core.config import whole_number
from unet_core.geometry import Geometry
from unet_core.reading import read_geometry
from unet_core.tile_plan import Span, TilePlan, TilePlanner

TileSize = int | None | Literal["auto"]
Flips = bool | Literal["horizontal"]

MEMORY_BUDGET = 3 * 1024**3
"""Bytes that one pass through the network may take unless told otherwise: 3 GiB."""

# A pass holds some tensors at once, the largest of which are mostly those at the top of
# the way up. Measured on nine networks: 1.7 to 3.5 times the largest.
_LARGEST_TENSORS = 4
# Bytes of one channel of the image, from uint8 to scaled float32, and of one class,
# from logits to the copy that is returned.
_BYTES_AT_THE_ENDS = 16

# What is averaged: the image, left to right, upside down, both.
_MIRRORS = [*itertools.product((slice(None), slice(None, None, -1)), repeat=2)]


@dataclasses.dataclass(frozen=True)
class _Job:
    """An image, the tiles it is predicted in, and where the prediction goes."""

    image: npt.NDArray[np.uint8]
    out: npt.NDArray[np.float32]
    plan: TilePlan


_Tile = tuple[_Job, Span, Span]
"""One of an image, as its rows and its columns."""


def predict_image(
    model: keras.Model,
    image: npt.NDArray[np.uint8],
    *,
    tile_size: TileSize = "auto",
    flips: Flips = False,
    memory_budget: float = MEMORY_BUDGET,
    out: npt.NDArray[np.float32] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> npt.NDArray[np.float32]:
    """Predicts every pixel of one image.

    To predict many, make one `TiledPredictor`: it compiles the model once.

    Args:
      model: A model of `build_unet`, or one loaded from its `.keras` file.
      image: uint8 [H, W, C], any H and W from 1.
      tile_size: Side of the input tiles in pixels, a valid size of the model, whatever
        the memory that it takes; None for one pass over the whole image; "auto" for one
        pass where `memory_budget` allows it, since that is cheapest, else the tiles of
        least work that keep within it.
      flips: True averages the predictions of the image and of its mirror images (left
        to right, upside down, both), at four times the cost; "horizontal" those of the
        image and of the one mirrored left to right, at twice the cost.
      memory_budget: Bytes that a pass may take; image and result come on top.
      out: float32 [H, W, classes] to write into, tile by tile; a `numpy.memmap` serves
        for results larger than memory.
      progress: Is called as `progress(done, total)`, numbers of tiles, after each pass.

    Returns:
      float32 [H, W, classes]: probabilities, by sigmoid for one class and by softmax
      for more. `out`, if given.

    Raises:
      TypeError: `model` is no Keras model.
      ValueError: The image, `out`, the tile size or the budget does not fit the model,
        or the model gives no logits.

    Example:
      ```python
      import numpy as np
      from unet_core import UNetConfig, build_unet, predict_image

      model = build_unet(UNetConfig(depth=2, base_filters=8))
      photo = np.zeros((201, 150, 3), np.uint8)
      assert predict_image(model, photo).shape == (201, 150, 1)
      ```
    """
    predictor = TiledPredictor(
        model, tile_size=tile_size, flips=flips, memory_budget=memory_budget
    )
    return predictor(image, out=out, progress=progress)


class TiledPredictor:
    """Predicts images of any size with one compiled graph.

    Attributes:
      geometry: Of the model, read off its layers.

    Example:
      ```python
      import numpy as np
      from unet_core import TiledPredictor, UNetConfig, build_unet

      model = build_unet(UNetConfig(depth=2, base_filters=8))
      predict = TiledPredictor(model, tile_size=140)
      for size in (200, 301):
          photo = np.zeros((size, size, 3), np.uint8)
          assert predict(photo).shape == (size, size, 1)
      ```
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        tile_size: TileSize = "auto",
        flips: Flips = False,
        memory_budget: float = MEMORY_BUDGET,
    ) -> None:
        """Compiles nothing yet; arguments as for `predict_image`."""
        self.geometry = read_geometry(model)
        _check_logits(model)
        logits = model.outputs[0]
        self._channels: int = model.inputs[0].shape[-1]
        self._classes: int = logits.shape[-1]
        self._turns = _check_flips(flips)
        self._bytes_a_pixel = _bytes_a_pixel(model, self.geometry)
        self._pixels_a_pass = _check_budget(memory_budget) // self._bytes_a_pixel
        self._planner = TilePlanner(self.geometry)
        self._tile_size = self._check_tile_size(tile_size)
        forward = keras.Model(model.inputs, logits)  # Without further heads.
        activate = tf.nn.sigmoid if self._classes == 1 else tf.nn.softmax
        signature = tf.TensorSpec((None, None, None, self._channels), tf.uint8)
        # Keras interpolates in graphs of known sizes only: one for each size of tile.
        layers = model._flatten_layers(include_self=False, recursive=True)
        any_size = all(_interpolation(each) == "nearest" for each in layers)

        @tf.function(autograph=False, input_signature=[signature] if any_size else None)
        def probabilities(tiles: tf.Tensor) -> tf.Tensor:
            return activate(forward(tiles, training=False))

        self._probabilities = probabilities

    def __call__(
        self,
        image: npt.NDArray[np.uint8],
        *,
        out: npt.NDArray[np.float32] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Predicts one image; arguments, result and errors as for `predict_image`."""
        image = self._check_image(image)
        shape = (*image.shape[:2], self._classes)
        if out is None:
            out = np.empty(shape, np.float32)
        elif getattr(out, "shape", None) != shape or out.dtype != np.float32:
            raise ValueError(
                f"`out` must be a float32 array {shape}. Received {_described(out)}."
            )
        self._predict([_Job(image, out, self._plan(*image.shape[:2]))], progress)
        return out

    def many(
        self, images: Sequence[npt.NDArray[np.uint8]]
    ) -> list[npt.NDArray[np.float32]]:
        """Predicts several images, of which tiles of one size share a pass.

        As many as the memory budget allows. It is meant for a GPU, for which one image
        is too little work; on a CPU it gains nothing. The results are those of one
        image after the other but for rounding.

        Args:
          images: Each as for `predict_image`, of any sizes.

        Returns:
          What `predict_image` returns for each, in their order.

        Raises:
          ValueError: As for `predict_image`.

        Example:
          ```python
          import numpy as np
          from unet_core import TiledPredictor, UNetConfig, build_unet

          predict = TiledPredictor(build_unet(UNetConfig(depth=2, base_filters=8)))
          photos = [np.zeros((height, 60, 3), np.uint8) for height in (40, 50, 40)]
          assert [len(each) for each in predict.many(photos)] == [40, 50, 40]
          ```
        """
        jobs, by_size = [], collections.defaultdict(list)
        for image in map(self._check_image, images):
            out = np.empty((*image.shape[:2], self._classes), np.float32)
            job = _Job(image, out, self._plan(*image.shape[:2]))
            jobs.append(job)
            by_size[job.plan.height, job.plan.width].append(job)
        for alike in by_size.values():
            self._predict(alike)
        return [job.out for job in jobs]

    def _predict(
        self, jobs: list[_Job], progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Predicts images whose tiles are of one size."""
        done, total = 0, self._turns * sum(job.plan.count for job in jobs)
        for turn in range(self._turns):
            for batch in self._batches(jobs):
                outputs = self._predict_tiles(batch, turn)
                for (job, y, x), output in zip(batch, outputs, strict=True):
                    used = output[y.taken, x.taken]
                    if turn:
                        job.out[_MIRRORS[turn]][y.output, x.output] += used
                    else:
                        job.out[y.output, x.output] = used
                del outputs, output, used  # Memory, before the next pass.
                done += len(batch)
                if progress:
                    progress(done, total)
        if self._turns > 1:
            for job in jobs:
                np.divide(job.out, self._turns, out=job.out)

    @property
    def largest_tile(self) -> int | None:
        """Side of the largest square tile that keeps within the memory budget.

        None where the model sees the whole image at once (`Geometry.sees_all`). The
        smallest that the model takes if the budget is not even enough for that.
        """
        if self.geometry.sees_all:
            return None
        largest = self.geometry.nearest_valid_sizes(math.isqrt(self._pixels_a_pass))[0]
        return max(largest or 0, self._planner.smallest_tile)

    def _plan(self, height: int, width: int) -> TilePlan:
        """Which tiles an image is predicted in."""
        whole = self._planner.one_pass(height, width)
        plan: TilePlan | None
        if self._tile_size is None:
            plan = whole
        elif self._tile_size == "auto":
            plan = self._planner.cheapest(height, width, self._pixels_a_pass)
        else:
            plan = self._planner.of_size(height, width, self._tile_size)
        if self.geometry.sees_all and plan != whole:
            needed = whole.pixels * self._bytes_a_pixel
            raise ValueError(
                f"The layer {self.geometry.sees_all} sees the whole image, so that"
                f" tiles would not agree. For one pass over {height} x {width} pixels"
                f" use `tile_size=None`, which takes about {needed:,} bytes, or scale"
                " the image down."
            )
        if plan is None:
            needed = self._planner.smallest_tile**2 * self._bytes_a_pixel
            raise ValueError(
                f"`memory_budget` is enough for {self._pixels_a_pass:,} pixels, fewer"
                f" than a tile of this model has. Use at least {needed:,} bytes."
            )
        return plan

    def _batches(self, jobs: list[_Job]) -> Iterator[list[_Tile]]:
        at_once = max(1, self._pixels_a_pass // jobs[0].plan.pixels)
        if self._channels == 1:
            # oneDNN adds up a convolution of one channel in another order for a batch
            # than for one image, which a preset's other layers do not.
            at_once = 1
        tiles = ((job, y, x) for job in jobs for y, x in job.plan.tiles)
        left = sum(job.plan.count for job in jobs)
        while left:
            # A power of two: cuDNN searches for the best way anew for each shape.
            count = 1 << min(left, at_once).bit_length() - 1
            yield list(itertools.islice(tiles, count))
            left -= count

    def _predict_tiles(self, batch: list[_Tile], turn: int) -> npt.NDArray[np.float32]:
        tiles = [
            job.image[_MIRRORS[turn]][
                _mirrored(y.start, job.plan.height, len(job.image))[:, np.newaxis],
                _mirrored(x.start, job.plan.width, job.image.shape[1]),
            ]
            for job, y, x in batch
        ]
        return self._probabilities(np.stack(tiles)).numpy()

    def _check_tile_size(self, tile_size: TileSize) -> TileSize:
        if tile_size is None or tile_size == "auto":
            return tile_size
        try:
            tile_size = whole_number("tile_size", tile_size, 1)
        except ValueError as error:
            raise ValueError(f'{error}. Or "auto", or None for one pass.') from None
        self.geometry.output_size(tile_size)
        if tile_size < self._planner.smallest_tile:
            raise ValueError(
                f"Tiles of {tile_size} pixels are all border for a U-Net of depth"
                f" {self.geometry.depth} with {self.geometry.padding} padding. Use"
                f" {self._planner.smallest_tile} or more."
            )
        return tile_size

    def _check_image(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        image = np.asarray(image)
        if image.ndim != 3 or image.shape[-1] != self._channels or 0 in image.shape:
            cure = (
                "`image[..., numpy.newaxis]` gives shades of grey an axis of channels"
                if self._channels == 1
                else "Pillow's `convert('RGB')` gives any photo three channels"
            )
            raise ValueError(
                f"The model takes one image [H, W, {self._channels}]. Received"
                f" {_described(image)}. {cure}."
            )
        if image.dtype != np.uint8:
            raise ValueError(
                f"Images are uint8, 0 to 255. Received {image.dtype}; convert with"
                " `image.astype(numpy.uint8)` after scaling to that range."
            )
        return image


def _interpolation(layer: keras.Layer) -> str:
    return str(getattr(layer, "interpolation", "nearest"))


def _check_logits(model: keras.Model) -> None:
    """Refuses probabilities, which would go through a sigmoid twice."""
    last = model.outputs[0]._keras_history.operation
    activation = getattr(last, "activation", last)
    name = getattr(activation, "__name__", type(activation).__name__).lower()
    if name in ("sigmoid", "softmax"):
        raise ValueError(
            f"The layer {last.name!r} at the end of the model applies a {name}, which"
            " prediction applies itself. Give it the model that returns logits."
        )


def _check_budget(memory_budget: float) -> int:
    is_number = isinstance(memory_budget, (int, float, np.number))
    if isinstance(memory_budget, bool) or not is_number or not memory_budget >= 1:
        raise ValueError(
            "`memory_budget` must be a number of bytes, such as 2 * 1024**3."
            f" Received: {memory_budget!r}"
        )
    return int(min(memory_budget, 2**62))


def _check_flips(flips: Flips) -> int:
    """How many of `_MIRRORS` to average."""
    turns = {False: 1, "horizontal": 2, True: 4}
    if flips not in list(turns):
        raise ValueError(
            f'`flips` must be False, True or "horizontal". Received: {flips!r}'
        )
    return turns[flips]


def _bytes_a_pixel(model: keras.Model, geometry: Geometry) -> int:
    """Memory of a pass for each pixel of its input."""
    layers = list(model._flatten_layers(include_self=False, recursive=True))
    convolutions = [each for each in layers if isinstance(each, keras.layers.Conv2D)]
    dtype = convolutions[0].compute_dtype if convolutions else model.compute_dtype
    bytes_a_value = tf.as_dtype(dtype).size
    if any(isinstance(each, keras.layers.LayerNormalization) for each in layers):
        bytes_a_value = max(bytes_a_value, 4)  # It computes in float32.
    ends = model.inputs[0].shape[-1] + model.outputs[0].shape[-1]
    largest = _LARGEST_TENSORS * geometry.values_a_pixel * bytes_a_value
    return int(largest + _BYTES_AT_THE_ENDS * ends)


def _described(array: object) -> str:
    """What an argument is, for an error's text."""
    if not hasattr(array, "shape"):
        return type(array).__name__
    return f"{getattr(array, 'dtype', '')} {tuple(array.shape)}".strip()


def _mirrored(start: int, count: int, size: int) -> npt.NDArray[np.intp]:
    """Indices of `count` pixels from `start` on, mirrored at both ends of `size`."""
    places = np.arange(start, start + count)
    if size == 1:
        return np.zeros_like(places)
    places %= 2 * (size - 1)
    return np.where(places < size, places, 2 * (size - 1) - places)
