"""The pictures of the scikit-image wheel, and how layers are lit and blended.

```python
canvas = crop(load_picture("coffee.png"), box=(0, 0, 400, 300), size=(320, 240))
layer = warp(load_picture("chelsea.png"), pose, size=(320, 240))
blend(canvas, Light(gain=1.2).apply(layer), coverage(pose.apply(outline), (320, 240)))
```

A layer is float32 [height, width, 3] in 0..255, a coverage float32 [height, width] in
0..1; a size is (width, height) in pixels. Files are read from the installed wheel:
nothing is downloaded, and none of scikit-image's own code runs but its `__init__`.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from make_sample.polygons import Affine, Bar, Polygon

Layer = npt.NDArray[np.float32]
Coverage = npt.NDArray[np.float32]
Size = tuple[int, int]

_OVERSAMPLING = 4
_FEATHER = 0.8
"""Standard deviation of the soft edge in pixels."""


@dataclasses.dataclass(frozen=True)
class Light:
    """How bright, contrasty and tinted a layer is.

    Attributes:
      gain: Factor on all values.
      contrast: Factor on the distance from mid-grey.
      cast: Factors on red, green and blue.
    """

    gain: float = 1.0
    contrast: float = 1.0
    cast: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def apply(self, layer: Layer) -> Layer:
        """Returns the layer in this light, clipped to 0..255."""
        factors = np.float32(self.gain) * np.array(self.cast, dtype=np.float32)
        lit = (layer * factors - 128.0) * np.float32(self.contrast) + 128.0
        return np.clip(lit, 0.0, 255.0).astype(np.float32)


@functools.cache
def load_picture(name: str) -> Image.Image:
    """Returns a picture of scikit-image's `data` folder as RGB; do not change it.

    Args:
      name: The file's name, such as `coffee.png`.

    Raises:
      ValueError: scikit-image is not installed, or its wheel lacks the file.
    """
    try:
        file = importlib.resources.files("skimage") / "data" / name
    except ModuleNotFoundError as error:
        raise ValueError(
            f"the sample is drawn from {name!r} of scikit-image, which is not "
            "installed: pip install scikit-image"
        ) from error
    if not file.is_file():
        raise ValueError(
            f"the installed scikit-image has no {name!r} in its data folder: "
            "pip install --upgrade --force-reinstall scikit-image"
        )
    with file.open("rb") as stream, Image.open(stream) as picture:
        return picture.convert("RGB")


@functools.cache
def is_grey(name: str) -> bool:
    """Returns whether a picture has no colour of its own."""
    pixels = np.asarray(load_picture(name))
    return bool((pixels == pixels[..., :1]).all())


def to_layer(picture: Image.Image) -> Layer:
    """Returns the pixels of an RGB picture as a layer."""
    return np.asarray(picture, dtype=np.float32)


def to_pixels(layer: Layer) -> npt.NDArray[np.uint8]:
    """Returns a layer rounded to uint8."""
    return np.clip(np.rint(layer), 0, 255).astype(np.uint8)


def crop(
    picture: Image.Image, box: tuple[float, float, float, float], size: Size
) -> Layer:
    """Returns a box (left, top, right, bottom) of a picture, resized to `size`."""
    resized = picture.resize(size, Image.Resampling.BICUBIC, box=box)
    # `np.asarray` of a picture is read-only, and layers are painted on.
    return to_layer(resized).copy()


def warp(picture: Image.Image, pose: Affine, size: Size, *, blur: float = 0.0) -> Layer:
    """Returns a picture as it looks after an affine map.

    Args:
      picture: RGB.
      pose: Map from the picture's pixels to the result's.
      size: The result's size.
      blur: Standard deviation of a Gaussian blur, in pixels of the result.

    Returns:
      The layer. Beyond the picture's border its border pixels go on for a while, so
      that a soft edge along the border mixes in no black.
    """
    margin = 32
    padded = Image.fromarray(
        np.pad(np.asarray(picture), ((margin,) * 2, (margin,) * 2, (0, 0)), "edge")
    )
    # `transform` looks at 4x4 pixels only; what shrinks must be averaged before.
    scale = min(1.0, float(np.hypot(pose.xx, pose.yx)))
    width, height = (max(1, round(side * scale)) for side in padded.size)
    x_step, y_step = width / padded.width, height / padded.height
    back = pose.inverse()
    coefficients = (
        back.xx * x_step,
        back.xy * x_step,
        (back.dx + margin) * x_step,
        back.yx * y_step,
        back.yy * y_step,
        (back.dy + margin) * y_step,
    )
    warped = padded.resize((width, height), Image.Resampling.BICUBIC).transform(
        size, Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC
    )
    return to_layer(warped.filter(ImageFilter.GaussianBlur(blur)))


def coverage(polygon: Polygon, size: Size) -> Coverage:
    """Returns how much of each pixel a polygon covers, with a soft edge.

    Args:
      polygon: float64 [n, 2] in pixels; it may reach beyond the picture.
      size: The result's size.
    """
    width, height = size
    canvas = Image.new("L", (width * _OVERSAMPLING, height * _OVERSAMPLING))
    # Pillow's integer coordinates are pixel centres, ours are pixel corners.
    points = polygon * _OVERSAMPLING - 0.5
    ImageDraw.Draw(canvas).polygon(points.ravel().tolist(), fill=255)
    soft = canvas.resize(size, Image.Resampling.BOX).filter(
        ImageFilter.GaussianBlur(_FEATHER)
    )
    return np.asarray(soft, dtype=np.float32) / np.float32(255.0)


def footprint(polygon: Polygon, size: Size) -> npt.NDArray[np.bool_]:
    """Returns the pixels of a polygon, bool [height, width]: quick, edges hard."""
    canvas = Image.new("1", size)
    ImageDraw.Draw(canvas).polygon((polygon - 0.5).ravel().tolist(), fill=1)
    return np.asarray(canvas)


def bar_coverage(bar: Bar, size: Size) -> Coverage:
    """Returns how much of each pixel a bar covers, with an edge of one pixel."""
    width, height = size
    x, y = np.arange(width) + 0.5, np.arange(height)[:, np.newaxis] + 0.5
    distance = np.abs(bar.normal[0] * x + bar.normal[1] * y - bar.offset)
    return np.clip(bar.half - distance + 0.5, 0.0, 1.0).astype(np.float32)


def blend(canvas: Layer, layer: Layer, cover: Coverage) -> None:
    """Lays `layer` over `canvas`, in place, where `cover` says so."""
    canvas += (layer - canvas) * cover[..., np.newaxis]
