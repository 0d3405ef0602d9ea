"""One undecoded record to one augmented tile, a pure function of a seed.

```python
image, mask = make_tile([record], options, margin=92, seed=seed)
```
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import tensorflow as tf

from unet_train.data import augment, cut
from unet_train.data.border import border_weights
from unet_train.data.decoding import (
    decode_instances,
    decode_mask,
    decode_picture,
)
from unet_train.data.labels import labels_of_tensor
from unet_train.data.records import Record
from unet_train.graph import as_written
from unet_train.options import DataOptions

# More than the number of any instance: those that are pasted go on from here.
_PASTED = 1 << 16


@as_written
def decode_record(record: Record, options: DataOptions) -> tuple[tf.Tensor, tf.Tensor]:
    """Image uint8 [H, W, 3] and the dataset's own mask, uint8 [H, W, 1]."""
    return (
        decode_picture(record[options.image_feature], 3),
        decode_mask(record[options.mask_feature]),
    )


@as_written
def make_tile(
    records: Sequence[Record],
    options: DataOptions,
    *,
    margin: int,
    seed: tf.Tensor,
    pasted: DataOptions | None = None,
) -> tuple[tf.Tensor, ...]:
    """Decodes, cuts and augments.

    Args:
      records: One; with `copy_paste` a second one, to paste from.
      options: What to do to it.
      margin: Of the network, in pixels at each border.
      seed: int32 [2].
      pasted: Options of the dataset that the second record is from, if of another one.

    Returns:
      uint8 [tile, tile, 3] and uint8 [window, window, 1], where window is
      tile - 2 * margin; with `border_weight` also float32 [window, window, 1].
    """
    seeds, pasted = tf.random.split(seed, 8), pasted or options
    # Beside the label a mask has the number of the instance, if that is told.
    numbered = bool(options.instance_feature or pasted.instance_feature)
    cut_tile = functools.partial(_cut_tile, margin=margin, numbered=numbered)
    image, mask = cut_tile(records[0], options, seed=seeds[0])
    if options.copy_paste:
        pastes = tf.random.stateless_uniform([], seeds[1]) < options.copy_paste
        first = _PASTED if numbered else 0
        image, mask = tf.cond(
            pastes,
            lambda: augment.paste(
                *(image, mask),
                *cut_tile(records[1], pasted, seed=seeds[2], first_number=first),
            ),
            lambda: (image, mask),
        )
    if options.color_jitter:
        image = augment.random_color(image, options.color_jitter, seeds[3])
    if options.blur:
        image = augment.random_blur(image, options.blur, seeds[4])
    if options.cutout:
        image, mask = augment.random_cutout(image, mask, options.cutout, seeds[5])
    if options.mirror:
        image, mask = augment.random_mirror(image, mask, seeds[6])
    if options.flip:
        image, mask = augment.random_mirror(image, mask, seeds[7], axis=0)
    mask = mask[margin : options.tile_size - margin]
    mask = mask[:, margin : options.tile_size - margin]
    labels = tf.cast(mask[..., :1], tf.uint8)
    if not options.border_weight:
        return image, labels
    weights = tf.numpy_function(
        lambda mask: border_weights(
            mask, weight=options.border_weight, sigma=options.border_sigma
        ),
        [mask],
        tf.float32,
        stateful=False,
    )
    return image, labels, tf.ensure_shape(weights, labels.shape)


def _cut_tile(
    record: Record,
    options: DataOptions,
    *,
    margin: int,
    seed: tf.Tensor,
    numbered: bool,
    first_number: int = 0,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes, scales and cuts: uint8 [tile, tile, 3] and the mask.

    That is uint8 [tile, tile, 1], labels; numbered int32 [tile, tile, 2], labels and
    instances, to which `first_number` is added.
    """
    seeds = tf.random.split(seed, 2)
    image, mask = decode_record(record, options)
    mask = labels_of_tensor(mask, options)
    if numbered:
        mask = tf.cast(mask, tf.int32)
        numbers = tf.zeros_like(mask)
        if options.instance_feature:
            encoded = record[options.instance_feature]
            numbers = decode_instances(encoded, tf.shape(mask)[:2])
            numbers += tf.where(numbers > 0, first_number, 0)
        mask = tf.concat([mask, numbers], -1)
    if options.image_size or options.scale_jitter or options.aspect_jitter:
        longer = options.image_size or tf.reduce_max(tf.shape(image)[:2])
        longer = tf.cast(longer, tf.float32)
        longer *= augment.random_scale(options.scale_jitter, seeds[0])
        aspect = None
        if options.aspect_jitter:
            aspect_seed = tf.random.fold_in(seeds[0], 1)
            aspect = augment.random_scale(options.aspect_jitter, aspect_seed)
        size = augment.scaled_size(tf.shape(image), longer, aspect)
        image = augment.resize_image(image, size)
        mask = augment.resize_mask(mask, size)
    place = {"tile_size": options.tile_size, "margin": margin, "seed": seeds[1]}
    if options.foreground_share:
        aim_seed = tf.random.fold_in(seeds[1], 1)
        place["aim"] = cut.random_aim(mask, options.foreground_share, aim_seed)
    if not options.rotation and not options.elastic:
        return cut.random_tile(image, mask, **place)
    return cut.random_warped_tile(
        *(image, mask), rotation=options.rotation, elastic=options.elastic, **place
    )
