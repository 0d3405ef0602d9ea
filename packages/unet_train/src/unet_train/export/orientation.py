"""How a camera was held, read from a photo's bytes with TensorFlow operations.

```python
upright = turn(pixels, exif_orientation(photo_bytes))
```

EXIF is a small TIFF file: a byte order, then a table of numbered entries, of which
0x0112 is the orientation. A JPEG has it in a segment APP1, a PNG in a chunk eXIf, a
WebP in a chunk EXIF. What is malformed or missing counts as upright.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

_ORIENTATION, _SHORT, _LONG = 0x0112, 3, 4
_ENTRY_BYTES = 12
_MOST_ENTRIES = 1000

# Of a chunk that begins at a position: where its EXIF is (-1: it has none), and where
# the next chunk begins.
_ReadChunk = Callable[["_Bytes", tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def exif_orientation(photo: tf.Tensor) -> tf.Tensor:
    """The EXIF orientation of an encoded photo.

    Args:
      photo: string [], the bytes of a file.

    Returns:
      int64 [], 1 to 8; 1 where nothing readable says otherwise.
    """
    data = _Bytes(photo)
    start = -tf.ones([], tf.int64)
    for magic, at, first, read_chunk in (
        (b"\xff\xd8", 0, 2, _jpeg_segment),
        (b"\x89PNG", 0, 8, _png_chunk),
        (b"WEBP", 8, 12, _webp_chunk),
    ):
        start = tf.cond(
            data.matches(at, magic),
            lambda read_chunk=read_chunk, first=first: _find(data, first, read_chunk),
            lambda start=start: start,
        )
    return tf.cond(
        start >= 0,
        lambda: _tiff_orientation(data, start),
        lambda: tf.constant(1, "int64"),
    )


def turn(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns and mirrors [H, W, C] as its orientation says; 1 leaves it as it is."""
    image = tf.cond(
        orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image
    )
    for axis, orientations in ((1, (2, 3, 6, 7)), (0, (3, 4, 7, 8))):
        image = tf.cond(
            tf.reduce_any(orientation == tf.constant(orientations, tf.int64)),
            lambda image=image, axis=axis: tf.reverse(image, [axis]),
            lambda image=image: image,
        )
    return image


class _Bytes:
    """Bytes to read numbers from; what lies beyond the end is 0."""

    def __init__(self, content: tf.Tensor) -> None:
        values = tf.cast(tf.io.decode_raw(content, tf.uint8), tf.int64)
        self.size = tf.size(values, tf.int64)
        self._values = tf.pad(values, [[0, 1]])

    def number(
        self, start: tf.Tensor, count: int, little_endian: tf.Tensor | bool = False
    ) -> tf.Tensor:
        """The number of `count` bytes at each start: int64 of the shape of `start`."""
        place = tf.cast(start, tf.int64)[..., tf.newaxis] + tf.range(
            count, dtype="int64"
        )
        inside = (place >= 0) & (place < self.size)
        digits = tf.gather(self._values, tf.where(inside, place, self.size))
        digits = tf.where(little_endian, digits[..., ::-1], digits)
        weights = tf.constant([256**power for power in reversed(range(count))], "int64")
        return tf.reduce_sum(digits * weights, axis=-1)

    def matches(self, start: tf.Tensor | int, text: bytes) -> tf.Tensor:
        """Whether this text stands there."""
        place = tf.cast(start, tf.int64) + tf.range(len(text), dtype="int64")
        return tf.reduce_all(self.number(place, 1) == tf.constant(list(text), "int64"))


def _find(data: _Bytes, first: int, read_chunk: _ReadChunk) -> tf.Tensor:
    """Goes from chunk to chunk; where the first EXIF begins, -1 if there is none."""

    def unfinished(position: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
        return (found < 0) & (position < data.size)

    def next_chunk(position: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        exif, following = read_chunk(data, position)
        return tf.where(following > position, following, data.size), exif

    start = (tf.constant(first, tf.int64), -tf.ones([], tf.int64))
    return tf.while_loop(unfinished, next_chunk, start)[1]


def _jpeg_segment(data: _Bytes, position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """0xFF, a marker, a length that includes itself; the picture follows 0xDA."""
    marker = data.number(position + 1, 1)
    length = data.number(position + 2, 2)
    is_exif = (marker == 0xE1) & data.matches(position + 4, b"Exif\0\0")
    is_over = (data.number(position, 1) != 0xFF) | (marker == 0xDA)
    following = tf.where(is_over, data.size, position + 2 + length)
    following = tf.where(marker == 0xFF, position + 1, following)  # A byte that fills.
    return tf.where(is_exif, position + 10, -1), following


def _png_chunk(data: _Bytes, position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A length, a name, the content, a checksum."""
    length = data.number(position, 4)
    is_exif = data.matches(position + 4, b"eXIf")
    return tf.where(is_exif, position + 8, -1), position + 12 + length


def _webp_chunk(data: _Bytes, position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A name, a length, the content, one byte more if the length is odd."""
    length = data.number(position + 4, 4, little_endian=True)
    start = position + 8
    start = tf.where(data.matches(start, b"Exif\0\0"), start + 6, start)
    is_exif = data.matches(position, b"EXIF")
    return tf.where(is_exif, start, -1), position + 8 + length + length % 2


def _tiff_orientation(data: _Bytes, start: tf.Tensor) -> tf.Tensor:
    """The orientation in the first table of the TIFF file that begins at `start`."""
    little = data.matches(start, b"II")
    is_tiff = (little | data.matches(start, b"MM")) & (
        data.number(start + 2, 2, little) == 42
    )
    table = start + data.number(start + 4, 4, little)
    count = tf.minimum(data.number(table, 2, little), _MOST_ENTRIES)
    entries = table + 2 + _ENTRY_BYTES * tf.range(count)
    kind = data.number(entries + 2, 2, little)
    value = tf.where(
        kind == _SHORT,
        data.number(entries + 8, 2, little),
        data.number(entries + 8, 4, little),
    )
    is_orientation = (
        (data.number(entries, 2, little) == _ORIENTATION)
        & ((kind == _SHORT) | (kind == _LONG))
        & (data.number(entries + 4, 4, little) == 1)
        & (value >= 1)
        & (value <= 8)
        & (entries + _ENTRY_BYTES <= data.size)
    )
    # At most one such entry is allowed; of several the first counts.
    found = tf.boolean_mask(value, is_tiff & is_orientation)
    return tf.concat([found, tf.ones([1], tf.int64)], axis=0)[0]
