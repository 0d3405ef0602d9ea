"""What the package offers, and what importing it costs."""

import dataclasses
import importlib
import pathlib
import re
import subprocess
import sys

import numpy as np
import PIL.Image

import unet_core

ROOT = pathlib.Path(__file__).parents[2]


def test_public_names():
    assert unet_core.__all__ == [
        "Geometry",
        "Summary",
        "TiledPredictor",
        "UNetConfig",
        "build_unet",
        "predict_image",
        "presets",
        "read_geometry",
    ]
    assert all(hasattr(unet_core, name) for name in unet_core.__all__)


def test_modules_are_not_hidden_by_what_they_hold():
    folder = pathlib.Path(unet_core.__file__).parent
    names = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert "summary" in names
    for name in names:
        module = importlib.import_module(f"unet_core.{name}")
        assert getattr(unet_core, name) is module


def test_import_and_geometry_need_no_tensorflow():
    program = (
        "import sys, unet_core\n"
        "assert unet_core.Geometry().output_size(572) == 388\n"
        "assert unet_core.Summary.of('paper', 572).parameters > 3e7\n"
        "assert unet_core.UNetConfig().depth == 4\n"
        "heavy = {'tensorflow', 'keras', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def code_of(path):
    blocks = re.findall(r"^```python\n(.*?)^```$", path.read_text(), re.M | re.S)
    assert blocks
    return "\n".join(blocks)


# A step of the paper's width takes a minute, and no line of the text depends on it.
NARROW = """
import dataclasses
from unet_core import presets
wide = presets.blog_2018()
presets.PRESETS["blog_2018"] = lambda: dataclasses.replace(wide, base_filters=4)
"""


def test_the_readme_runs_as_it_stands(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "photo.jpg")
    narrow = dataclasses.replace(unet_core.presets.blog_2018(), base_filters=4)
    unet_core.build_unet(narrow).save_weights(tmp_path / "cats.weights.h5")
    program = NARROW + code_of(ROOT / "packages" / "unet_core" / "README.md")
    program += "\nassert mask.shape == (40, 60)"
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)


def test_the_documentation_runs_as_it_stands(tmp_path):
    program = code_of(ROOT / "docs" / "unet.md")
    # What the text speaks of: a photo, labels, and an error, which is shown beside it.
    program = program.replace("geometry.output_size(600)", "")
    program = (
        """
import numpy as np
photo = np.zeros((30, 40, 1), np.uint8)
mask = np.zeros((1, 572, 572, 1), np.uint8)
"""
        + program
        + """
assert probabilities.shape == (30, 40, 2)
assert label.shape == (1, 388, 388, 1)
"""
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
