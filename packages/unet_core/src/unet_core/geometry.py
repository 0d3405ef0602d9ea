"""Sizes: what goes in, what comes out, and how far a pixel is seen.

A size is the height or the width of an image, in pixels; the two are independent.

>>> paper = Geometry()
>>> paper.output_size(572)
388
>>> paper.nearest_valid_sizes(600)
(588, 604)
>>> paper.margin, paper.crop_sizes
(92, (88, 40, 16, 4))
>>> 572 - 2 * paper.margin
388

The label of an output is the mask without its margin:
`mask[:, margin:-margin, margin:-margin]` (with padding "same" the mask as it is).

All follows from what each operation of `stages.py` does to a length. An unpadded
convolution 3x3 takes off 2 pixels, which are worth more of the image the further down
it is; a pooling needs an even length.
"""

import dataclasses
import functools
from typing import Self

from unet_core.config import Padding, UNetConfig, Upsampling
from unet_core.stages import Network, Operation


@dataclasses.dataclass(frozen=True)
class Geometry:
    """The sizes of one kind of U-Net.

    Attributes:
      depth: Number of poolings.
      padding: "valid" as in the paper, or "same".
      upsampling: How the way up doubles a length: "transposed" or "resize".
    """

    depth: int = 4
    padding: Padding = "valid"
    upsampling: Upsampling = "transposed"

    def __post_init__(self) -> None:
        """Refuses what no U-Net is.

        Raises:
          ValueError: An attribute has an impossible value.
        """
        config = UNetConfig(**dataclasses.asdict(self))
        object.__setattr__(self, "depth", config.depth)  # No number of numpy.

    @classmethod
    def of(cls, config: UNetConfig) -> Self:
        """The sizes of the network with these options."""
        return cls(config.depth, config.padding, config.upsampling)

    @property
    def step(self) -> int:
        """2^depth: the distance of valid sizes, and of places where a tile may start.

        Tiles that start a multiple of this apart see the same pooling grid; any other
        shift gives other outputs for the same pixel.
        """
        return self._bottom.pixel

    @property
    def margin(self) -> int:
        """What the output lacks at each of the four borders, in pixels.

        6 * 2^depth - 4 for "valid" (7 * 2^depth - 5 if resized), 0 for "same".
        """
        return self._network.outputs[0].margin

    @property
    def halo(self) -> int:
        """How far from an output pixel an input pixel may lie and still count.

        The margin that "valid" padding has, and the rest of the pooling cell that the
        output pixel lies in.
        """
        places = enumerate(self._fields)
        return max(max(at - seen[0], seen[-1] - at) for at, seen in places)

    @property
    def seam(self) -> int:
        """Pixels of a tile's output that are not used where another tile adjoins.

        0 for padding "valid"; for "same" what the zeros around a tile reach, in whole
        pooling cells, since tiles start and end with one.
        """
        if self.padding == "valid":
            return 0
        return _round_up(-self.receptive_field(0).start, self.step)

    @property
    def crop_sizes(self) -> tuple[int, ...]:
        """Pixels at each border that "copy and crop" takes off a skip, top level first.

        They do not depend on the size of the input.
        """
        operations = reversed(self._network.operations)
        crops = [-each.window.pad for each in operations if each.layer == "Cropping2D"]
        return tuple(crops) or (0,) * self.depth

    @property
    def smallest_valid_size(self) -> int:
        """The smallest size of an input that leaves an output, in pixels."""
        lost = 2 * self._bottom.margin
        return lost + _round_up(2 * self.margin + 1 - lost, self.step)

    def is_valid_size(self, size: int) -> bool:
        """Whether every pooling meets an even length and some output is left."""
        lost = 2 * self._bottom.margin
        return (size - lost) % self.step == 0 and size > 2 * self.margin

    def nearest_valid_sizes(self, size: int) -> tuple[int | None, int]:
        """The largest valid size up to `size` (None if there is none), and the next.

        For a valid size both are that size.
        """
        smallest = self.smallest_valid_size
        if size < smallest:
            return None, smallest
        above = smallest + _round_up(size - smallest, self.step)
        return (above if above == size else above - self.step), above

    def output_size(self, size: int) -> int:
        """The size of the output for an input of that size, in pixels.

        Raises:
          ValueError: The size does not fit the network; the text names the nearest
            sizes that do.
        """
        self._refuse({"size": size})
        return size - 2 * self.margin

    def output_shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the output, in pixels.

        Raises:
          ValueError: They do not fit the network; the text names the nearest that do.
        """
        self._refuse({"height": height, "width": width})
        return height - 2 * self.margin, width - 2 * self.margin

    def head_size(self, size: int, level: int) -> int:
        """The size of the logits of a further head (deep supervision), in pixels.

        Args:
          size: Of the input; a valid one.
          level: 1 for the first further head, on the stage below the top; 0 for the
            full-size logits.

        Returns:
          `size` / 2^level for padding "same". For "valid" somewhat more than half of
          the one before: enlarged 2^level times, the logits lie around the middle of
          the full-size ones and reach beyond them.

        Raises:
          ValueError: The size does not fit, or there is no such level.
        """
        if not 0 <= level < self.depth:
            raise ValueError(
                f"`level` must be 0 to {self.depth - 1} for depth {self.depth}."
                f" Received: {level!r}"
            )
        self._refuse({"size": size})
        return self._network.outputs[level].size(size)

    def valid_size_for_output(self, size: int) -> int:
        """The smallest valid input size whose output has at least `size` pixels."""
        return self.nearest_valid_sizes(size + 2 * self.margin)[1]

    def receptive_field(self, pixel: int) -> range:
        """The input pixels that one output pixel depends on, along one axis.

        Args:
          pixel: Of the output, in pixels of the image: with padding "valid" the image
            begins `margin` pixels inside the input.

        Returns:
          In pixels of the image, so possibly negative; what lies outside the image is
          mirrored from it, or zero with padding "same". It is the same for all pixels
          of a pooling cell of `step` pixels but for its place in that cell.
        """
        field = self._fields[pixel % self.step]
        cell = pixel - pixel % self.step
        return range(field.start + cell, field.stop + cell)

    @functools.cached_property
    def _network(self) -> Network:
        """With a head on each level; its other options change no size."""
        heads = self.depth - 1
        return Network(UNetConfig(**dataclasses.asdict(self), deep_supervision=heads))

    @functools.cached_property
    def _bottom(self) -> Operation:
        """The last pooling: if an input gives it whole pixels, then all."""
        return max(self._network.operations, key=lambda each: each.pixel)

    @functools.cached_property
    def _fields(self) -> list[range]:
        """The receptive fields of the first `step` pixels of the output."""
        return [self._field(pixel) for pixel in range(self.step)]

    def _field(self, pixel: int) -> range:
        """From the output back to the image, along all paths."""
        needed = {self._network.outputs[0]: range(pixel, pixel + 1)}
        for operation in reversed(self._network.operations):
            if operation not in needed:
                continue  # Of another head.
            seen = operation.seen(needed[operation])
            for source in operation.sources:
                also = needed.get(source, seen)
                first, end = min(seen.start, also.start), max(seen.stop, also.stop)
                needed[source] = range(first, end)
        # The last to be visited is the first of all, which takes the image.
        return range(seen.start - self.margin, seen.stop - self.margin)

    def _refuse(self, sizes: dict[str, int]) -> None:
        """Raises a ValueError if one of these does not fit, under its name."""
        faults = []
        for name, size in sizes.items():
            if not self.is_valid_size(size):
                below, above = self.nearest_valid_sizes(size)
                nearest = f"{above}" if below is None else f"{below} and {above}"
                faults.append(f"{name} {size}. Nearest valid: {nearest}")
        if faults:
            raise ValueError(
                f"A U-Net of depth {self.depth} with {self.padding} padding takes no"
                f" input of {', nor of '.join(faults)}. Crop or pad the image to that."
            )


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
