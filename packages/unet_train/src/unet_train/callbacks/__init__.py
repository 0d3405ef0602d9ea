"""What may happen beside training: progress, TensorBoard, and parts of one's own."""

from unet_train.callbacks.base import Callback, Run
from unet_train.callbacks.progress import Progress
from unet_train.callbacks.tensorboard import TensorBoard

__all__ = ["Callback", "Progress", "Run", "TensorBoard"]
