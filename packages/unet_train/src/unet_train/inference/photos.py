"""Photos on disk: found, read as a person sees them, and named for what is made."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import errno
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

from unet_train.inference.pictures import is_marked

Photo = npt.NDArray[np.uint8]

_HEIC = {".heic", ".heif"}
# Films, and what other programs would have to read.
_NO_PHOTOS = {"MPEG", "HDF5", "GRIB", "BUFR", "WMF", "EPS", "FITS"}
# In the PNG files that are written, so that they are known again.
WRITER = "unet-train predict"


def read_photo(path: str | os.PathLike[str]) -> Photo:
    """Reads a photo with its EXIF orientation applied.

    ```python
    from unet_train.inference.photos import read_photo

    height, width, _ = read_photo("photo.jpg").shape
    ```

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
        if isinstance(error, PIL.Image.DecompressionBombError):
            cure = " Scale it down."
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


@dataclasses.dataclass(frozen=True)
class Job:
    """A photo, and where what is made of it goes.

    ```python
    import pathlib

    from unet_train.inference.photos import Job

    job = Job(pathlib.Path("photos/a.jpg"), "a.jpg", pathlib.Path("found/a"))
    print(job.photo, "goes to", f"{job.base}_mask.png")
    ```

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

    def make_room(self, kinds: Sequence[str]) -> None:
        """Makes the outputs' folder, if there are any, before one is written.

        Raises:
          ValueError: An output's name is longer than the file system takes.
        """
        path = self.base
        try:
            for path in map(self.output, kinds):
                path.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileNotFoundError):
                    path.lstat()
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise ValueError(
                f"{self.photo}: the name {path.name} would be too long for the file"
                " system. Rename it."
            ) from error


def find_photos(
    names: Sequence[str], output: pathlib.Path, kinds: Sequence[str]
) -> list[Job]:
    """Finds photos, and names for what is made of them.

    Photos of a folder, or of its folders, keep their place in it below the output.
    Where two of them differ in their suffix only, it stays in the outputs' names.
    What a prediction wrote is no photo unless it is named itself.

    ```python
    import pathlib

    from unet_train.inference.photos import find_photos

    jobs = find_photos(["COCO/val2017"], pathlib.Path("found"), ["mask"])
    len(jobs)  # As many as the folder has photos.
    ```

    Args:
      names: Files, folders, or patterns such as `photos/**/*.jpg`.
      output: Folder to write to.
      kinds: Of outputs, such as "mask".

    Raises:
      ValueError: There is nothing of that name, two photos would share an output, or
        one would replace a file that no prediction wrote.
    """
    found: dict[pathlib.Path, pathlib.Path] = {}
    for name in names:
        path = pathlib.Path(name)
        # `os.path` takes what the system refuses (too long, links in a loop) for
        # nothing; of `pathlib` it would stop all the others.
        if os.path.isdir(path):
            inside = [each for each in sorted(path.rglob("*")) if _is_photo(each)]
            if not inside:
                raise ValueError(
                    f"The folder {path} holds no photos. Correct its name."
                )
            found |= {each: each.relative_to(path) for each in inside}
        elif os.path.exists(path) or not glob.has_magic(name):
            # A file that is not there is told of when it is its turn.
            found[path] = pathlib.Path(path.name)
        else:
            matches = sorted(map(pathlib.Path, glob.glob(name, recursive=True)))
            matches = [each for each in matches if _is_photo(each)]
            if not matches:
                raise ValueError(f"The pattern {name!r} fits no photo. Correct it.")
            found |= {each: pathlib.Path(each.name) for each in matches}
    jobs = _jobs(found, output)
    _require_apart(jobs, kinds)
    return jobs


def _jobs(
    found: Mapping[pathlib.Path, pathlib.Path], output: pathlib.Path
) -> list[Job]:
    stems = collections.Counter(map(_stem, found.values()))
    return [
        Job(
            photo,
            relative.as_posix(),
            output
            / (relative if stems[_stem(relative)] > 1 else relative.with_suffix("")),
        )
        for photo, relative in found.items()
    ]


def _stem(path: pathlib.Path) -> str:
    """What the outputs' names begin with; some file systems know no letter case."""
    return str(path.with_suffix("")).casefold()


def _require_apart(jobs: Sequence[Job], kinds: Sequence[str]) -> None:
    inputs = {os.path.realpath(job.photo) for job in jobs}
    seen: dict[str, pathlib.Path] = {}
    for job in jobs:
        for path in map(job.output, kinds):
            if os.path.realpath(path) in inputs:
                raise ValueError(
                    f"The output {path} would replace a photo of that name. Give"
                    " another --output."
                )
            if os.path.exists(path) and not is_marked(path, WRITER):
                raise ValueError(
                    f"{path} is there, and `unet-train predict` did not write it. Give"
                    " another --output, or move it away."
                )
            name = str(path).casefold()
            if name in seen:
                raise ValueError(
                    f"{seen[name]} and {job.photo} would both be written to {path}."
                    " Rename one, or predict them into different folders."
                )
            seen[name] = job.photo


def _is_photo(path: pathlib.Path) -> bool:
    """Whether a file that nobody named is one to predict."""
    hidden = path.name.startswith(".")
    if hidden or path.suffix.lower() not in _suffixes() or not path.is_file():
        return False
    return not is_marked(path, WRITER)


@functools.cache
def _suffixes() -> frozenset[str]:
    """Of pictures that Pillow reads by itself."""
    known = PIL.Image.registered_extensions()
    readable = {
        suffix
        for suffix, kind in known.items()
        if kind in PIL.Image.OPEN and kind not in _NO_PHOTOS
    }
    return frozenset(readable | _HEIC)
