"""What the package offers, and what importing it costs."""

import subprocess
import sys

import unet_core


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
        "summary",
    ]
    assert all(hasattr(unet_core, name) for name in unet_core.__all__)


def test_import_and_geometry_need_no_tensorflow():
    program = (
        "import sys, unet_core\n"
        "assert unet_core.Geometry().output_size(572) == 388\n"
        "assert unet_core.summary(unet_core.presets.paper(), 572).parameters > 3e7\n"
        "assert unet_core.UNetConfig().depth == 4\n"
        "heavy = {'tensorflow', 'keras', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
