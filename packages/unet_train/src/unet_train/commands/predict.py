"""`unet-train predict`."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Sequence

import jsonargparse

from unet_train.commands.shared import add_run_arguments

HELP = "masks for photos"


def parser(arguments: Sequence[str] = ()) -> jsonargparse.ArgumentParser:
    """The run, the photos, and what to write."""
    predict = jsonargparse.ArgumentParser(
        description=(
            "Write <stem>_mask.png (0 and 255, as large as the photo) and"
            " <stem>_overlay.png for each photo."
        )
    )
    add_run_arguments(predict)
    predict.add_argument("photos", type=str, nargs="+", help="files")
    predict.add_argument("--output", type=str, required=True, help="folder to write to")
    return predict


def run(options: jsonargparse.Namespace) -> int:
    """Writes masks and overlays."""
    import numpy as np

    from unet_train import photos
    from unet_train.devices import find_gpus
    from unet_train.predict import Predictor

    find_gpus()
    folder = pathlib.Path(options.output)
    targets = photos.output_paths([pathlib.Path(p) for p in options.photos], folder)
    predictor = Predictor.load(options.run_dir, options.weights)
    folder.mkdir(parents=True, exist_ok=True)
    failures = []
    for photo_path, (mask_path, overlay_path) in targets.items():
        try:
            photo = photos.read_photo(photo_path)
        except ValueError as error:
            failures.append(str(error))
            continue
        mask = predictor(photo)
        photos.write_png(mask_path, mask.astype(np.uint8) * 255)
        photos.write_png(overlay_path, photos.overlay(photo, mask))
        print(f"{photo_path}: {mask.mean():.1%} foreground, {overlay_path}")
    for failure in failures:
        print(f"unet-train: left out: {failure}", file=sys.stderr)
    return 1 if failures else 0
