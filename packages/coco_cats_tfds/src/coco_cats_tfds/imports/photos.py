"""Photos: found by what labels call them, turned upright, written as JPEG."""

from __future__ import annotations

import contextlib
import pathlib
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageOps
import PIL.TiffImagePlugin

from coco_cats_tfds.errors import CocoDataError
from coco_cats_tfds.imports.labels import SUFFIXES, Labels, split_of

_ORIENTATION = 0x0112
_TURNS = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
_ON_THE_SIDE = {5, 6, 7, 8}
_QUALITY = 95
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
# Before the name of a file that was uploaded to Label Studio.
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")


def find_photos(places: Sequence[pathlib.Path]) -> list[pathlib.Path]:
    """Files, and all photos in folders.

    Raises:
      CocoDataError: A place is not there, or there is no photo.
    """
    found: dict[pathlib.Path, None] = {}
    for place in places:
        if not place.exists():
            raise CocoDataError(f"There is no file or folder {place}.")
        inside = sorted(place.rglob("*")) if place.is_dir() else [place]
        for path in inside:
            if path.suffix.lower() in SUFFIXES and path.is_file():
                found[path.absolute()] = None
    if not found:
        raise CocoDataError(
            f"There is no photo in {[str(each) for each in places]}. Photos end in"
            f" {', '.join(sorted(SUFFIXES))}."
        )
    return list(found)


class PhotosByName:
    """Finds the photo that a label file means.

    Tools write names with folders or without, and not always those of this machine: the
    photo is the one whose path ends in most of the name's parts, the label file's own
    folder before it; of these the one in a folder of the same split. Small and capital
    letters count only where they tell two photos apart, and what Label Studio puts
    before the name of an uploaded file only if a photo is called so.
    """

    def __init__(self, photos: Iterable[pathlib.Path]) -> None:
        """Takes absolute paths."""
        self._by_name: dict[str, list[pathlib.Path]] = defaultdict(list)
        self._by_stem: dict[str, list[pathlib.Path]] = defaultdict(list)
        for path in photos:
            self._by_name[path.name.casefold()].append(path)
            self._by_stem[path.stem.casefold()].append(path)

    def find(self, labels: Labels) -> pathlib.Path | None:
        """The photo; None if there is none of that name.

        Raises:
          CocoDataError: Several have it.
        """
        named = labels.file.absolute().parent / labels.photo
        candidates = self._named(named.name, by_stem=labels.by_stem)
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        common = [_common_end(each, named) for each in candidates]
        best = [
            each
            for each, count in zip(candidates, common, strict=True)
            if count == max(common)
        ]
        if len(best) > 1 and labels.split is not None:
            sides = [split_of(each, by_stem=True) for each in best]
            if sides.count(labels.split) == 1:
                return best[sides.index(labels.split)]
        if len(best) > 1:
            raise CocoDataError(
                f"{labels.file} has labels for {labels.photo!r}, which may be"
                f" {best[0]} or {best[1]}. Give the folder of one of them only, or"
                " import each folder with its own labels."
            )
        return best[0]

    def _named(self, name: str, *, by_stem: bool) -> list[pathlib.Path]:
        known = self._by_stem if by_stem else self._by_name
        for called in (name, _UPLOADED.sub("", name)):
            if found := known.get(called.casefold()):
                exact = [
                    each
                    for each in found
                    if (each.stem if by_stem else each.name) == called
                ]
                return exact or found
        return []


def _common_end(photo: pathlib.Path, named: pathlib.Path) -> int:
    """How many folders at the end are the same."""
    count = 0
    for one, other in zip(photo.parts[-2::-1], named.parts[-2::-1], strict=False):
        if one != other:
            break
        count += 1
    return count


class Photo:
    """A photo's size and how a camera held it; pixels are read when it is written.

    Attributes:
      path: The file.
      stored: Width and height of the pixels in the file.
      upright: Those of the photo as a viewer shows it.
      orientation: EXIF's, 1 to 8.
    """

    def __init__(self, path: pathlib.Path) -> None:
        """Reads the header.

        Raises:
          CocoDataError: It is no photo.
        """
        self.path = path
        with _opened(path) as picture:
            self.stored = _stored_size(picture)
            # HEIC is turned by its reader, which then says 1.
            orientation = picture.getexif().get(_ORIENTATION, 1)
        self.orientation = orientation if orientation in _TURNS else 1
        lies = self.orientation in _ON_THE_SIDE
        self.upright = self.stored[::-1] if lies else self.stored

    def labelled(self, size: tuple[int, int] | None, rule: str | None) -> str | None:
        """Whether labels were made on the "upright" photo or the "stored" pixels.

        Args:
          size: Width and height of the picture that was labelled, if known.
          rule: What holds where sizes do not tell; None if nobody said.

        Returns:
          None if that cannot be known.

        Raises:
          CocoDataError: It was a picture of another size.
        """
        if size not in (None, self.stored, self.upright):
            raise CocoDataError(
                f"{self.path} is {self.upright[0]} x {self.upright[1]}, and its labels"
                f" were made for {size[0]} x {size[1]} (width x height). Give the photo"
                " that was labelled, or export the labels again."
            )
        if self.orientation == 1:
            return "upright"
        if size is not None and self.stored != self.upright:
            return "upright" if size == self.upright else "stored"
        return rule

    def turned(self, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """A mask of the stored pixels, as the photo is turned."""
        if self.orientation == 1:
            return mask
        picture = PIL.Image.fromarray(mask.astype(np.uint8))
        return np.asarray(picture.transpose(_TURNS[self.orientation])) > 0

    def write(self, path: pathlib.Path) -> bool:
        """Writes it upright as JPEG: the same bytes where that is what it is.

        Returns:
          Whether the pixels were encoded anew.

        Raises:
          CocoDataError: It cannot be read to its end, or has more than 8 bits.
        """
        with _opened(self.path) as picture:
            try:
                picture.load()
            except (OSError, SyntaxError) as error:
                raise CocoDataError(
                    f"{self.path} is damaged: {error}. Replace it or take it out."
                ) from error
            # MPO is a JPEG with more pictures behind it.
            is_jpeg = picture.format in {"JPEG", "MPO"}
            if is_jpeg and self.orientation == 1 and picture.mode in {"L", "RGB"}:
                shutil.copyfile(self.path, path)
                return False
            if picture.mode.startswith(("I", "F")):
                raise CocoDataError(
                    f"{self.path} has more than 8 bits a channel (mode {picture.mode})."
                    " Save it with 8."
                )
            upright = PIL.ImageOps.exif_transpose(picture).convert("RGB")
            profile = picture.info.get("icc_profile")
            upright.save(
                *(path, "JPEG"), quality=_QUALITY, subsampling=0, icc_profile=profile
            )
        return True


def _stored_size(picture: PIL.Image.Image) -> tuple[int, int]:
    """Width and height of the pixels in the file; Pillow turns TIFF by itself."""
    if isinstance(picture, PIL.TiffImagePlugin.TiffImageFile):
        return picture.tag_v2[_TIFF_WIDTH], picture.tag_v2[_TIFF_HEIGHT]
    return picture.size


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[PIL.Image.Image]:
    if path.suffix.lower() in {".heic", ".heif"}:
        try:
            import pillow_heif
        except ImportError as error:
            raise CocoDataError(
                f"{path} is HEIC, which pillow-heif reads:"
                " `pip install 'coco_cats_tfds[heic]'`."
            ) from error
        pillow_heif.register_heif_opener()
    try:
        picture = PIL.Image.open(path)
    except (OSError, PIL.Image.DecompressionBombError) as error:
        raise CocoDataError(
            f"{path} is no photo that can be read: {error}. Take it out, or save it"
            " again."
        ) from error
    with picture:
        yield picture
