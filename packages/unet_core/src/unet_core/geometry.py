"""Sizes: what goes in, what comes out, and how far a pixel is seen.

A size is the side of a square, or one side of a rectangle, in pixels; the two sides of
an image are independent of each other.

>>> paper = Geometry()
>>> paper.output_size(572)
388
>>> paper.nearest_valid_sizes(600)
(588, 604)
>>> paper.margin, paper.crop_sizes
(92, (88, 40, 16, 4))

All follows from two facts. Every stage has two 3x3 convolutions, which with padding
"valid" take 4 pixels off a side's length; and a pooling needs an even side. Going up
from a bottom of b pixels gives an output of 2^depth * (b - 4) + 4, going down to it
takes an input of 2^depth * (b + 8) - 4. Where up-sampling is by resizing, its 3x3
convolution takes another 2 pixels off at each level on the way up.
"""

import dataclasses
from typing import get_args

from unet_core.config import Padding, Upsampling

# What the two 3x3 convolutions of a stage take off the length of a side.
_STAGE_TAKES = 4


@dataclasses.dataclass(frozen=True)
class Geometry:
    """The sizes of one kind of U-Net.

    Attributes:
      depth: Number of poolings.
      padding: Of the convolutions.
      upsampling: How the way up doubles a side.
    """

    depth: int = 4
    padding: Padding = "valid"
    upsampling: Upsampling = "transposed"

    def __post_init__(self) -> None:
        """Refuses what no U-Net is.

        Raises:
          ValueError: An attribute has an impossible value.
        """
        if type(self.depth) is not int or self.depth < 1:
            raise ValueError(
                f"`depth` must be a whole number of at least 1. Received: {self.depth}"
            )
        for name, kind in (("padding", Padding), ("upsampling", Upsampling)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(
                    f"`{name}` must be one of {list(get_args(kind))}. Received:"
                    f" {getattr(self, name)!r}"
                )

    @property
    def step(self) -> int:
        """2^depth: the distance of valid sizes, and of places where a tile may start.

        Tiles that start a multiple of this apart see the same pooling grid; any other
        shift gives other outputs for the same pixel.
        """
        return 2**self.depth

    @property
    def margin(self) -> int:
        """Pixels a side by which the output is smaller: 6 * 2^depth - 4 if "valid"."""
        return 0 if self.padding == "same" else self._margin(self.depth)

    @property
    def halo(self) -> int:
        """How far from an output pixel an input pixel may lie and still count.

        The margin that "valid" padding has, and the rest of the pooling cell that the
        output pixel lies in.
        """
        return self._margin(self.depth) + self.step - 1

    @property
    def seam(self) -> int:
        """Pixels of a tile's output that are not used where another tile adjoins.

        None for padding "valid"; for "same" what the zeros around a tile reach.
        """
        return 0 if self.padding == "valid" else _round_up(self.halo, self.step)

    @property
    def crop_sizes(self) -> tuple[int, ...]:
        """Pixels a side that "copy and crop" takes off each skip, top level first.

        What lies below a skip is a U-Net of smaller depth without the stage's own four
        convolutions. The crops do not depend on the size of the input.
        """
        if self.padding == "same":
            return (0,) * self.depth
        levels = range(self.depth)
        return tuple(
            self._margin(self.depth - level) - _STAGE_TAKES for level in levels
        )

    @property
    def smallest_valid_size(self) -> int:
        """The smallest side of an input that leaves an output, in pixels."""
        needed = 2 * self.margin + 1
        return _round_up(needed + self._rest, self.step) - self._rest

    def is_valid_size(self, size: int) -> bool:
        """Whether every pooling meets an even side and some output is left."""
        return (size + self._rest) % self.step == 0 and size > 2 * self.margin

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
        """The side of the output for an input of side `size`, in pixels.

        Raises:
          ValueError: The size does not fit the network; the text names the nearest
            sizes that do.
        """
        if not self.is_valid_size(size):
            below, above = self.nearest_valid_sizes(size)
            nearest = f"{above}" if below is None else f"{below} and {above}"
            raise ValueError(
                f"A U-Net of depth {self.depth} with {self.padding} padding takes no"
                f" input of side {size}. Nearest valid: {nearest}. Crop or pad the"
                " image to that."
            )
        return size - 2 * self.margin

    def valid_size_for_output(self, size: int) -> int:
        """The smallest valid input side whose output has at least `size` pixels."""
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
        # From the output back to the input along the deepest path, the widest. Without
        # padding a tensor begins where its first output does, so that a convolution
        # reaches to the right alone; with it, to both sides.
        left = 0 if self.padding == "valid" else 1
        first = last = pixel
        for _ in range(self.depth):
            reach = _STAGE_TAKES + self._up_takes
            first, last = first - left * reach // 2, last + reach - left * reach // 2
            first, last = first // 2, last // 2
        half = left * _STAGE_TAKES // 2
        first, last = first - half, last + _STAGE_TAKES - half
        for _ in range(self.depth):
            first, last = 2 * first - half, 2 * last + 1 + _STAGE_TAKES - half
        return range(first - self.margin, last - self.margin + 1)

    @property
    def _rest(self) -> int:
        """What is missing to the next multiple of `step`, for valid sizes."""
        return 0 if self.padding == "same" else _STAGE_TAKES

    @property
    def _up_takes(self) -> int:
        return 2 if self.upsampling == "resize" else 0

    def _margin(self, depth: int) -> int:
        """Half of what an unpadded U-Net of this depth takes off a side."""
        on_the_way_down = _STAGE_TAKES * (2**depth - 1)
        bottom = _STAGE_TAKES * 2**depth
        on_the_way_up = (_STAGE_TAKES + self._up_takes) * (2**depth - 1)
        return (on_the_way_down + bottom + on_the_way_up) // 2


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
