"""The U-Net graph, its geometry, and tiled prediction that equals the whole pass.

```python
from unet_core import build_unet, predict_image

model = build_unet("blog_2018")  # A keras.Model that returns logits.
probabilities = predict_image(model, photo)  # uint8 [H, W, 3] -> float32 [H, W, 1].
```

TensorFlow is imported when a name that needs it is first used, so that importing this
package, reading its options and asking its geometry cost nothing.
"""

from typing import TYPE_CHECKING, Any

from unet_core import presets
from unet_core.config import UNetConfig
from unet_core.geometry import Geometry
from unet_core.summary import Summary

if TYPE_CHECKING:
    from unet_core.model import build_unet
    from unet_core.reading import read_geometry
    from unet_core.tiling import TiledPredictor, predict_image

__all__ = [
    "Geometry",
    "Summary",
    "TiledPredictor",
    "UNetConfig",
    "build_unet",
    "predict_image",
    "presets",
    "read_geometry",
]
__version__ = "0.1.0"

_LAZY = {
    "build_unet": "unet_core.model",
    "read_geometry": "unet_core.reading",
    "TiledPredictor": "unet_core.tiling",
    "predict_image": "unet_core.tiling",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
