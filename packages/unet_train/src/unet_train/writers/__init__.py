"""Where numbers and pictures of a run are written to."""

from unet_train.writers.base import Writer
from unet_train.writers.tensorboard import TensorBoardWriter

__all__ = ["TensorBoardWriter", "Writer"]
