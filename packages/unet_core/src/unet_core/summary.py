"""What a network costs, from its options alone: parameters, work, memory.

>>> print(Summary.of("original", 572))
input 572 x 572 x 3, output 388 x 388 x 1
31,059,137 parameters, of which 31,045,441 are trained
301.6 GFLOP forward, 903.6 GFLOP a training step, an image
1,265 MB of activations in training, an image, in float32

A multiplication and an addition count as two operations, and only convolutions count,
which are nearly all of the work.
"""

import dataclasses
from collections.abc import Iterator
from typing import Self

from unet_core.config import UNetConfig, whole_number
from unet_core.geometry import Geometry
from unet_core.presets import find_preset


@dataclasses.dataclass(frozen=True)
class Summary:
    """The cost of one network for one image.

    Attributes:
      input_shape: Height, width, channels.
      output_shape: Height, width, classes, of the full-size logits.
      parameters: All numbers in its weights file.
      trainable: Of these, those that training changes by gradient.
      forward_gflop: Of one prediction.
      train_gflop: Forward, the gradients of all weights, and those of all activations
        but the image.
      activation_mb: Outputs of all convolutions, norms, poolings, up-samplings and
        concatenations in 10^6 bytes of float32 (half of it at a mixed precision): about
        what training keeps for the backward pass.
    """

    input_shape: tuple[int, int, int]
    output_shape: tuple[int, int, int]
    parameters: int
    trainable: int
    forward_gflop: float
    train_gflop: float
    activation_mb: float

    @classmethod
    def of(cls, config: UNetConfig | str, size: int | tuple[int, int]) -> Self:
        """Counts a network without building it.

        Args:
          config: Its options, or the name of a preset.
          size: Of a square input, or height and width, in pixels: valid sizes.

        Raises:
          ValueError: The size does not fit the network, or there is no such preset.
        """
        if isinstance(config, str):
            config = find_preset(config)
        sides = size if isinstance(size, tuple | list) else (size, size)
        if len(sides) != 2:
            raise ValueError(
                f"`size` must be one number, or height and width. Received: {size!r}"
            )
        height, width = (whole_number("size", side, 1) for side in sides)
        output = Geometry.of(config).output_shape(height, width)
        layers = list(_Walk(config, height, width).layers())
        forward = sum(layer.multiplications for layer in layers)
        of_weights = forward
        of_activations = sum(
            layer.multiplications for layer in layers if not layer.sees_image
        )
        trainable = sum(layer.weights for layer in layers)
        return cls(
            input_shape=(height, width, config.input_channels),
            output_shape=(*output, config.classes),
            parameters=trainable + sum(layer.statistics for layer in layers),
            trainable=trainable,
            forward_gflop=2 * forward / 1e9,
            train_gflop=2 * (forward + of_weights + of_activations) / 1e9,
            activation_mb=4 * sum(layer.values for layer in layers) / 1e6,
        )

    def __str__(self) -> str:
        """Four lines for people."""
        image, logits = (
            " x ".join(map(str, shape))
            for shape in (self.input_shape, self.output_shape)
        )
        return (
            f"input {image}, output {logits}\n"
            f"{self.parameters:,} parameters, of which {self.trainable:,} are trained\n"
            f"{self.forward_gflop:,.1f} GFLOP forward, {self.train_gflop:,.1f} GFLOP a"
            " training step, an image\n"
            f"{self.activation_mb:,.0f} MB of activations in training, an image, in"
            " float32"
        )


@dataclasses.dataclass(frozen=True)
class _Layer:
    """Numbers in its output, and what it costs."""

    values: int
    weights: int = 0
    statistics: int = 0
    multiplications: int = 0
    sees_image: bool = False


class _Walk:
    """Walks through the figure as `build_unet` does, with sides in place of tensors."""

    def __init__(self, config: UNetConfig, height: int, width: int) -> None:
        self._config = config
        self._height, self._width, self._channels = height, width, config.input_channels
        self._sees_image = True

    def layers(self) -> Iterator[_Layer]:
        config = self._config
        filters = [config.base_filters * 2**level for level in range(config.depth + 1)]
        for level in range(config.depth):
            yield from self._stage(filters[level])
            self._height, self._width = self._height // 2, self._width // 2
            yield self._plain()  # Pooling.
        yield from self._stage(filters[-1])
        for level in reversed(range(config.depth)):
            self._height, self._width = 2 * self._height, 2 * self._width
            if config.upsampling == "resize":
                yield self._plain()
                yield self._convolution(filters[level], side=3)
            else:
                # Each output pixel sees one tap of four.
                yield self._convolution(filters[level], side=1, taps=4)
            yield from self._norm()
            self._channels = 2 * filters[level]
            yield self._plain()  # Concatenation.
            yield from self._stage(filters[level])
            if level <= config.deep_supervision:
                yield self._convolution(config.classes, side=1)
                self._channels = filters[level]

    def _stage(self, filters: int) -> Iterator[_Layer]:
        before = self._height, self._width, self._channels, self._sees_image
        for _ in range(2):
            yield self._convolution(filters, side=3)
            yield from self._norm()
        if self._config.stochastic_depth:
            after = self._height, self._width
            self._height, self._width, self._channels, self._sees_image = before
            yield self._convolution(filters, side=1)
            self._height, self._width = after
            yield self._plain()  # Addition.

    def _convolution(self, filters: int, *, side: int, taps: int = 1) -> _Layer:
        if self._config.padding == "valid":
            self._height -= side - 1
            self._width -= side - 1
        kernel = side * side * self._channels * filters
        pixels = self._height * self._width
        layer = _Layer(
            values=pixels * filters,
            weights=taps * kernel + filters,
            multiplications=pixels * kernel,
            sees_image=self._sees_image,
        )
        self._channels, self._sees_image = filters, False
        return layer

    def _norm(self) -> Iterator[_Layer]:
        if self._config.norm != "none":
            moving = self._config.norm in ("batch", "sync_batch")
            yield _Layer(
                values=self._height * self._width * self._channels,
                weights=2 * self._channels,
                statistics=2 * self._channels if moving else 0,
            )

    def _plain(self) -> _Layer:
        return _Layer(values=self._height * self._width * self._channels)
