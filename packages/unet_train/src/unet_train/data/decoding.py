"""Pixels of encoded pictures, the same in training, evaluation and export."""

from __future__ import annotations

import tensorflow as tf

DEEP_MASK = "A mask has a value over 255:"
BAD_INSTANCES = "A map of instances"

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
    mask = tf.cond(
        _png_header(encoded)[0] == b"\x10",
        lambda: _narrow(tf.io.decode_png(encoded, 1, tf.uint16)),
        lambda: decode_picture(encoded, 1),
    )
    return tf.ensure_shape(mask, (None, None, 1))


def decode_instances(encoded: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Decodes a map of instances: int32 [H, W, 1], 0 none, another number for each.

    Of 8 bits a channel, numbers are other ones than in the file, and differ as there.

    Args:
      encoded: string [], the bytes of a PNG of one grey channel. (Colours, and those of
        a palette, would be mixed to grey, where instances may coincide.)
      size: int32 [2], height and width of the mask.

    Raises:
      tf.errors.InvalidArgumentError: It is no such PNG, or of another size; the text
        has `BAD_INSTANCES`.
    """
    is_grey = tf.debugging.Assert(
        _png_header(encoded)[1] == b"\0", [f"{BAD_INSTANCES} is no grey PNG"]
    )
    with tf.control_dependencies([is_grey]):
        numbers = tf.io.decode_png(encoded, 1, tf.uint16)
    is_alike = tf.debugging.Assert(
        tf.reduce_all(tf.shape(numbers)[:2] == size),
        [f"{BAD_INSTANCES} has another size than its mask"],
    )
    with tf.control_dependencies([is_alike]):
        numbers = tf.cast(numbers, tf.int32)
    return tf.ensure_shape(numbers, (None, None, 1))


def _png_header(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Bits of a channel and type of colour, a byte each; empty if it is no PNG."""
    # A PNG begins with its signature, and then its header: length, name, width and
    # height of 4 bytes each, the bits of a channel, and the type of colour.
    head = tf.strings.join([tf.strings.substr(encoded, 0, 26), " " * 26])
    is_png = tf.strings.substr(head, 0, 8) == _PNG
    bits, colour = (tf.strings.substr(head, place, 1) for place in (24, 25))
    return tf.where(is_png, bits, ""), tf.where(is_png, colour, "")


def _narrow(mask: tf.Tensor) -> tf.Tensor:
    highest = tf.reduce_max(tf.cast(mask, tf.int32))
    check = tf.debugging.Assert(highest <= 255, [DEEP_MASK, highest])
    with tf.control_dependencies([check]):
        return tf.cast(mask, tf.uint8)
