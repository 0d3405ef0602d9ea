"""Where cats, cups and bars lie in a picture: random places that meet conditions.

```python
group = place_group(rng, size=(320, 240))
cats = place_cats(rng, size=(320, 240), avoid=group)
cup = place_cup(rng, size=(320, 240), avoid=group + cats)
bar = draw_bar(rng, size=(320, 240), cat=cats[0].parts)
```

Places are drawn at random and drawn again until they meet the conditions: enough of
the cat is inside the picture, cats overlap little, a bar cuts a cat in two.
A size is (width, height) in pixels.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from make_sample import cup_outline, pictures
from make_sample.chelsea_outline import OUTLINE, PHOTO_SIZE
from make_sample.pictures import Size
from make_sample.polygons import (
    Affine,
    Bar,
    Polygon,
    area,
    clip_to_rectangle,
    cut_out_bar,
)

_OUTLINE: Polygon = np.array(OUTLINE, dtype=np.float64)
_CUP: Polygon = np.array(cup_outline.OUTLINE, dtype=np.float64)
_TRIES = 200
_LEAST_VISIBLE = 0.5
"""Share of a cat's or cup's area that must lie inside the picture."""


@dataclasses.dataclass(frozen=True)
class Cutout:
    """A cat or cup in its place.

    Attributes:
      pose: Map from the photograph to the picture.
      outline: The mapped outline, which may reach beyond the picture.
      parts: The polygons of what lies inside the picture.
    """

    pose: Affine
    outline: Polygon
    parts: tuple[Polygon, ...]


def place_cats(
    rng: np.random.Generator, size: Size, avoid: Sequence[Cutout] = ()
) -> list[Cutout]:
    """Returns cats in their places: mostly one, sometimes two that may overlap.

    Args:
      rng: The source of all randomness.
      size: The picture's size.
      avoid: Cats that are there already. Beside them goes one cat at most, overlapping
        none of them, and none at all where there is no room.

    Raises:
      RuntimeError: An empty picture had no place for a cat.
    """
    two = not avoid and rng.random() < 0.22
    shares = (0.35, 0.7) if two or avoid else (0.35, 1.1)
    first = _place_cat(rng, size, shares, avoid, most_overlap=0.0)
    if first is None:
        if avoid:
            return []
        raise RuntimeError(f"no place for a cat in a picture of {size} pixels")
    second = _place_cat(rng, size, shares, [first], 0.25) if two else None
    return [first] if second is None else [first, second]


def place_group(rng: np.random.Generator, size: Size) -> list[Cutout]:
    """Returns a group of small cats, close together and partly overlapping."""
    side = min(size)
    centre = np.array(size) * (0.5, 0.5) + rng.uniform(-0.2, 0.2, 2) * size
    group: list[Cutout] = []
    for _ in range(int(rng.integers(6, 9))):
        near = (centre + rng.uniform(-0.2, 0.2, 2) * side, 0.1 * side)
        share = 0.24 * side / size[1]
        cat = _place_cat(rng, size, (0.7 * share, share), group, 0.35, near)
        if cat is not None:
            group.append(cat)
    return group


def place_cup(
    rng: np.random.Generator, size: Size, avoid: Sequence[Cutout]
) -> Cutout | None:
    """Returns a cup that overlaps nothing; None where there is no room for it.

    Args:
      rng: The source of all randomness.
      size: The picture's size.
      avoid: What is there already.
    """
    low, high = _CUP.min(axis=0), _CUP.max(axis=0)
    middle, height = (low + high) / 2, high[1] - low[1]
    for _ in range(_TRIES):
        target = rng.uniform(0.1, 0.9, 2) * size
        pose = Affine.similarity(
            scale=float(rng.uniform(0.15, 0.45) * size[1] / height),
            angle=math.radians(float(rng.uniform(-15.0, 15.0))),
            mirror=bool(rng.random() < 0.5),
            pivot=(float(middle[0]), float(middle[1])),
            target=(float(target[0]), float(target[1])),
        )
        if cup := _lay(pose, _CUP, size, avoid, 0.0):
            return cup
    return None


def _place_cat(
    rng: np.random.Generator,
    size: Size,
    shares: tuple[float, float],
    placed: Sequence[Cutout],
    most_overlap: float,
    near: tuple[npt.NDArray[np.float64], float] | None = None,
) -> Cutout | None:
    """Tries places until enough of the cat is visible and little of it overlaps.

    Args:
      rng: The source of all randomness.
      size: The picture's size.
      shares: Bounds of the cat's height as a share of the picture's.
      placed: Cats that are there already.
      most_overlap: Share of the smaller of two cats that may overlap.
      near: Centre and radius in pixels within which the cat's centre must lie.

    Returns:
      The cat, or None where no try succeeded.
    """
    for _ in range(_TRIES):
        pose = _draw_pose(rng, size, shares, near)
        if cat := _lay(pose, _OUTLINE, size, placed, most_overlap):
            return cat
    return None


def _lay(
    pose: Affine,
    points: Polygon,
    size: Size,
    placed: Sequence[Cutout],
    most_overlap: float,
) -> Cutout | None:
    """Returns the cut-out in this pose; None if little of it shows or much overlaps."""
    outline = pose.apply(points)
    parts = tuple(clip_to_rectangle(outline, *size))
    if sum(map(area, parts)) < _LEAST_VISIBLE * area(outline):
        return None
    if all(_overlap(outline, each.outline, size) <= most_overlap for each in placed):
        return Cutout(pose, outline, parts)
    return None


def _overlap(outline: Polygon, other: Polygon, size: Size) -> float:
    """Returns the visible common area as a share of the smaller visible area."""
    a, b = pictures.footprint(outline, size), pictures.footprint(other, size)
    return float((a & b).sum() / max(1, min(a.sum(), b.sum())))


def _draw_pose(
    rng: np.random.Generator,
    size: Size,
    shares: tuple[float, float],
    near: tuple[npt.NDArray[np.float64], float] | None,
) -> Affine:
    """Returns a random map from the photograph to the picture."""
    middle = (_OUTLINE.min(axis=0) + _OUTLINE.max(axis=0)) / 2
    if near is None:
        target = rng.uniform(0.1, 0.9, 2) * size
    else:
        target = near[0] + rng.uniform(-near[1], near[1], 2)
    pose = Affine.similarity(
        scale=float(rng.uniform(*shares)) * size[1] / PHOTO_SIZE[1],
        angle=math.radians(float(np.clip(rng.normal(0.0, 7.0), -15.0, 15.0))),
        mirror=bool(rng.random() < 0.5),
        pivot=(float(middle[0]), float(middle[1])),
        target=(float(target[0]), float(target[1])),
    )
    manner = rng.random()
    if near is not None or manner < 0.25:
        return pose
    return _seat(pose, size) if manner < 0.65 else _move_inside(pose, size)


def _seat(pose: Affine, size: Size) -> Affine:
    """Returns the pose with the photograph's lower border below the picture's."""
    corners = pose.apply(_OUTLINE[_OUTLINE[:, 1] == PHOTO_SIZE[1]])
    return dataclasses.replace(pose, dy=pose.dy + size[1] - float(corners[:, 1].min()))


def _move_inside(pose: Affine, size: Size) -> Affine:
    """Returns the pose moved into the picture, centred where it is too large."""
    outline = pose.apply(_OUTLINE)
    low, high = outline.min(axis=0), outline.max(axis=0)
    room = np.array(size) - (high - low)
    moved = np.where(room < 0, room / 2, np.clip(low, 0.0, np.maximum(room, 0.0)))
    dx, dy = (float(shift) for shift in moved - low)
    return dataclasses.replace(pose, dx=pose.dx + dx, dy=pose.dy + dy)


def draw_bar(
    rng: np.random.Generator, size: Size, cat: Sequence[Polygon] | None
) -> Bar:
    """Returns a bar, upright or level within 20 degrees.

    Args:
      rng: The source of all randomness.
      size: The picture's size.
      cat: The polygons of a cat that the bar must cut into two or more parts, each
        of them a tenth of the cat or more; None where any bar will do.

    Raises:
      RuntimeError: No such bar was found.
    """
    points = np.array([size]) * [[0.0], [1.0]] if cat is None else np.concatenate(cat)
    low, high = points.min(axis=0), points.max(axis=0)
    for _ in range(_TRIES):
        angle = math.radians(float(rng.uniform(-20.0, 20.0)))
        angle += math.pi / 2 if rng.random() < 0.3 else 0.0
        normal = (math.cos(angle), math.sin(angle))
        through = low + rng.uniform(0.3, 0.7, 2) * (high - low)
        half = float(rng.uniform(0.015, 0.045)) * min(size)
        bar = Bar(normal, float(through @ np.array(normal)), half)
        if cat is None or _cuts_in_two(bar, cat):
            return bar
    raise RuntimeError(f"no bar cuts the cat in a picture of {size} pixels")


def _cuts_in_two(bar: Bar, cat: Sequence[Polygon]) -> bool:
    least = 0.1 * sum(map(area, cat))
    return sum(area(part) >= least for part in cut_out_bar(cat, bar)) >= 2
