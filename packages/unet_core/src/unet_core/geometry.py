"""Sizes: what goes in, what comes out, and how much the border costs.

A size is the side of a square, or one side of a rectangle, in pixels; the two sides of
an image are independent of each other.

>>> output_size(572)
388
>>> nearest_valid_sizes(600)
(588, 604)
>>> margin(), crop_sizes()
(92, (88, 40, 16, 4))

All follows from two facts. Every stage has two 3x3 convolutions, which with padding
"valid" take 4 pixels off a side's length; and a pooling needs an even side. Going up
from a bottom of b pixels gives an output of 2^depth * (b - 4) + 4, going down to it
takes an input of 2^depth * (b + 8) - 4.
"""

from unet_core.config import Padding

# What the two 3x3 convolutions of a stage take off the length of a side.
_STAGE_TAKES = 4


def output_size(size: int, depth: int = 4, padding: Padding = "valid") -> int:
    """The side of the output for an input of side `size`, in pixels.

    Args:
      size: Side of the input in pixels.
      depth: Number of poolings.
      padding: Of the convolutions.

    Raises:
      ValueError: The size does not fit the network; the text names the nearest sizes
        that do.
    """
    if not is_valid_size(size, depth, padding):
        below, above = nearest_valid_sizes(size, depth, padding)
        nearest = f"{above}" if below is None else f"{below} and {above}"
        raise ValueError(
            f"A U-Net of depth {depth} with {padding} padding takes no input of side"
            f" {size}. Nearest valid: {nearest}. Crop or pad the image to that."
        )
    return size - 2 * margin(depth, padding)


def is_valid_size(size: int, depth: int = 4, padding: Padding = "valid") -> bool:
    """Whether every pooling meets an even side and some output is left."""
    rest = 0 if padding == "same" else _STAGE_TAKES
    return (size + rest) % step(depth) == 0 and size > 2 * margin(depth, padding)


def smallest_valid_size(depth: int = 4, padding: Padding = "valid") -> int:
    """The smallest side of an input that leaves an output, in pixels."""
    rest = 0 if padding == "same" else _STAGE_TAKES
    needed = 2 * margin(depth, padding) + 1
    return _round_up(needed + rest, step(depth)) - rest


def nearest_valid_sizes(
    size: int, depth: int = 4, padding: Padding = "valid"
) -> tuple[int | None, int]:
    """The largest valid size up to `size` (None if there is none), and the next.

    For a valid size both are that size.
    """
    smallest = smallest_valid_size(depth, padding)
    if size < smallest:
        return None, smallest
    above = smallest + _round_up(size - smallest, step(depth))
    return (above if above == size else above - step(depth)), above


def valid_size_for_output(size: int, depth: int = 4, padding: Padding = "valid") -> int:
    """The smallest valid input side whose output has at least `size` pixels."""
    return nearest_valid_sizes(size + 2 * margin(depth, padding), depth, padding)[1]


def step(depth: int = 4) -> int:
    """2^depth: the distance of valid sizes, and of places where a tile may start.

    Tiles that start a multiple of this apart see the same pooling grid; any other
    shift gives other outputs for the same pixel.
    """
    return 2**depth


def margin(depth: int = 4, padding: Padding = "valid") -> int:
    """Pixels a side by which the output is smaller than the input: 6 * 2^depth - 4."""
    return 0 if padding == "same" else 6 * step(depth) - _STAGE_TAKES


def halo(depth: int = 4) -> int:
    """How far from an output pixel an input pixel may lie and still count.

    The margin, and the rest of the pooling cell that the output pixel lies in.
    """
    return margin(depth) + step(depth) - 1


def crop_sizes(depth: int = 4) -> tuple[int, ...]:
    """Pixels a side that "copy and crop" takes off each skip, top level first.

    What lies below a skip is a U-Net of smaller depth without the stage's own four
    convolutions. The crops do not depend on the size of the input.
    """
    return tuple(margin(depth - level) - _STAGE_TAKES for level in range(depth))


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
