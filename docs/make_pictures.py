"""Makes the pictures of the README and of the documentation from `nox -s demo`.

    python docs/make_pictures.py --demo demo --output docs

They show the embedded sample and the photo it is made of, nothing else. `found.png`:
that photo, and what the model that ships found; `sample.png`: photo, truth, prediction;
`contact_sheet.png`: what `coco-cats show` draws; `augmentation.png`: one photo as
training may see it.
"""

import argparse
import itertools
import pathlib
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import skimage.data

from coco_cats_tfds.built import find_built
from coco_cats_tfds.contact_sheet import draw_sheet
from unet_train import Predictor, SegmentationData
from unet_train.inference.pictures import overlay
from unet_train.runs.folder import read_config

Pixels = npt.NDArray[np.uint8]
GAP = 8
# One photo as it is, and by one option at a time.
AUGMENTATIONS: list[dict[str, Any]] = [
    {},
    {"mirror": True},
    {"rotation": 30},
    {"elastic": 10},
    {"color_jitter": 0.5},
    {"cutout": 0.5},
]
SEED = 9  # One that mirrors, and cuts out a large rectangle.


def main() -> None:
    """Writes them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument(
        "--images", type=int, nargs="+", default=[6], help="of sample.png"
    )
    options = parser.parse_args()

    built, run = options.demo / "tfds", options.demo / "run"
    found = found_in_photos(run, options.images, height=260)
    save(found, options.output / "sample.png")
    (dataset,) = find_built(built)
    sheet = draw_sheet(dataset.examples("train"), 6)
    save(sheet, options.output / "contact_sheet.png")
    save(augmented(built), options.output / "augmentation.png")
    save(found_by_the_shipped_model(), options.output / "found.png", colors=256)


def save(picture: PIL.Image.Image, path: pathlib.Path, *, colors: int = 128) -> None:
    """As a small PNG."""
    picture.quantize(colors).save(path, optimize=True)


def found_by_the_shipped_model() -> PIL.Image.Image:
    """scikit-image's cat, whole, beside what `models/cats` found."""
    photo = skimage.data.chelsea()
    mask = Predictor.load(pathlib.Path(__file__).parents[1] / "models" / "cats")(photo)
    return PIL.Image.fromarray(beside([photo, overlay(photo, mask)]))


def beside(panels: list[Pixels]) -> Pixels:
    """Panels of one height in a row."""
    gap = np.full((panels[0].shape[0], GAP, 3), 255, np.uint8)
    parts = itertools.chain.from_iterable((gap, panel) for panel in panels)
    return np.hstack(list(parts)[1:])


def found_in_photos(
    run: pathlib.Path, images: list[int], height: int
) -> PIL.Image.Image:
    """Photo, truth and prediction of some validation images, one a row."""
    data = SegmentationData(**read_config(run)["data"])
    predictor = Predictor.load(run)
    examples = list(data.examples("validation"))
    rows = []
    for example in (examples[index] for index in images):
        photo, truth = example.image, example.mask[..., 0] == 1
        row = beside([photo, overlay(photo, truth), overlay(photo, predictor(photo))])
        size = (round(row.shape[1] * height / row.shape[0]), height)
        rows.append(PIL.Image.fromarray(row).resize(size, PIL.Image.Resampling.LANCZOS))
    whole = (max(row.width for row in rows), len(rows) * (height + GAP) - GAP)
    sheet = PIL.Image.new("RGB", whole, "white")
    for index, row in enumerate(rows):
        sheet.paste(row, (0, index * (height + GAP)))
    return sheet


def augmented(built: pathlib.Path) -> PIL.Image.Image:
    """One training photo under each augmentation; what training ignores is darker."""
    panels = []
    for options in AUGMENTATIONS:
        data = SegmentationData(
            data_dir=str(built),
            **{"tile_size": 220, "image_size": 220, "mirror": False, **options},
        )
        batches = data.train_batches(margin=0, seed=SEED, limit=1)
        tile, mask = (part.numpy()[0] for part in next(iter(batches)))
        found = overlay(tile, mask[..., 0] == 1)
        panels.append(np.where(mask == 255, found // 2, found).astype(np.uint8))
    half = len(panels) // 2
    rows = [beside(panels[:half]), beside(panels[half:])]
    gap = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
    return PIL.Image.fromarray(np.vstack([rows[0], gap, rows[1]]))


if __name__ == "__main__":
    main()
