"""Trains a U-Net on any TFDS segmentation dataset; predicts whole photos with it.

```python
from unet_core import UNetConfig, build_unet
from unet_train import SegmentationData, SegmentationTask, Trainer
from unet_train.callbacks import Progress, TensorBoard

trainer = Trainer("runs/cats", max_epochs=100, callbacks=[Progress(), TensorBoard()])
task = SegmentationTask(build_unet(UNetConfig()), learning_rate=1e-3)
trainer.fit(task, SegmentationData("coco_cats", data_dir="OUT", batch_size=4))
```

TensorFlow is imported when one of these names is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unet_train.data.source import SegmentationData
    from unet_train.inference.predictor import Predictor
    from unet_train.task.segmentation import SegmentationTask
    from unet_train.training.callback import Callback
    from unet_train.training.trainer import Trainer

__all__ = ["Callback", "Predictor", "SegmentationData", "SegmentationTask", "Trainer"]
__version__ = "0.1.0"

_LAZY = {
    "Callback": "unet_train.training.callback",
    "Predictor": "unet_train.inference.predictor",
    "SegmentationData": "unet_train.data.source",
    "SegmentationTask": "unet_train.task.segmentation",
    "Trainer": "unet_train.training.trainer",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
