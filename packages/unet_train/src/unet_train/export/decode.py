"""A photo's bytes to upright pixels, as `photos.read_photo` reads them.

```python
pixels = decode_photo(tf.io.read_file("photo.jpg"))  # uint8 [H, W, 3]
```
"""

from __future__ import annotations

import tensorflow as tf

from unet_train.data.decoding import decode_picture
from unet_train.export.orientation import exif_orientation, turn


def decode_photo(photo: tf.Tensor) -> tf.Tensor:
    """Decodes JPEG, PNG, GIF and WebP (of an animation the first frame) and BMP.

    Of 16 bits a pixel the upper 8 are taken; transparency is left aside.

    Args:
      photo: string [], the bytes of a file.

    Returns:
      uint8 [H, W, 3], turned as the EXIF orientation says.

    Raises:
      tf.errors.InvalidArgumentError: The bytes are no such picture, or are damaged.
    """
    with tf.control_dependencies([_refuse_palette_of_bmp(photo)]):
        pixels = decode_picture(photo)
    return turn(pixels, exif_orientation(photo))


def _refuse_palette_of_bmp(photo: tf.Tensor) -> tf.Operation | None:
    """TensorFlow would take the numbers of the colours for grey values."""
    header = tf.strings.substr(photo, 0, tf.minimum(tf.strings.length(photo), 30))
    padded = tf.concat(
        [tf.io.decode_raw(header, tf.uint8), tf.zeros([30], tf.uint8)], axis=0
    )
    is_bmp = tf.reduce_all(padded[:2] == tf.constant(list(b"BM"), tf.uint8))
    return tf.debugging.Assert(
        ~is_bmp | (padded[28] >= 24),
        [
            "The photo is a BMP with a palette, of bits a pixel:", padded[28],
            "Save it as PNG or JPEG.",
        ],
    )  # fmt: skip
