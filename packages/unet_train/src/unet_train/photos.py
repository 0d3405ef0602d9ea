"""Photos on disk: read as a person sees them, and written with what was found."""

from __future__ import annotations

import collections
import dataclasses
import functools
import glob
import os
import pathlib
import struct
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageOps

Photo = npt.NDArray[np.uint8]

_TINT = np.array([255, 64, 160], np.float32)
_TINT_STRENGTH = 0.45
_OUTLINE = np.array([255, 255, 0], np.uint8)
_HEIC = {".heic", ".heif"}


def read_photo(path: str | os.PathLike[str]) -> Photo:
    """Reads a photo with its EXIF orientation applied.

    Args:
      path: JPEG, PNG, WebP or whatever else Pillow reads; HEIC with the extra
        `unet_train[heic]`.

    Returns:
      uint8 [H, W, 3].

    Raises:
      ValueError: The file is not a picture that can be read.
    """
    _register_heic()
    try:
        with PIL.Image.open(path) as picture:
            upright = _upright(picture)
            if upright.mode.startswith("I"):  # 16 bits a pixel; Pillow would clip them.
                deep = np.asarray(upright).astype(np.uint32) >> 8
                upright = PIL.Image.fromarray(deep.clip(0, 255).astype(np.uint8))
            return np.asarray(upright.convert("RGB"))
    except Exception as error:  # Pillow's readers raise whatever a damaged file causes.
        cure = ""
        if pathlib.Path(path).suffix.lower() in _HEIC and not _register_heic():
            cure = " For HEIC, `pip install 'unet_train[heic]'`."
        raise ValueError(
            f"{os.fspath(path)} is not a readable photo: {error}.{cure}"
        ) from error


def _upright(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Turned as its EXIF orientation says; as it is if the EXIF is broken."""
    try:
        return PIL.ImageOps.exif_transpose(picture)
    except (SyntaxError, struct.error):
        return picture


@functools.cache
def _register_heic() -> bool:
    """Teaches Pillow HEIC, if the library is there; whether it is."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def overlay(photo: Photo, mask: npt.NDArray[np.bool_]) -> Photo:
    """The photo with the foreground tinted and outlined.

    Args:
      photo: uint8 [H, W, 3].
      mask: bool [H, W].

    Returns:
      uint8 [H, W, 3].
    """
    result = photo.copy()
    tinted = photo[mask] * (1 - _TINT_STRENGTH) + _TINT * _TINT_STRENGTH
    result[mask] = np.round(tinted).astype(np.uint8)
    result[_outline(mask)] = _OUTLINE
    return result


def _outline(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Pixels of the mask near a pixel outside it; thicker on large photos."""
    inner = mask.copy()
    for _ in range(max(1, max(mask.shape) // 500)):
        padded = np.pad(inner, 1, constant_values=True)
        inner = (
            inner
            & padded[:-2, 1:-1]
            & padded[2:, 1:-1]
            & padded[1:-1, :-2]
            & padded[1:-1, 2:]
        )
    return mask & ~inner


@dataclasses.dataclass(frozen=True)
class Job:
    """A photo, and where what is made of it goes.

    Attributes:
      photo: The file.
      name: Of the photo in its folder, as far as it was found by one.
      base: Beginning of the outputs' paths.
    """

    photo: pathlib.Path
    name: str
    base: pathlib.Path

    def output(self, kind: str) -> pathlib.Path:
        """`<base>_<kind>.png`."""
        return self.base.with_name(f"{self.base.name}_{kind}.png")


def find_photos(
    names: Sequence[str], output: pathlib.Path, kinds: Sequence[str]
) -> list[Job]:
    """Finds photos, and names for what is made of them.

    Photos of a folder, or of its folders, keep their place in it below the output.
    Where two of them differ in their suffix only, it stays in the outputs' names.

    Args:
      names: Files, folders, or patterns such as `photos/**/*.jpg`.
      output: Folder to write to.
      kinds: Of outputs, such as "mask".

    Raises:
      ValueError: There is nothing of that name, two photos would share an output, or
        one would replace a photo.
    """
    found: dict[pathlib.Path, pathlib.Path] = {}
    named = set()
    for name in names:
        path = pathlib.Path(name)
        if path.is_dir():
            inside = [each for each in sorted(path.rglob("*")) if _is_photo(each)]
            if not inside:
                raise ValueError(
                    f"The folder {path} holds no photos. Correct its name."
                )
            found |= {each: each.relative_to(path) for each in inside}
        elif path.exists() or not glob.has_magic(name):
            # A file that is not there is told of when it is its turn.
            found[path] = pathlib.Path(path.name)
            named.add(path)
        else:
            matches = sorted(map(pathlib.Path, glob.glob(name, recursive=True)))
            matches = [each for each in matches if _is_photo(each)]
            if not matches:
                raise ValueError(f"The pattern {name!r} fits no photo. Correct it.")
            found |= {each: pathlib.Path(each.name) for each in matches}
    jobs = _jobs(found, output)
    made = {job.output(kind).resolve() for job in jobs for kind in kinds}
    # An earlier prediction into the folder of the photos is no photo.
    left = {
        path: relative
        for path, relative in found.items()
        if path in named or path.resolve() not in made
    }
    jobs = _jobs(left, output)
    _require_apart(jobs, kinds)
    return jobs


def _jobs(
    found: Mapping[pathlib.Path, pathlib.Path], output: pathlib.Path
) -> list[Job]:
    stems = collections.Counter(path.with_suffix("") for path in found.values())
    return [
        Job(
            photo,
            str(relative),
            output
            / (
                relative
                if stems[relative.with_suffix("")] > 1
                else relative.with_suffix("")
            ),
        )
        for photo, relative in found.items()
    ]


def _require_apart(jobs: Sequence[Job], kinds: Sequence[str]) -> None:
    inputs = {job.photo.resolve() for job in jobs}
    seen: dict[pathlib.Path, pathlib.Path] = {}
    for job in jobs:
        for path in map(job.output, kinds):
            if path.resolve() in inputs:
                raise ValueError(
                    f"The output {path} would replace a photo of that name. Give"
                    " another --output."
                )
            if path in seen:
                raise ValueError(
                    f"{seen[path]} and {job.photo} would both be written to {path}."
                    " Rename one, or predict them into different folders."
                )
            seen[path] = job.photo


def _is_photo(path: pathlib.Path) -> bool:
    known = {*PIL.Image.registered_extensions(), *_HEIC}
    hidden = path.name.startswith(".")
    return not hidden and path.suffix.lower() in known and path.is_file()


def write_png(path: pathlib.Path, pixels: npt.NDArray[np.generic]) -> None:
    """Writes uint8 or uint16 [H, W], or uint8 [H, W, 3]; whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    PIL.Image.fromarray(pixels).save(partial, format="PNG")
    partial.replace(path)
