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

All follows from what each operation of a network does to a length (`operations.py`). An
unpadded convolution 3x3 takes off 2 pixels, which are worth more of the image the
further down it is; a pooling needs an even length. The networks of this package are
listed by `stages.py`, any other is read off its graph (`read_geometry`).
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple, Self

from unet_core.config import Padding, UNetConfig, Upsampling
from unet_core.operations import Operation, receptive_field, sizes
from unet_core.stages import Network

# No network that is of use needs an image so large.
_LARGEST = 1 << 14


class Geometry:
    """The sizes of one network.

    Example:
      ```python
      from unet_core import Geometry

      paper = Geometry(depth=4, padding="valid")
      assert paper.output_size(572) == 388
      assert paper.nearest_valid_sizes(600) == (588, 604)
      ```
    """

    def __init__(
        self,
        depth: int = 4,
        padding: Padding = "valid",
        upsampling: Upsampling = "transposed",
    ) -> None:
        """The sizes of the network in the paper's figure.

        Args:
          depth: Number of poolings.
          padding: "valid" as in the paper, or "same".
          upsampling: How the way up doubles a length.

        Raises:
          ValueError: An argument has an impossible value.
        """
        config = UNetConfig(depth=depth, padding=padding, upsampling=upsampling)
        network = _with_all_heads(config)
        self._operations: Sequence[Operation] = network.operations
        self._outputs: Sequence[Operation] = network.outputs

    @classmethod
    def of(cls, config: UNetConfig) -> Self:
        """The sizes of the network with these options."""
        network = _with_all_heads(config)
        return cls.of_operations(network.operations, network.outputs)

    @classmethod
    def of_operations(
        cls, operations: Sequence[Operation], outputs: Sequence[Operation]
    ) -> Self:
        """The sizes of any network.

        Args:
          operations: Each after its sources.
          outputs: Those that give logits, of the full size first.

        Raises:
          ValueError: No image fits the network, or its output is no image of the same
            middle.
        """
        geometry = cls.__new__(cls)
        geometry._operations, geometry._outputs = operations, outputs
        _ = geometry._sizes
        return geometry

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Geometry) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"<Geometry: step {self.step}, margin {self.margin}, halo {self.halo}>"

    @property
    def depth(self) -> int:
        """How often the network halves the size."""
        return self.step.bit_length() - 1

    @property
    def padding(self) -> Padding:
        """Is "same" if the output is as large as the input, else "valid"."""
        return "valid" if self.margin else "same"

    @property
    def upsampling(self) -> Upsampling:
        """Is "transposed", or "resize" if a layer of the network repeats pixels."""
        layers = {each.layer for each in self._operations}
        return "resize" if "UpSampling2D" in layers else "transposed"

    @property
    def sees_all(self) -> str | None:
        """What makes each output pixel depend on all of the image, if anything does.

        The name and the class of the first such layer: a global pooling, an attention,
        a norm over height and width, or one whose reach is not known.
        """
        return next(
            (f"{e.name} ({e.layer})" for e in self._operations if e.sees_all), None
        )

    @functools.cached_property
    def step(self) -> int:
        """2^depth: the distance of valid sizes, and of places where a tile may start.

        Tiles that start a multiple of this apart see the same pooling grid; any other
        shift gives other outputs for the same pixel.
        """
        return max(each.pixel for each in self._operations)

    @property
    def margin(self) -> int:
        """What the output lacks at each of the four borders, in pixels.

        6 * 2^depth - 4 for "valid" (7 * 2^depth - 5 if resized), 0 for "same".
        """
        return self._sizes.margin

    @property
    def halo(self) -> int:
        """How far from an output pixel an input pixel may lie and still count.

        The margin that "valid" padding has, and the rest of the pooling cell that the
        output pixel lies in.
        """
        places = enumerate(self._fields)
        return max(max(at - seen[0], seen[-1] - at) for at, seen in places)

    @functools.cached_property
    def seam(self) -> int:
        """Pixels of a tile's output that are not used where another tile adjoins.

        0 for padding "valid"; for "same" what the zeros around a tile reach, in whole
        pooling cells, since tiles start and end with one.
        """
        if self.margin:
            return 0
        before = max(-field.start for field in self._fields)
        after = max(field.stop for field in self._fields) - self.step
        return _round_up(max(before, after), self.step)

    @property
    def crop_sizes(self) -> tuple[int, ...]:
        """Pixels at each border that "copy and crop" takes off a skip, top level first.

        They do not depend on the size of the input.
        """
        operations = reversed(self._operations)
        crops = [
            -each.window.before for each in operations if each.layer == "Cropping2D"
        ]
        return tuple(crops) or (0,) * self.depth

    @property
    def smallest_valid_size(self) -> int:
        """The smallest size of an input that leaves an output, in pixels."""
        return self._sizes.smallest

    @property
    def values_a_pixel(self) -> float:
        """Of the largest tensor between two layers, for each pixel of the image."""
        return max(each.channels / each.pixel**2 for each in self._operations)

    def is_valid_size(self, size: int) -> bool:
        """Whether every pooling meets an even length and some output is left."""
        smallest = self.smallest_valid_size
        return size >= smallest and (size - smallest) % self.step == 0

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
        if not 0 <= level < len(self._outputs):
            raise ValueError(
                f"`level` must be 0 to {len(self._outputs) - 1} for depth {self.depth}."
                f" Received: {level!r}"
            )
        self._refuse({"size": size})
        found = sizes(self._operations, size)
        assert found is not None
        return found[self._outputs[level]]

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
    def _sizes(self) -> "_Sizes":
        """Found by trying: of `step` sizes in a row that fit, the one that loses least.

        Where strided convolutions round, others fit as well, but lose a part of a cell.
        """
        for first in itertools.count(1, self.step):
            lost = {}
            for size in range(first, first + self.step):
                found = sizes(self._operations, size)
                if found is not None:
                    lost[size] = size - found[self._outputs[0]]
            if lost:
                break
            if first > _LARGEST:
                raise ValueError(f"No image of up to {_LARGEST} pixels fits it")
        # Strided and padded convolutions may make more of an odd size than it has.
        unequal = {size: each < 0 or each % 2 for size, each in lost.items()}
        smallest = min(lost, key=lambda size: (unequal[size], lost[size], size))
        if unequal[smallest]:
            raise ValueError(
                f"It makes {smallest - lost[smallest]} pixels of {smallest}, which do"
                " not lie in the middle of them"
            )
        return _Sizes(smallest, lost[smallest] // 2)

    @functools.cached_property
    def _fields(self) -> list[range]:
        """The receptive fields of the first `step` pixels of the output."""
        fields = []
        for pixel in range(self.step):
            seen = receptive_field(
                self._operations, self._outputs[0], range(pixel, pixel + 1)
            )
            fields.append(range(seen.start - self.margin, seen.stop - self.margin))
        return fields

    @functools.cached_property
    def _key(self) -> tuple[object, ...]:
        return self.step, self._sizes, tuple(self._fields), self.sees_all is None

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


class _Sizes(NamedTuple):
    """The smallest valid size, and what the output lacks at each border."""

    smallest: int
    margin: int


def _with_all_heads(config: UNetConfig) -> Network:
    return Network(dataclasses.replace(config, deep_supervision=config.depth - 1))


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
