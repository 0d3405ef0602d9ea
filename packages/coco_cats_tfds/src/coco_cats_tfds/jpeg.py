"""Checks that the bytes of an image file are what its record says."""

from __future__ import annotations

import io
import warnings

import PIL.Image
import tensorflow as tf

from coco_cats_tfds.annotations import Image
from coco_cats_tfds.errors import CocoDataError

# What TensorFlow's JPEG decoder reads; MPO is a JPEG followed by further pictures.
_JPEG_FORMATS = ("JPEG", "MPO")
# From here on Pillow suspects a decompression bomb.
MAX_PIXELS = 89_478_485

_ORIENTATION = 0x0112
_TURNED_BY_90_DEGREES = (5, 6, 7, 8)


def check_jpeg(content: bytes, image: Image, *, origin: object) -> bool:
    """Checks that bytes are a complete JPEG of the recorded size.

    The size is that of the stored pixels, which is what COCO's annotations and
    TensorFlow's decoder go by; an EXIF orientation is not applied.

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
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            PIL.Image.open(io.BytesIO(content)) as picture,
        ):
            if picture.format not in _JPEG_FORMATS:
                raise CocoDataError(
                    f"{name} is not a JPEG but {picture.format}. COCO's images are"
                    f" JPEGs. {cure}"
                )
            orientation = picture.getexif().get(_ORIENTATION, 1)
            if picture.size != (image.width, image.height):
                if orientation in _TURNED_BY_90_DEGREES:
                    cure = (
                        "Its EXIF orientation turns it, but masks are drawn on the"
                        " stored pixels: save the file turned, without that tag."
                    )
                raise CocoDataError(
                    f"{name} is {picture.width} x {picture.height} pixels, recorded as"
                    f" {image.width} x {image.height}. Its masks would not fit. {cure}"
                )
        # TensorFlow is to read the dataset, and Pillow lets pass what it refuses.
        tf.io.decode_jpeg(content, channels=3)
    except CocoDataError:
        raise
    except PIL.UnidentifiedImageError as error:
        raise CocoDataError(
            f"{name} is not a JPEG that decodes: its {len(content)} bytes are those of"
            f" no kind of image. {cure}"
        ) from error
    # Whatever a damaged file makes Pillow raise, and it raises many kinds.
    except Exception as error:
        reason = getattr(error, "message", error)
        raise CocoDataError(
            f"{name} is not a JPEG that decodes: {reason}. {cure}"
        ) from error
    return orientation in range(2, 9)
