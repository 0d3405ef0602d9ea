"""Where image bytes come from: a local folder in COCO's layout.

```python
source = LocalSource("COCO/val2017")
jpeg = source.read(record.image)  # The file's bytes, checked against the record.
```
"""

from __future__ import annotations

import io
import os
import pathlib

import PIL.Image

from coco_cats_tfds.annotations import Image
from coco_cats_tfds.errors import CocoDataError

# What TensorFlow's JPEG decoder reads; MPO is a JPEG followed by further pictures.
_JPEG_FORMATS = ("JPEG", "MPO")


class LocalSource:
    """Reads the images of one split from a folder.

    Attributes:
      folder: Where the image files lie, e.g. `COCO/train2017`.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = pathlib.Path(folder)
        if not self.folder.is_dir():
            raise CocoDataError(
                f"The image folder {self.folder} does not exist. The COCO folder must"
                " hold train2017/, val2017/ and annotations/; extract COCO's"
                " train2017.zip and val2017.zip there."
            )

    def read(self, image: Image) -> bytes:
        """The bytes of an image file, unchanged.

        Args:
          image: The record that names the file and its size.

        Returns:
          A complete JPEG of the recorded height and width.

        Raises:
          CocoDataError: The name leaves the folder, the file is absent, not a JPEG,
            damaged, or of another size than recorded.
        """
        content = self._read_file(image)
        check_jpeg(content, image, origin=self.folder / image.file_name)
        return content

    def _read_file(self, image: Image) -> bytes:
        path = self.folder / image.file_name
        # abspath, not resolve: a link that the user made to another disk is fine.
        inside = os.path.abspath(path).startswith(
            os.path.join(os.path.abspath(self.folder), "")
        )
        if not inside:
            raise CocoDataError(
                f"Image {image.id} has the file name {image.file_name!r}, which leaves"
                f" its folder {self.folder}. Correct the name in the instances file."
            )
        try:
            return path.read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CocoDataError(
                f"Image {image.id} is listed but {path} cannot be read: {reason}."
                " Extract COCO's zip again, or remove the image from the instances"
                " file."
            ) from error


def check_jpeg(content: bytes, image: Image, *, origin: object) -> None:
    """Checks that bytes are a complete JPEG of the recorded size.

    Args:
      content: The file's bytes.
      image: The record with the expected height and width in pixels.
      origin: Where the bytes came from, for the error's text.

    Raises:
      CocoDataError: They are not; the text names `origin`, record and cure.
    """
    cure = "Fetch or extract this file again."
    try:
        with PIL.Image.open(io.BytesIO(content)) as picture:
            if picture.format not in _JPEG_FORMATS:
                raise CocoDataError(
                    f"Image {image.id}, {origin}, is not a JPEG but"
                    f" {picture.format}. COCO's images are JPEGs. {cure}"
                )
            if picture.size != (image.width, image.height):
                raise CocoDataError(
                    f"Image {image.id}, {origin}, is {picture.width} x"
                    f" {picture.height} pixels, recorded as {image.width} x"
                    f" {image.height}. Its masks would not fit. {cure}"
                )
            picture.load()
    except (OSError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise CocoDataError(
            f"Image {image.id}, {origin}, is not a JPEG that decodes: {error}. {cure}"
        ) from error
