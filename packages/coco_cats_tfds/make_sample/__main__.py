"""Draws both samples, and writes the zip that the package ships."""

import pathlib
import tempfile
import zipfile

from make_sample.dataset import draw_sample

TARGET = pathlib.Path(__file__).parents[1] / "src" / "coco_cats_tfds" / "sample.zip"

ORIGIN = """\
These pictures are in the public domain (CC0 1.0), as are all that they are made of:
pictures of scikit-image, whose skimage.data names the source of each.

The cat: Chelsea, by Stefan van der Walt (CC0).
The cup: coffee, by Rachel Michetti (CC0).
Behind them: brick, camera (Lav Varshney), cell, coffee, grass, gravel, retina (CC0);
astronaut and hubble_deep_field (NASA), clock_motion (Stefan van der Walt), rocket
(SpaceX), text (public domain).
"""


def main() -> None:
    """Writes the same bytes each time; zip's least date, so that none tells today's."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        draw_sample(folder / "cats")
        draw_sample(folder / "cats_and_cups", cups=True)
        (folder / "ORIGIN.txt").write_text(ORIGIN)
        with zipfile.ZipFile(TARGET, "w", zipfile.ZIP_STORED) as archive:
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    member = zipfile.ZipInfo(path.relative_to(folder).as_posix())
                    archive.writestr(member, path.read_bytes())


if __name__ == "__main__":
    main()
