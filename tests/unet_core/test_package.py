"""What the package offers, and what importing it costs."""

import doctest
import subprocess
import sys

import unet_core
from unet_core import geometry


def test_public_names():
    assert unet_core.__all__ == [
        "TiledPredictor",
        "UNetConfig",
        "build_unet",
        "geometry",
        "predict_image",
        "read_geometry",
    ]
    assert all(hasattr(unet_core, name) for name in unet_core.__all__)


def test_import_and_geometry_need_no_tensorflow():
    program = (
        "import sys, unet_core\n"
        "assert unet_core.geometry.output_size(572) == 388\n"
        "assert unet_core.UNetConfig().depth == 4\n"
        "heavy = {'tensorflow', 'keras', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_examples_in_docstrings():
    results = doctest.testmod(geometry)
    assert results.attempted >= 3
    assert not results.failed
