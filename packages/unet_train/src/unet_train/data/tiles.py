"""One undecoded record to one augmented tile, a pure function of a seed.

```python
image, mask = make_tile([record], options, margin=92, seed=seed)
```
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from unet_train.data import augment, cut
from unet_train.data.border import border_weights
from unet_train.data.decoding import decode_mask, decode_picture
from unet_train.data.labels import labels_of_tensor
from unet_train.data.records import Record
from unet_train.graph import as_written
from unet_train.options import DataOptions


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
    seeds = tf.random.split(seed, 8)
    image, mask = _cut_tile(records[0], options, margin, seeds[0])
    if options.copy_paste:
        pastes = tf.random.stateless_uniform([], seeds[1]) < options.copy_paste
        image, mask = tf.cond(
            pastes,
            lambda: augment.paste(
                image, mask, *_cut_tile(records[1], pasted or options, margin, seeds[2])
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
    if not options.border_weight:
        return image, mask
    weights = tf.numpy_function(
        lambda mask: border_weights(
            mask, weight=options.border_weight, sigma=options.border_sigma
        ),
        [mask],
        tf.float32,
        stateful=False,
    )
    return image, mask, tf.ensure_shape(weights, mask.shape)


def _cut_tile(
    record: Record, options: DataOptions, margin: int, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes, scales and cuts: uint8 [tile, tile, 3] and [tile, tile, 1]."""
    seeds = tf.random.split(seed, 2)
    image, mask = decode_record(record, options)
    mask = labels_of_tensor(mask, options)
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
