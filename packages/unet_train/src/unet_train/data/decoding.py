"""Pixels of encoded pictures, the same in training, evaluation and export."""

from __future__ import annotations

import tensorflow as tf

DEEP_MASK = "A mask has a value over 255:"

_PNG = b"\x89PNG\r\n\x1a\n"


def decode_picture(encoded: tf.Tensor, channels: int = 3) -> tf.Tensor:
    """Decodes JPEG, PNG, BMP, and the first frame of GIF and WebP.

    JPEG is decoded by the exact integer transform, as Pillow does it: TensorFlow's own
    default differs by up to twenty levels, and takes the same time.

    Of 16 bits a channel, as a PNG may have, the upper 8 are taken.

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


def decode_mask(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes a mask. Its values are labels: of 16 bits, as a PNG may have, all count.

    Args:
      encoded: string [], the bytes of a file.

    Returns:
      uint8 [H, W, 1].

    Raises:
      tf.errors.InvalidArgumentError: It is no picture; or a value is over 255, and the
        text has `DEEP_MASK` and the highest.
    """
    # A PNG begins with its signature, and then its header: length, name, width and
    # height of 4 bytes each, and the bits of a channel.
    head = tf.strings.join([tf.strings.substr(encoded, 0, 25), " " * 25])
    is_deep = (tf.strings.substr(head, 0, 8) == _PNG) & (
        tf.strings.substr(head, 24, 1) == b"\x10"
    )
    mask = tf.cond(
        is_deep,
        lambda: _narrow(tf.io.decode_png(encoded, 1, tf.uint16)),
        lambda: decode_picture(encoded, 1),
    )
    return tf.ensure_shape(mask, (None, None, 1))


def decode_instances(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes a map of instances: int32 [H, W, 1], 0 none, another number for each.

    Of 8 bits a channel, numbers are other ones than in the file, and differ as there.

    Args:
      encoded: string [], the bytes of a PNG.
    """
    numbers = tf.io.decode_png(encoded, 1, tf.uint16)
    return tf.ensure_shape(tf.cast(numbers, tf.int32), (None, None, 1))


def _narrow(mask: tf.Tensor) -> tf.Tensor:
    highest = tf.reduce_max(tf.cast(mask, tf.int32))
    check = tf.debugging.Assert(highest <= 255, [DEEP_MASK, highest])
    with tf.control_dependencies([check]):
        return tf.cast(mask, tf.uint8)
