"""Checks that the bytes of an image file are what its record says."""

from __future__ import annotations

import io

import PIL.Image
import tensorflow as tf

from coco_cats_tfds.annotations import Image
from coco_cats_tfds.errors import CocoDataError

# From here on Pillow suspects a decompression bomb.
MAX_PIXELS = 89_478_485

_ORIENTATION = 0x0112
_TURNED_BY_90_DEGREES = (5, 6, 7, 8)


def check_jpeg(content: bytes, image: Image, *, origin: object) -> bool:
    """Checks that bytes are a complete JPEG of the recorded size.

    TensorFlow decodes, because it is to read the dataset. The size is that of the
    stored pixels, which is what COCO's annotations and TensorFlow go by; an EXIF
    orientation is not applied.

    Args:
      content: The file's bytes.
      image: The record with the expected height and width in pixels.
      origin: Where the bytes came from, for the error's text.

    Returns:
      Whether the file has an EXIF orientation that viewers apply.

    Raises:
      CocoDataError: They are not; the text names `origin`, record and cure.
    """
    name = f"Image {image.id}, {origin},"
    cure = "Fetch or extract this file again."
    if image.height * image.width > MAX_PIXELS:
        raise CocoDataError(
            f"{name} is recorded with {image.width} x {image.height} pixels; more than"
            f" {MAX_PIXELS:,} are refused. Scale it and its annotations down."
        )
    if (kind := _kind(content)) != "JPEG":
        raise CocoDataError(
            f"{name} is not a JPEG but {kind}. COCO's images are JPEGs. {cure} Other"
            " photos of your own `coco-cats import` brings into this layout."
        )
    orientation = _orientation(content)
    try:
        height, width, _ = tf.io.extract_jpeg_shape(content).numpy()
        if (height, width) == (image.height, image.width):
            tf.io.decode_jpeg(content, channels=3)
    except tf.errors.OpError as error:
        raise CocoDataError(
            f"{name} is not a JPEG that decodes: {error.message}. {cure}"
        ) from error
    if (height, width) != (image.height, image.width):
        if orientation in _TURNED_BY_90_DEGREES:
            cure = (
                "Its EXIF orientation turns it, but masks are drawn on the stored"
                " pixels: save the file turned, without that tag."
            )
        raise CocoDataError(
            f"{name} is {width} x {height} pixels, recorded as {image.width} x"
            f" {image.height}. Its masks would not fit. {cure}"
        )
    return orientation in range(2, 9)


def _kind(content: bytes) -> str:
    """What the bytes are, for the error's text."""
    if content.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    try:
        with PIL.Image.open(io.BytesIO(content)) as picture:
            return str(picture.format)
    except Exception:  # Damaged files make Pillow raise many kinds.
        return f"{len(content)} bytes of no known kind of image"


def _orientation(content: bytes) -> int:
    """EXIF's, 1 where there is none or Pillow cannot read it."""
    try:
        with PIL.Image.open(io.BytesIO(content)) as picture:
            return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # As above.
        return 1
