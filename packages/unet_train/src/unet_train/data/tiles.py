"""One undecoded record to one augmented tile, a pure function of a seed.

In two parts: `cut_tile` decodes, scales and cuts on the host, an example at a time, and
draws what is to happen to the tile; `finish` does that, in batches, on any device.

```python
pixels, drawn = cut_tile([record], options, margin=92, seed=seed)
images, masks = finish(*batch, options, margin=92)  # Of a batch of these.
```
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from unet_train.data import augment, cut, scale
from unet_train.data.border import border_weights
from unet_train.data.decoding import (
    decode_instances,
    decode_mask,
    decode_picture,
)
from unet_train.data.labels import IGNORE, labels_of_tensor
from unet_train.data.pixels import image_of, label_of, pack, planes_of, unpack
from unet_train.data.records import Record
from unet_train.data.warp import Warp, warp, way_onto
from unet_train.graph import as_written
from unet_train.options import DataOptions

# More than the number of any instance: those that are pasted go on from here.
_PASTED = 1 << 16

Drawn = dict[str, tf.Tensor]
"""What was drawn for a tile, or for each tile of a batch, by name."""


@as_written
def decode_record(record: Record, options: DataOptions) -> tuple[tf.Tensor, tf.Tensor]:
    """Image uint8 [H, W, 3] and the dataset's own mask, uint8 [H, W, 1]."""
    return (
        decode_picture(record[options.image_feature], 3),
        decode_mask(record[options.mask_feature]),
    )


@as_written
def cut_tile(
    records: Sequence[Record],
    options: DataOptions,
    *,
    margin: int,
    seed: tf.Tensor,
    pasted: DataOptions | None = None,
) -> tuple[tf.Tensor, Drawn]:
    """Decodes and cuts, and draws what else is to happen to the tile.

    Args:
      records: One; with `copy_paste` a second one, to paste from.
      options: What to do to it.
      margin: Of the network, in pixels at each border.
      seed: int32 [2].
      pasted: Options of the dataset that the second record is from, if of another one.

    Returns:
      What `finish` takes, of one tile: int32 [S, S], where S is the side of the tile,
      or with `rotation` and `elastic` more; and what was drawn. With `instance_feature`
      the instances are among that, int32 [S, S].
    """
    seeds, pasted = tf.random.split(seed, 10), pasted or options
    drawn = _draw(options, seeds)
    numbered = bool(options.instance_feature or pasted.instance_feature)
    cut_one = functools.partial(
        _cut,
        margin=margin,
        drawn=drawn,
        mirror=_draw_mirror(options, seeds[6], seeds[7]),
        numbered=numbered,
    )
    piece, centre = cut_one(records[0], options, seed=seeds[0])
    if options.copy_paste:

        def paste() -> list[tf.Tensor]:
            others, _ = cut_one(records[1], pasted, seed=seeds[2])
            if numbered:
                others[1] += tf.where(others[1] > 0, _PASTED, 0)
            labels = label_of(others[0])
            both = zip(piece, others, strict=True)
            return [cut.paste(own, other, labels) for own, other in both]

        pastes = tf.random.stateless_uniform([], seeds[1]) < options.copy_paste
        piece = tf.cond(pastes, paste, lambda: piece)
    if "turn" in drawn:
        drawn["centre"] = centre
    return piece[0], drawn | ({"numbers": piece[1]} if numbered else {})


@as_written
def finish(
    pixels: tf.Tensor, drawn: Drawn, options: DataOptions, *, margin: int
) -> tuple[tf.Tensor, ...]:
    """Warps and augments a batch of what `cut_tile` gives.

    Args:
      pixels: int32 [N, S, S].
      drawn: What was drawn, for each of them.
      options: As there.
      margin: As there.

    Returns:
      uint8 [N, tile, tile, 3] and uint8 [N, window, window, 1], where window is
      tile - 2 * margin; with `instance_feature` also int32 [N, window, window, 1],
      the instances.
    """
    size = options.tile_size
    layers = [pixels, drawn["numbers"]] if "numbers" in drawn else [pixels]
    if "turn" in drawn:
        planes, layers = warp(layers, drawn, size)
    elif drawn.keys() & {"color", "blur", "cutout"}:
        planes = planes_of(pixels)
    if "color" in drawn:
        planes = augment.vary_color(planes, drawn["color"])
    if "blur" in drawn:
        planes = augment.blur(planes, drawn["blur"], options.blur)
    images, labels = unpack(layers[0])
    if "cutout" in drawn:
        planes, labels = augment.cut_out(planes, labels, drawn["cutout"], IGNORE)
    if drawn.keys() - {"numbers"}:
        images = image_of(planes)
    maps = [labels, *(each[..., None] for each in layers[1:])]
    within = slice(margin, size - margin)
    return images, *(each[:, within, within] for each in maps)


def make_tile(
    records: Sequence[Record], options: DataOptions, **arguments: Any
) -> tuple[tf.Tensor, ...]:
    """A whole tile on the host: `cut_tile` and `finish`, and the weights of its pixels.

    Args:
      records: As for `cut_tile`.
      options: As for `cut_tile`.
      **arguments: As for `cut_tile`.

    Returns:
      uint8 [tile, tile, 3] and uint8 [window, window, 1]; with `border_weight` also
      float32 [window, window, 1].
    """
    tile = cut_tile(records, options, **arguments)
    pixels, drawn = tf.nest.map_structure(lambda each: each[None], tile)
    finished = finish(pixels, drawn, options, margin=arguments["margin"])
    image, *maps = (each[0] for each in finished)
    if not options.border_weight:
        return image, *maps
    weights = tf.numpy_function(
        lambda *maps: border_weights(
            np.concatenate(maps, -1),
            weight=options.border_weight,
            sigma=options.border_sigma,
        ),
        maps,
        tf.float32,
        stateful=False,
    )
    return image, maps[0], tf.ensure_shape(weights, maps[0].shape)


def _draw(options: DataOptions, seeds: tf.Tensor) -> Drawn:
    """What is to happen to a tile once it is cut."""
    drawn: Drawn = {}
    if options.rotation or options.elastic:
        drawn |= _warp_of(options).draw(seeds[8:])
    if strength := options.color_jitter:
        drawn["color"] = tf.random.stateless_uniform(
            [3], seeds[3], 1 - strength, 1 + strength
        )
    if options.blur:
        drawn["blur"] = tf.random.stateless_uniform([], seeds[4], 1e-3, options.blur)
    if options.cutout:
        size = float(options.tile_size)
        length, middle = tf.unstack(
            tf.random.stateless_uniform([2, 2], seeds[5], 0, size)
        )
        half = length * options.cutout / 2
        drawn["cutout"] = tf.stack([middle - half, middle + half], 1)
    return drawn


def _draw_mirror(
    options: DataOptions, mirror: tf.Tensor, flip: tf.Tensor
) -> tf.Tensor | None:
    """Whether to turn upside down, and left to right; bool [2]."""
    if not options.mirror and not options.flip:
        return None
    asked = tf.constant([options.flip, options.mirror])
    draws = [tf.random.stateless_uniform([], each) for each in (flip, mirror)]
    return asked & (tf.stack(draws) < 0.5)


def _warp_of(options: DataOptions) -> Warp:
    return Warp(options.tile_size, options.rotation, options.elastic)


def _cut(
    record: Record,
    options: DataOptions,
    *,
    margin: int,
    seed: tf.Tensor,
    drawn: Drawn,
    mirror: tf.Tensor | None,
    numbered: bool,
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Decodes, scales and cuts a piece: pixels, and numbered the instances.

    Behind these the place in it that the middle of the tile shows, float32 [2].
    """
    seeds = tf.random.split(seed, 2)
    image, mask = decode_record(record, options)
    maps = [labels_of_tensor(mask, options)]
    if numbered:
        numbers = tf.zeros_like(mask, tf.int32)
        if options.instance_feature:
            encoded = record[options.instance_feature]
            numbers = decode_instances(encoded, tf.shape(mask)[:2])
        maps.append(numbers)
    if options.image_size or options.scale_jitter or options.aspect_jitter:
        size = _random_size(tf.shape(image), options, seeds[0])
        image = scale.resize_image(image, size)
        maps = [scale.resize_mask(each, size) for each in maps]
    layers = [pack(image, maps[0]), *(each[..., 0] for each in maps[1:])]

    tile_size, aim = options.tile_size, None
    window, reach = tile_size - 2 * margin, _warp_of(options).reach
    if options.foreground_share:
        aim_seed = tf.random.fold_in(seeds[1], 1)
        aim = cut.random_aim(maps[0][..., 0], options.foreground_share, aim_seed)
    start = cut.random_start(tf.shape(image), window=window, seed=seeds[1], aim=aim)
    start -= margin + reach
    side = tile_size + 2 * reach
    centre = tf.fill([2], (side - 1) / 2)
    if aim is not None and reach:
        # The piece moves by whole pixels, and the tile in it by the rest.
        signs = tf.where(mirror, -1.0, 1.0) if mirror is not None else tf.ones(2)
        place = signs * (tf.cast(aim - start, tf.float32) - centre)
        way = tf.where(aim >= 0, way_onto(place, drawn, tile_size, margin), 0.0)
        whole = tf.round(way)
        start += tf.cast(signs * whole, tf.int32)
        centre += way - whole
    return [cut.cut_piece(each, start, side, mirror) for each in layers], centre


def _random_size(shape: tf.Tensor, options: DataOptions, seed: tf.Tensor) -> tf.Tensor:
    """Height and width that a photo is scaled to; int32 [2]."""
    longer = tf.cast(options.image_size or tf.reduce_max(shape[:2]), tf.float32)
    longer *= scale.random_scale(options.scale_jitter, seed)
    aspect = None
    if options.aspect_jitter:
        aspect_seed = tf.random.fold_in(seed, 1)
        aspect = scale.random_scale(options.aspect_jitter, aspect_seed)
    return scale.scaled_size(shape, longer, aspect)
