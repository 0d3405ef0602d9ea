"""Whether an export gives what `Predictor` gives, photo by photo."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import tensorflow as tf

from unet_train.export.formats import Format
from unet_train.export.signatures import PhotoModule
from unet_train.inference import photos

TOLERANCE = 1e-3
"""How far a probability may lie from the predictor's."""

COUNT = 10
"""Photos that are compared unless the caller gives some."""

_JPEG_QUALITY = 95


@dataclasses.dataclass(frozen=True)
class Parity:
    """How an export compares.

    Attributes:
      photos: How many were compared.
      difference: The largest of all probabilities.
      pixels: How many of all mask pixels differ.
      of_pixels: How many there are.
    """

    photos: int
    difference: float
    pixels: int
    of_pixels: int


def compare(
    kind: Format, path: pathlib.Path, module: PhotoModule, files: Sequence[pathlib.Path]
) -> Parity:
    """Predicts photos with an export and with the predictor it comes from.

    Args:
      kind: Form of the export.
      path: Where it lies.
      module: What was exported.
      files: Photos.

    Raises:
      ValueError: A photo cannot be read, or a probability differs by more than
        `TOLERANCE`.
    """
    predictor = module.predictor
    predict = _predict_bytes(path) if kind.open is None else None
    whole = module.with_network(kind.open(path)) if kind.open else None
    difference, pixels, of_pixels = 0.0, 0, 0
    for file in files:
        photo = photos.read_photo(file)
        expected = predictor.probabilities(photo)
        if predict:
            found, mask = predict(file.read_bytes())
        else:
            assert whole is not None
            try:
                found = whole(tf.constant(photo)).numpy()
            except (ValueError, tf.errors.OpError) as error:
                raise ValueError(
                    f"{kind.file} cannot be run on {file.name}: {error}. Nothing was"
                    " exported; leave that format out."
                ) from error
            mask = predictor.decide(found)
        if found.shape != expected.shape:
            raise ValueError(
                f"{kind.file} gives {found.shape} pixels for {file.name}, the predictor"
                f" {expected.shape}. Nothing was exported."
            )
        difference = max(difference, float(np.abs(found - expected).max()))
        pixels += int((mask != predictor.decide(expected)).sum())
        of_pixels += mask.size
        if not difference <= TOLERANCE:
            raise ValueError(
                f"{kind.file} differs from the predictor by a probability of"
                f" {difference:.2g} on {file.name}, and {TOLERANCE:g} is allowed."
                " Nothing was exported; leave that format out."
            )
    return Parity(len(files), difference, pixels, of_pixels)


def _predict_bytes(path: pathlib.Path) -> Any:
    """What serves photos at `path`: bytes to probability and mask."""
    loaded = tf.saved_model.load(path / "1")

    def predict(photo: bytes) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        outputs = loaded.signatures["serving_default"](photo=tf.constant(photo))
        return outputs["probability"].numpy(), outputs["mask"].numpy()

    return predict


def validation_photos(
    data: dict[str, Any], folder: pathlib.Path
) -> list[pathlib.Path] | None:
    """Writes the first validation images of a run's dataset as JPEG.

    Args:
      data: Options of the run's data.
      folder: Where to write.

    Returns:
      None if the dataset is not to be found here.
    """
    from unet_train.data.source import SegmentationData

    try:
        examples = list(SegmentationData(**data).examples(limit=COUNT))
    except (ValueError, OSError):
        return None
    return [
        _write_jpeg(folder / f"validation_{index}.jpg", example.image)
        for index, example in enumerate(examples)
    ]


def synthetic_photos(folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes pictures of smooth random colours, of odd sizes and all orientations."""
    rng = np.random.default_rng(0)
    files = []
    for index in range(COUNT):
        coarse = rng.uniform(0, 255, (7, 7, 3))
        size = rng.integers(90, 400, 2)
        pixels = tf.image.resize(coarse, size, method="bicubic").numpy()
        pixels = pixels.clip(0, 255).astype(np.uint8)
        path = folder / f"synthetic_{index}.jpg"
        files.append(_write_jpeg(path, pixels, orientation=1 + index % 8))
    return files


def _write_jpeg(
    path: pathlib.Path, pixels: npt.NDArray[np.uint8], *, orientation: int = 1
) -> pathlib.Path:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    picture = PIL.Image.fromarray(pixels)
    picture.save(path, "JPEG", quality=_JPEG_QUALITY, exif=exif)
    return path
