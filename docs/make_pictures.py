"""Makes the picture of the README from a finished `nox -s demo`.

python docs/make_pictures.py --run_dir demo/run --output docs/sample.png
"""

import argparse

import numpy as np
import PIL.Image

from unet_train import Predictor, SegmentationData
from unet_train.photos import overlay
from unet_train.run_folder import read_config


def main() -> None:
    """Puts photo, truth and prediction of some validation images side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run_dir", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--images", type=int, nargs="+", default=[0])
    parser.add_argument("--height", type=int, default=240, help="of a row in pixels")
    options = parser.parse_args()

    data = SegmentationData(**read_config(options.run_dir)["data"])
    predictor = Predictor.load(options.run_dir)
    examples = list(data.examples("validation"))
    rows = []
    for example in (examples[index] for index in options.images):
        photo, truth = example.image, example.mask[..., 0] == 1
        panels = [photo, overlay(photo, truth), overlay(photo, predictor(photo))]
        gap = np.full((photo.shape[0], 8, 3), 255, np.uint8)
        row = np.hstack([panels[0], gap, panels[1], gap, panels[2]])
        size = (round(row.shape[1] * options.height / row.shape[0]), options.height)
        rows.append(PIL.Image.fromarray(row).resize(size, PIL.Image.Resampling.LANCZOS))
    sheet = PIL.Image.new(
        "RGB",
        (max(row.width for row in rows), len(rows) * (options.height + 8) - 8),
        "white",
    )
    for index, row in enumerate(rows):
        sheet.paste(row, (0, index * (options.height + 8)))
    sheet.quantize(256).save(options.output, optimize=True)


if __name__ == "__main__":
    main()
