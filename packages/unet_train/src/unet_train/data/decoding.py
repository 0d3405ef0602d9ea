"""Pixels of encoded pictures, the same in training, evaluation and export."""

from __future__ import annotations

import tensorflow as tf


def decode_picture(encoded: tf.Tensor, channels: int = 3) -> tf.Tensor:
    """Decodes JPEG, PNG, BMP, and the first frame of GIF and WebP.

    JPEG is decoded by the exact integer transform, as Pillow does it: TensorFlow's own
    default differs by up to twenty levels, and takes the same time.

    Args:
      encoded: string [], the bytes of a file.
      channels: 1 or 3.

    Returns:
      uint8 [H, W, channels].
    """
    pixels = tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.io.decode_jpeg(
            encoded, channels, fancy_upscaling=True, dct_method="INTEGER_ACCURATE"
        ),
        lambda: tf.io.decode_image(encoded, channels, expand_animations=False),
    )
    return tf.ensure_shape(pixels, (None, None, channels))
