"""What a layer does to an image: which of its pixels it sees, and how many it gives.

A network is a list of `Operation`s, each after its sources: `stages.py` writes that
list, and `reading.py` reads it off any Keras model. No TensorFlow here.
"""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple


class Window(NamedTuple):
    """Which pixels of its input an output pixel is computed from, along one axis.

    Zeros are put between the input pixels, so that there is one of these in `scale`;
    then it is padded, and a window of `kernel` pixels moves over it by `stride`. Output
    pixel `o` is computed from the places `o * stride - before` and the `kernel - 1`
    after it.

    Attributes:
      kernel: Pixels of a window, from the first to the last.
      stride: From one window to the next.
      scale: Output pixels for each of the input.
      before: Pixels padded before the first; less than 0 crops.
      after: The same, after the last.
    """

    kernel: int = 1
    stride: int = 1
    scale: int = 1
    before: int = 0
    after: int = 0

    def size(self, size: int) -> int:
        """How many output pixels there are for so many of the input."""
        places = (size - 1) * self.scale + 1 + self.before + self.after
        return max(0, (places - self.kernel) // self.stride + 1)

    def seen(self, pixels: range) -> range:
        """The pixels of the input that these of the output need."""
        first = pixels.start * self.stride - self.before
        last = (pixels.stop - 1) * self.stride - self.before + self.kernel - 1
        return range(-(-first // self.scale), last // self.scale + 1)


def window_of(layer: str, options: dict[str, Any]) -> Window:
    """What a Keras layer does to height and width.

    Args:
      layer: Its class.
      options: Its arguments; pairs have the same number twice.
    """
    match layer:
        case "Conv2D" | "DepthwiseConv2D" | "SeparableConv2D":
            dilation = options.get("dilation_rate", 1)
            kernel = (options["kernel_size"] - 1) * dilation + 1
            return _sliding(kernel, options.get("strides", 1), options)
        case "MaxPooling2D" | "AveragePooling2D":
            side = options["pool_size"]
            return _sliding(side, options.get("strides") or side, options)
        case "Conv2DTranspose":
            scale = options["strides"]
            kernel = max(options["kernel_size"], scale)
            lost = kernel - scale if options.get("padding") == "same" else 0
            before, after = kernel - 1 - lost // 2, kernel - 1 - (lost - lost // 2)
            return Window(kernel, 1, scale, before, after)
        case "UpSampling2D":
            scale = options["size"]
            if options.get("interpolation", "nearest") == "nearest":
                return Window(scale, 1, scale, scale - 1, scale - 1)
            # Bilinear: of the pixel's own, and the nearer neighbour.
            before, after = scale + (scale - 1) // 2, scale // 2
            return Window(before + after + 1, 1, scale, before, scale - 1 + after)
        case "ZeroPadding2D":
            return Window(1, 1, 1, *options["padding"])
        case "Cropping2D":
            cropping = options["cropping"]
            before, after = (
                (cropping, cropping) if isinstance(cropping, int) else cropping
            )
            return Window(1, 1, 1, -before, -after)
        case _:
            return Window()


def _sliding(kernel: int, stride: int, options: dict[str, Any]) -> Window:
    """A window without padding, or with what "same" pads if the stride fits the size.

    One that is narrower than its stride is taken for one of the whole stride.
    """
    kernel = max(kernel, stride)
    lost = kernel - stride if options.get("padding", "valid") == "same" else 0
    return Window(kernel, stride, 1, lost // 2, lost - lost // 2)


class Cost(NamedTuple):
    """What a layer has, and does for each pixel of its output.

    Attributes:
      weights: Numbers that training changes by gradient.
      statistics: Numbers that it changes otherwise.
      products: Multiplications of its convolutions.
    """

    weights: int = 0
    statistics: int = 0
    products: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Operation:
    """One layer of the network.

    Attributes:
      layer: Its class in `keras.layers`.
      name: Its name: stage and part.
      sources: What it takes; none for the first, which takes the image.
      channels: Of its output.
      options: Further arguments of its class.
      sees_all: Whether each output pixel depends on all of the image.
      of_image: Whether there is one output pixel for all of the image, as within
        squeeze-and-excite. It still counts as of the size of what it came from.
      pixel: Side of an output pixel, in pixels of the image.
      margin: What the output lacks at each of the four borders, in pixels of the image,
        where all that was padded and taken off was so at both ends alike.
    """

    layer: str
    name: str
    sources: tuple["Operation", ...] = dataclasses.field(repr=False)
    channels: int
    options: dict[str, Any]
    sees_all: bool = False
    of_image: bool = False
    pixel: int = dataclasses.field(init=False)
    margin: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        """Follows pixels and margins step by step, so that no recursion is deep."""
        pixel, margin = 1, 0
        if self.sources:
            pixel, margin = self.sources[0].pixel, self.sources[0].margin
        kernel, stride, scale, before, after = self.window
        lost = kernel - stride + scale - 1 - before - after
        object.__setattr__(self, "margin", margin + pixel * lost // (2 * scale))
        object.__setattr__(self, "pixel", pixel * stride // scale)

    def make(self, dtype: str | None) -> Any:
        """The layer of Keras, which is imported here only.

        Args:
          dtype: Its policy, if `options` have none; None for the global one.
        """
        import keras

        options = {"name": self.name, "dtype": dtype, **self.options}
        return getattr(keras.layers, self.layer)(**options)

    @functools.cached_property
    def cost(self) -> Cost:
        """What it has and does."""
        options, channels = self.options, self.channels
        match self.layer:
            case "Conv2D" | "Conv2DTranspose":
                kernel = options["kernel_size"] ** 2 * self.sources[0].channels
                weights = kernel * channels + channels * options.get("use_bias", True)
                if not options.get("trainable", True):
                    return Cost(0, weights, kernel * channels)
                # An up-convolution lets one tap of its kernel into each output pixel.
                return Cost(weights, 0, kernel * channels // self.window.scale**2)
            case "DepthwiseConv2D":
                kernel = options["kernel_size"] ** 2 * channels
                return Cost(
                    kernel + channels * options.get("use_bias", True), 0, kernel
                )
            case "BatchNormalization":
                return Cost(2 * channels, 2 * channels)
            case "GroupNormalization" | "LayerNormalization":
                return Cost(2 * channels)
            case _:
                return Cost()

    @functools.cached_property
    def window(self) -> Window:
        """What the layer does to height and width."""
        return window_of(self.layer, self.options)


def add(
    operations: list[Operation],
    layer: str,
    name: str,
    *sources: Operation,
    image: int = 3,
    **options: Any,
) -> Operation:
    """Adds a layer to a list of them.

    Args:
      operations: Gets it as its last.
      layer: Its class in `keras.layers`.
      name: Its name.
      *sources: What it takes; none for the image.
      image: Channels of the image.
      **options: Further arguments of its class.
    """
    given = [each.channels for each in sources] or [image]
    channels = sum(given) if layer == "Concatenate" else given[0]
    channels = options.get("filters", channels)
    sees_all = layer == "GroupNormalization"
    operation = Operation(layer, name, sources, channels, options, sees_all)
    operations.append(operation)
    return operation


def sizes(operations: Iterable[Operation], image: int) -> dict[Operation, int] | None:
    """Height or width of each output for that of an image.

    Returns:
      None if something that is joined does not fit: the image is of no valid size.
    """
    found: dict[Operation, int] = {}
    for operation in operations:
        (given, *others) = [found[each] for each in operation.sources] or [image]
        if any(other != given for other in others):
            return None
        found[operation] = operation.window.size(given)
        if not found[operation]:
            return None
    return found


def receptive_field(
    operations: Sequence[Operation], output: Operation, pixels: range
) -> range:
    """The pixels of the image that these of an output depend on, along all paths."""
    needed = {output: pixels}
    image: range | None = None
    for operation in reversed(operations):
        if operation not in needed:
            continue  # Of another output.
        seen = operation.window.seen(needed[operation])
        for source in operation.sources:
            needed[source] = _joined(seen, needed.get(source))
        if not operation.sources:
            image = _joined(seen, image)
    assert image is not None
    return image


def _joined(one: range, other: range | None) -> range:
    if other is None:
        return one
    return range(min(one.start, other.start), max(one.stop, other.stop))
