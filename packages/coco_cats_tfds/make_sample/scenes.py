"""Random pictures of Chelsea the cat, and of a cup, in front of other pictures.

```python
rng = np.random.default_rng([seed, split, index])
scene = draw_scene(rng, TRAIN, "plain")
scene.pixels  # uint8 [height, width, 3]
scene.cats[0]  # the polygons of what is visible of the first cat
```

Everything that is drawn comes out of `rng`, in an order that never depends on another
picture. Things that are neither (ellipses, rectangles, blobs, bars of another texture)
are pasted in the same way, so a pasted edge alone does not give a cat away. Only a bar
ever hides a part of a cat, apart from another cat, and only a bar a part of a cup.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from make_sample import chelsea_outline, cup_outline, pictures, placement
from make_sample.pictures import Layer, Light, Size
from make_sample.placement import Cutout
from make_sample.polygons import Affine, Polygon, cut_out_bar

SceneKind = Literal["empty", "plain", "bar", "crowd"]


@dataclasses.dataclass(frozen=True)
class Backgrounds:
    """Names of the pictures that one split may show besides the cat."""

    photographs: tuple[str, ...]
    textures: tuple[str, ...]

    def without(self, name: str) -> Backgrounds:
        """All of them but one."""
        kept = tuple(each for each in self.photographs if each != name)
        return dataclasses.replace(self, photographs=kept)


# All of these are CC0 or were released into the public domain, by what `skimage.data`
# says of each: what is drawn of them is shipped.
TRAIN = Backgrounds(
    photographs=("astronaut.png", "coffee.png", "retina.jpg"),
    textures=("brick.png", "grass.png", "hubble_deep_field.jpg", "text.png"),
)

VALIDATION = Backgrounds(
    photographs=("camera.png", "clock_motion.png", "rocket.jpg"),
    textures=("cell.png", "gravel.png"),
)


@dataclasses.dataclass(frozen=True)
class Scene:
    """One picture and what there is to annotate in it.

    Attributes:
      pixels: uint8 [height, width, 3].
      backdrop: The same picture before cats, cups and bars were laid over it.
      cats: For each cat the polygons of its visible parts, inside the picture.
      crowd: The polygons of all cats of a group; empty where there is no group.
      cups: As `cats`.
    """

    pixels: npt.NDArray[np.uint8]
    backdrop: npt.NDArray[np.uint8]
    cats: tuple[tuple[Polygon, ...], ...] = ()
    crowd: tuple[Polygon, ...] = ()
    cups: tuple[tuple[Polygon, ...], ...] = ()


def draw_scene(
    rng: np.random.Generator,
    backgrounds: Backgrounds,
    kind: SceneKind,
    *,
    with_cups: bool = False,
) -> Scene:
    """Draws one scene.

    Args:
      rng: The source of all randomness.
      backgrounds: The pictures to use.
      kind: `empty` has no cat, `plain` one or two, `bar` one or two of which a bar
        cuts the first into two or more parts, `crowd` a group and mostly one more cat.
      with_cups: Half of the empty pictures show a cup, and of the others those where
        there is room for it; none shows one in the background.
    """
    if with_cups:
        backgrounds = backgrounds.without(cup_outline.PHOTO_NAME)
    size = _draw_size(rng)
    name = str(rng.choice(backgrounds.photographs + backgrounds.textures))
    canvas = _draw_layer(rng, name, size)
    others = [n for n in backgrounds.photographs + backgrounds.textures if n != name]
    for _ in range(_draw_distractor_count(rng, kind)):
        _paint_distractor(rng, canvas, others)
    backdrop = pictures.to_pixels(canvas)

    group = placement.place_group(rng, size) if kind == "crowd" else []
    cats = [] if kind == "empty" else placement.place_cats(rng, size, group)
    for cat in group + cats:
        _paint(rng, canvas, cat, chelsea_outline.PHOTO_NAME)
    # Of the pictures without a cat some are to show nothing at all.
    has_cup = with_cups and (kind != "empty" or rng.random() < 0.5)
    cup = placement.place_cup(rng, size, group + cats) if has_cup else None
    if cup:
        _paint(rng, canvas, cup, cup_outline.PHOTO_NAME)
    cups = [list(cup.parts)] if cup else []
    visible = [list(cat.parts) for cat in cats]
    if kind == "bar" or (kind == "empty" and rng.random() < 0.25):
        bar = placement.draw_bar(rng, size, visible[0] if visible else None)
        layer = _draw_layer(rng, str(rng.choice(others)), size)
        pictures.blend(canvas, layer, pictures.bar_coverage(bar, size))
        visible = [cut_out_bar(parts, bar) for parts in visible]
        cups = [parts for cup in cups if (parts := cut_out_bar(cup, bar))]
    return Scene(
        pixels=pictures.to_pixels(canvas),
        backdrop=backdrop,
        cats=tuple(tuple(parts) for parts in visible),
        crowd=tuple(part for cat in group for part in cat.parts),
        cups=tuple(tuple(parts) for parts in cups),
    )


def _draw_size(rng: np.random.Generator) -> Size:
    """Returns (width, height): two of three are landscape, sides within 224..384."""
    long, short = int(rng.integers(288, 385)), int(rng.integers(224, 289))
    return (long, short) if rng.random() < 2 / 3 else (short, long)


def _draw_light(rng: np.random.Generator, tint: float) -> Light:
    red, green, blue = (float(factor) for factor in rng.uniform(1 - tint, 1 + tint, 3))
    return Light(
        gain=float(rng.uniform(0.75, 1.25)),
        contrast=float(rng.uniform(0.8, 1.2)),
        cast=(red, green, blue),
    )


def _draw_layer(rng: np.random.Generator, name: str, size: Size) -> Layer:
    """Returns a random crop of a picture, mirrored or not, in a random light."""
    picture = pictures.load_picture(name)
    zoom = min(picture.width / size[0], picture.height / size[1])
    zoom *= float(rng.uniform(0.55, 1.0))
    width, height = size[0] * zoom, size[1] * zoom
    left = float(rng.uniform(0.0, picture.width - width))
    top = float(rng.uniform(0.0, picture.height - height))
    layer = pictures.crop(picture, (left, top, left + width, top + height), size)
    if rng.random() < 0.5:
        layer = np.ascontiguousarray(layer[:, ::-1])
    # Without a strong tint, colour alone would tell the cat from a grey picture.
    return _draw_light(rng, 0.22 if pictures.is_grey(name) else 0.06).apply(layer)


def _draw_distractor_count(rng: np.random.Generator, kind: SceneKind) -> int:
    weights = [0.3, 0.3, 0.25, 0.15] if kind == "empty" else [0.5, 0.3, 0.2, 0.0]
    return int(rng.choice(4, p=weights))


def _paint_distractor(
    rng: np.random.Generator, canvas: Layer, names: Sequence[str]
) -> None:
    """Pastes a piece of another picture, shaped unlike a cat."""
    size = canvas.shape[1], canvas.shape[0]
    half_sides = rng.uniform(0.1, 0.3, 2) * min(size)
    pose = Affine.similarity(
        scale=1.0,
        angle=float(rng.uniform(0.0, math.tau)),
        target=(float(rng.uniform(0, size[0])), float(rng.uniform(0, size[1]))),
    )
    shape = pose.apply(_draw_unit_shape(rng) * half_sides)
    layer = _draw_layer(rng, str(rng.choice(names)), size)
    pictures.blend(canvas, layer, pictures.coverage(shape, size))


def _draw_unit_shape(rng: np.random.Generator) -> Polygon:
    """Returns an ellipse, a rectangle or a blob within -1..1 on both axes."""
    kind = int(rng.integers(3))
    if kind == 0:
        return np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    angle = np.linspace(0.0, math.tau, 48, endpoint=False)
    radius = np.ones_like(angle)
    if kind == 1:
        for waves in (2, 3, 5):
            radius += rng.uniform(0.0, 0.2) * np.sin(
                waves * angle + rng.uniform(0.0, math.tau)
            )
        radius /= radius.max()
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _paint(
    rng: np.random.Generator, canvas: Layer, cutout: Cutout, photo_name: str
) -> None:
    size = canvas.shape[1], canvas.shape[0]
    photo = pictures.load_picture(photo_name)
    layer = pictures.warp(photo, cutout.pose, size, blur=float(rng.uniform(0.0, 0.9)))
    cover = pictures.coverage(cutout.outline, size)
    pictures.blend(canvas, _draw_light(rng, 0.08).apply(layer), cover)
