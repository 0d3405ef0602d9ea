"""What a network costs, from its options alone: parameters, work, memory.

>>> print(Summary.of("blog_2018", 572))
input 572 x 572 x 3, output 388 x 388 x 1
31,059,137 parameters, of which 31,045,441 are trained
301.6 GFLOP forward, 903.6 GFLOP a training step, an image
1,265 MB of activations in training, an image, in float32

A multiplication and an addition count as two operations, and only convolutions count,
which are nearly all of the work.
"""

import dataclasses
from typing import Self

from unet_core.config import UNetConfig, whole_number
from unet_core.geometry import Geometry
from unet_core.presets import find_preset
from unet_core.stages import Network

_NOT_KEPT = ("Rescaling", "Cropping2D", "ZeroPadding2D", "Dropout")


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
      activation_mb: Outputs of all convolutions, norms, ReLUs, poolings, up-samplings
        and joints in 10^6 bytes of float32 (half of it at a mixed precision): about
        what training keeps for the backward pass.

    Example:
      ```python
      from unet_core import Summary

      print(Summary.of("blog_2018", 572))
      assert Summary.of("blog_2018", 572).parameters == 31_059_137
      ```
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
        weights = statistics = kept = forward = of_the_image = 0
        network = Network(config)
        heights, widths = network.sizes(height), network.sizes(width)
        for operation in network.operations:
            pixels = heights[operation] * widths[operation]
            pixels = 1 if operation.of_image else pixels
            if operation.layer not in _NOT_KEPT:
                kept += pixels * operation.channels
            cost = operation.cost
            weights += cost.weights
            statistics += cost.statistics
            forward += pixels * cost.products
            from_image = all(not each.sources for each in operation.sources)
            of_the_image += pixels * cost.products if from_image else 0
        return cls(
            input_shape=(height, width, config.input_channels),
            output_shape=(*output, config.classes),
            parameters=weights + statistics,
            trainable=weights,
            forward_gflop=2 * forward / 1e9,
            train_gflop=2 * (3 * forward - of_the_image) / 1e9,
            activation_mb=4 * kept / 1e6,
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
