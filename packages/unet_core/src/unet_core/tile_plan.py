"""Which tiles cover an image: arithmetic on sizes, without TensorFlow.

Tiles start at multiples of 2^depth, so that all of them pool the same cells, and all
tiles of an image have one size. Along each axis the first begins and the last ends
where one pass over the whole image would; of each is used what sees all of its
surroundings.
"""

import dataclasses
import itertools
from collections.abc import Iterator

from unet_core.geometry import Geometry


@dataclasses.dataclass(frozen=True)
class Span:
    """One tile along one axis: where it starts, and what of its output is used.

    Attributes:
      start: First input pixel, in pixels of the image; negative where it is mirrored.
      output: Output pixels used, in pixels of the image.
      offset: First of these in pixels of the tile's output.
    """

    start: int
    output: slice
    offset: int

    @property
    def taken(self) -> slice:
        """What of the tile's output is used."""
        return slice(self.offset, self.offset + self.output.stop - self.output.start)


@dataclasses.dataclass(frozen=True)
class TilePlan:
    """The tiles of one image.

    Attributes:
      height: Of a tile's input, in pixels: a valid size.
      width: The same.
      rows: One for each row of tiles.
      columns: One for each column of tiles.
    """

    height: int
    width: int
    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    @property
    def tiles(self) -> Iterator[tuple[Span, Span]]:
        """Row by row, each as its rows and its columns."""
        return itertools.product(self.rows, self.columns)

    @property
    def count(self) -> int:
        """How many tiles there are."""
        return len(self.rows) * len(self.columns)

    @property
    def pixels(self) -> int:
        """Input pixels of one tile."""
        return self.height * self.width


class TilePlanner:
    """Plans tiles for the networks of one geometry.

    Attributes:
      smallest_tile: Side of the smallest tile that is not all border, in pixels.
    """

    def __init__(self, geometry: Geometry) -> None:
        """Plans nothing yet."""
        self._geometry = geometry
        border = 2 * (geometry.margin + geometry.seam)
        self.smallest_tile = geometry.nearest_valid_sizes(border + geometry.step)[1]
        # Tiles are `step` apart or a multiple of it; the rest is lost with the border.
        self._lost = self.smallest_tile - geometry.step

    def one_pass(self, height: int, width: int) -> TilePlan:
        """The whole image as one tile."""
        return self._plan(height, width, self._whole(height), self._whole(width))

    def of_size(self, height: int, width: int, side: int) -> TilePlan:
        """Square tiles of `side` pixels, less where the image needs less."""
        tile = min(side, self._whole(height)), min(side, self._whole(width))
        return self._plan(height, width, *tile)

    def cheapest(self, height: int, width: int, pixels: int) -> TilePlan | None:
        """The plan of least work whose tiles have at most `pixels` pixels.

        That is one pass where this has no more; None if the smallest tiles have more.
        """
        shapes = []
        for rows in itertools.count(1):
            tile_height = self._shortest_tile(height, rows)
            tile_width = self._narrowest_tile(width, pixels // tile_height)
            if tile_width:
                shapes.append((tile_height, tile_width))
            if tile_height <= self.smallest_tile:
                break

        def cost(shape: tuple[int, int]) -> tuple[int, int]:
            tiles = self._count(height, shape[0]) * self._count(width, shape[1])
            return tiles * shape[0] * shape[1], tiles

        return self._plan(height, width, *min(shapes, key=cost)) if shapes else None

    def _whole(self, size: int) -> int:
        return self._geometry.valid_size_for_output(size)

    def _count(self, size: int, tile: int) -> int:
        """Tiles that `size` pixels of the image need along one axis."""
        beyond_the_first = self._whole(size) - tile
        if not beyond_the_first:
            return 1
        return 1 + -(-beyond_the_first // (tile - self._lost))

    def _shortest_tile(self, size: int, count: int) -> int:
        """The smallest side of tiles of which `count` cover `size` pixels."""
        whole = self._whole(size)
        needed = -(-(whole + (count - 1) * self._lost) // count)
        tile = self._geometry.nearest_valid_sizes(needed)[1]
        return min(whole, max(tile, self.smallest_tile))

    def _narrowest_tile(self, size: int, longest: int) -> int | None:
        """The smallest side that needs no more tiles than one of `longest` would."""
        whole = self._whole(size)
        if longest >= whole:
            return whole
        if longest < self.smallest_tile:
            return None
        tile = self._geometry.nearest_valid_sizes(longest)[0]
        assert tile is not None
        return self._shortest_tile(size, self._count(size, tile))

    def _plan(
        self, height: int, width: int, tile_height: int, tile_width: int
    ) -> TilePlan:
        return TilePlan(
            height=tile_height,
            width=tile_width,
            rows=tuple(self._spans(height, tile_height)),
            columns=tuple(self._spans(width, tile_width)),
        )

    def _spans(self, size: int, tile: int) -> Iterator[Span]:
        """Covers `size` pixels of the image with tiles of `tile` input pixels."""
        margin, seam = self._geometry.margin, self._geometry.seam
        last = self._whole(size) - tile
        done = start = 0
        while done < size:
            start = min(start, last)
            end = size if start == last else start + tile - 2 * margin - seam
            yield Span(start - margin, slice(done, end), done - start)
            done = end
            start += tile - self._lost
