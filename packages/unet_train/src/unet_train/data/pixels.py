"""An image and its labels as one number a pixel.

What is done to the one is then done to the other, in one go: to copy four bytes takes
no longer than to copy one.

```python
pixels = pack(image, mask)  # int32 [H, W]
```
"""

from __future__ import annotations

import tensorflow as tf

from unet_train.data.labels import IGNORE
from unet_train.data.scale import to_uint8
from unet_train.graph import compiled_on_processors

# Of what `pack` makes, for a bitwise "or": the label becomes `IGNORE`.
IGNORED = (IGNORE << 24) - (1 << 32)


def pack(image: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """uint8 [..., 3] and uint8 [..., 1] as int32 [...], in their four bytes."""
    return tf.bitcast(tf.concat([image, mask], -1), tf.int32)


def unpack(pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """What was packed: uint8 [..., 3] and uint8 [..., 1]."""
    both = tf.bitcast(pixels, tf.uint8)
    return both[..., :3], both[..., 3:]


@compiled_on_processors
def planes_of(pixels: tf.Tensor) -> tf.Tensor:
    """The image alone, a plane for each colour; float32 [N, 3, H, W]."""
    return tf.stack([tf.cast(_byte(pixels, each), tf.float32) for each in range(3)], 1)


@compiled_on_processors
def image_of(planes: tf.Tensor) -> tf.Tensor:
    """Planes float32 [N, 3, H, W] as an image; uint8 [N, H, W, 3]."""
    return to_uint8(tf.transpose(planes, [0, 2, 3, 1]))


def label_of(pixels: tf.Tensor) -> tf.Tensor:
    """The labels alone; int32 of the same shape."""
    return _byte(pixels, 3)


def _byte(pixels: tf.Tensor, number: int) -> tf.Tensor:
    return tf.bitwise.bitwise_and(tf.bitwise.right_shift(pixels, 8 * number), 255)
