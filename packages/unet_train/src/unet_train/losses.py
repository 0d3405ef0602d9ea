"""Losses from logits; pixels marked 255 count in none of them."""

from __future__ import annotations

import tensorflow as tf

from unet_train.augment import IGNORE
from unet_train.options import Reduction


def binary_crossentropy(
    masks: tf.Tensor, logits: tf.Tensor, reduction: Reduction = "mean"
) -> tf.Tensor:
    """Sigmoid cross-entropy, max(x, 0) - x z + log(1 + exp(-|x|)), over valid pixels.

    Args:
      masks: uint8 [N, H, W, 1]: 0 background, 1 foreground, 255 ignored.
      logits: float [N, H, W, 1].
      reduction: "mean" over the valid pixels of the batch (0 where there is none), or
        their "sum".

    Returns:
      float32 scalar.
    """
    valid = tf.cast(masks != IGNORE, tf.float32)
    labels = tf.cast(masks == 1, tf.float32)
    per_pixel = tf.nn.sigmoid_cross_entropy_with_logits(
        labels, tf.cast(logits, tf.float32)
    )
    total = tf.reduce_sum(per_pixel * valid)
    if reduction == "sum":
        return total
    return tf.math.divide_no_nan(total, tf.reduce_sum(valid))
