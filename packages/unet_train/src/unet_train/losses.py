"""The losses by the names that configurations know them by.

```yaml
task:
  loss: {class_path: unet_train.losses.Tversky, init_args: {beta: 0.8}}
```
"""

from unet_train.task.loss import ImageLoss, Loss, PixelLoss
from unet_train.task.losses import (
    LOSSES,
    BceDice,
    Dice,
    KerasLoss,
    Tversky,
    make_loss,
)
from unet_train.task.lovasz import Lovasz
from unet_train.task.pixel_losses import BinaryCrossentropy, Crossentropy, Focal

__all__ = [
    "LOSSES",
    "BceDice",
    "BinaryCrossentropy",
    "Crossentropy",
    "Dice",
    "Focal",
    "ImageLoss",
    "KerasLoss",
    "Loss",
    "Lovasz",
    "PixelLoss",
    "Tversky",
    "make_loss",
]
