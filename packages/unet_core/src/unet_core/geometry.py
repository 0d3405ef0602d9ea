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

All follows from two facts. Every stage has two 3x3 convolutions, which with padding
"valid" take 4 pixels off a length; and a pooling needs an even length. Going up
from a bottom of b pixels gives an output of 2^depth * (b - 4) + 4, going down to it
takes an input of 2^depth * (b + 8) - 4. Where up-sampling is by resizing, its 3x3
convolution takes another 2 pixels off at each level on the way up.
"""

import dataclasses
from typing import Self, get_args

from unet_core.config import Padding, UNetConfig, Upsampling, whole_number

# What the two 3x3 convolutions of a stage take off a length.
_STAGE_TAKES = 4


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
        object.__setattr__(self, "depth", whole_number("depth", self.depth, 1))
        for name, kind in (("padding", Padding), ("upsampling", Upsampling)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(
                    f"`{name}` must be one of {list(get_args(kind))}. Received:"
                    f" {getattr(self, name)!r}"
                )

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
        return 2**self.depth

    @property
    def margin(self) -> int:
        """What the output lacks at each of the four borders, in pixels.

        6 * 2^depth - 4 for "valid" (7 * 2^depth - 5 if resized), 0 for "same".
        """
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

        0 for padding "valid"; for "same" what the zeros around a tile reach, in whole
        pooling cells, since tiles start and end with one.
        """
        if self.padding == "valid":
            return 0
        return _round_up(-self.receptive_field(0).start, self.step)

    @property
    def crop_sizes(self) -> tuple[int, ...]:
        """Pixels at each border that "copy and crop" takes off a skip, top level first.

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
        """The smallest size of an input that leaves an output, in pixels."""
        needed = 2 * self.margin + 1
        return _round_up(needed + self._rest, self.step) - self._rest

    def is_valid_size(self, size: int) -> bool:
        """Whether every pooling meets an even length and some output is left."""
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
        takes = 0 if self.padding == "same" else _STAGE_TAKES
        for _ in range(level):
            size = (size - takes) // 2
        return size - 2 * takes - 2 * self.crop_sizes[level]

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

    def _margin(self, depth: int) -> int:
        """Half of what an unpadded U-Net of this depth takes off a length."""
        on_the_way_down = _STAGE_TAKES * (2**depth - 1)
        bottom = _STAGE_TAKES * 2**depth
        on_the_way_up = (_STAGE_TAKES + self._up_takes) * (2**depth - 1)
        return (on_the_way_down + bottom + on_the_way_up) // 2


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
