"""Polygons in the plane: affine maps, exact clipping, bars that lie across.

```python
outline = Affine.similarity(scale=0.5, angle=0.1).apply(points)
parts = clip_to_rectangle(outline, width=320, height=240)
left_and_right = cut_out_bar(parts, Bar(normal=(1.0, 0.0), offset=160.0, half=8.0))
```

A polygon is a float64 array [n, 2] of (x, y) in pixels, closed implicitly, simple
(it does not cross itself), in either direction; x runs to the right, y downwards, and
pixel (i, j) covers i..i+1 by j..j+1. Clipping a concave polygon may leave several
polygons, so every clip returns a list: no part is joined to another by a bridge.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Polygon = npt.NDArray[np.float64]

_LEAST_AREA = 2.0
"""In square pixels. A smaller part would show as a dot or not at all."""


@dataclasses.dataclass(frozen=True)
class Affine:
    """The map (x, y) -> (xx * x + xy * y + dx, yx * x + yy * y + dy)."""

    xx: float
    xy: float
    dx: float
    yx: float
    yy: float
    dy: float

    @classmethod
    def similarity(
        cls,
        *,
        scale: float,
        angle: float = 0.0,
        mirror: bool = False,
        pivot: tuple[float, float] = (0.0, 0.0),
        target: tuple[float, float] = (0.0, 0.0),
    ) -> Affine:
        """Returns a mirror (left to right), then a scale, then a rotation.

        Args:
          scale: Factor above 0.
          angle: In radians, clockwise as seen on the picture.
          mirror: Whether left and right are exchanged.
          pivot: The point about which all this happens.
          target: Where `pivot` comes to lie.
        """
        cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
        sign = -1.0 if mirror else 1.0
        xx, xy, yx, yy = sign * cosine, -sine, sign * sine, cosine
        dx = target[0] - xx * pivot[0] - xy * pivot[1]
        dy = target[1] - yx * pivot[0] - yy * pivot[1]
        return cls(xx, xy, dx, yx, yy, dy)

    def apply(self, points: Polygon) -> Polygon:
        """Returns the points, float64 [n, 2], after the map."""
        matrix = np.array([[self.xx, self.xy], [self.yx, self.yy]])
        mapped: Polygon = points @ matrix.T + np.array([self.dx, self.dy])
        return mapped

    def inverse(self) -> Affine:
        """Returns the map that undoes this one, which must not be singular."""
        determinant = self.xx * self.yy - self.xy * self.yx
        xx, xy = self.yy / determinant, -self.xy / determinant
        yx, yy = -self.yx / determinant, self.xx / determinant
        dx = -(xx * self.dx + xy * self.dy)
        dy = -(yx * self.dx + yy * self.dy)
        return Affine(xx, xy, dx, yx, yy, dy)


@dataclasses.dataclass(frozen=True)
class Bar:
    """A straight bar without ends: the points with |normal . p - offset| <= half.

    Attributes:
      normal: Unit vector across the bar.
      offset: Signed distance of the bar's middle line from the origin, in pixels.
      half: Half of the bar's width in pixels.
    """

    normal: tuple[float, float]
    offset: float
    half: float


def area(polygon: Polygon) -> float:
    """Returns the area of a simple polygon in square pixels."""
    x, y = polygon[:, 0], polygon[:, 1]
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2.0


def clip_half_plane(
    polygon: Polygon, normal: tuple[float, float], offset: float
) -> list[Polygon]:
    """Clips a simple polygon against the half-plane normal . p >= offset.

    The chains of vertices inside are closed along the clipping line. A simple polygon
    meets that line in intervals, whose ends are the crossings in sorted order taken
    two by two; so a chain that leaves at one end of an interval goes on with the chain
    that enters at the other end.

    Args:
      polygon: float64 [n, 2].
      normal: Vector that points into the half-plane.
      offset: Where along `normal` the half-plane begins.

    Returns:
      Disjoint simple polygons, none of them smaller than two square pixels.
    """
    distance = polygon @ np.array(normal) - offset
    inside = distance >= 0.0
    if inside.all():
        return [polygon]
    if not inside.any():
        return []
    chains = _inside_chains(polygon, distance, inside)
    along = np.array([-normal[1], normal[0]])
    # Ends of chain c: 2c where it enters, 2c + 1 where it leaves.
    ends = np.array([point @ along for c in chains for point in (c[0], c[-1])])
    order = np.argsort(ends, kind="stable")
    partner = np.empty(len(ends), dtype=np.intp)
    partner[order[0::2]], partner[order[1::2]] = order[1::2], order[0::2]
    return _drop_degenerate(_join_chains(chains, partner))


def _inside_chains(
    polygon: Polygon, distance: npt.NDArray[np.float64], inside: npt.NDArray[np.bool_]
) -> list[Polygon]:
    """Returns the stretches inside, each with its crossing points at both ends."""
    count = len(polygon)
    entries = np.flatnonzero(inside & ~np.roll(inside, 1))
    chains = []
    for first in entries:
        length = int(np.argmin(np.roll(inside, -first)))
        indices = (first + np.arange(-1, length + 1)) % count
        chain = polygon[indices]
        near = distance[indices]
        chain[0] += (chain[1] - chain[0]) * near[0] / (near[0] - near[1])
        chain[-1] += (chain[-2] - chain[-1]) * near[-1] / (near[-1] - near[-2])
        chains.append(chain)
    return chains


def _join_chains(
    chains: list[Polygon], partner: npt.NDArray[np.intp]
) -> Iterable[Polygon]:
    """Yields the closed polygons that the chains make up."""
    unused = set(range(len(chains)))
    while unused:
        start = current = min(unused)
        loop = []
        while True:
            unused.discard(current)
            loop.append(chains[current])
            # Rounding can pair two ends of one kind only where the polygon touches
            # the line; closing the loop there loses nothing that can be seen.
            current = int(partner[2 * current + 1]) // 2
            if current == start or current not in unused:
                break
        yield np.concatenate(loop)


def _drop_degenerate(polygons: Iterable[Polygon]) -> list[Polygon]:
    return [polygon for polygon in polygons if area(polygon) >= _LEAST_AREA]


def clip_to_rectangle(polygon: Polygon, width: float, height: float) -> list[Polygon]:
    """Returns what of a simple polygon lies in 0..width by 0..height (pixels)."""
    parts = [polygon]
    for normal, offset in (
        ((1.0, 0.0), 0.0),
        ((-1.0, 0.0), -width),
        ((0.0, 1.0), 0.0),
        ((0.0, -1.0), -height),
    ):
        parts = [q for p in parts for q in clip_half_plane(p, normal, offset)]
    # Interpolation may leave a crossing 1e-14 outside.
    return [np.clip(part, 0.0, (width, height)) for part in parts]


def cut_out_bar(polygons: Iterable[Polygon], bar: Bar) -> list[Polygon]:
    """Returns what of some simple polygons lies on either side of a bar."""
    nx, ny = bar.normal
    return [
        part
        for polygon in polygons
        for normal, offset in (
            ((nx, ny), bar.offset + bar.half),
            ((-nx, -ny), bar.half - bar.offset),
        )
        for part in clip_half_plane(polygon, normal, offset)
    ]
