"""Callbacks that come with the trainer; none joins a run unasked."""

from unet_train.callbacks.best_models import BestModels
from unet_train.callbacks.early_stopping import EarlyStopping
from unet_train.callbacks.profile import Profile
from unet_train.callbacks.progress import Progress
from unet_train.callbacks.tensorboard import TensorBoard
from unet_train.training.callback import Callback
from unet_train.training.run import Run

__all__ = [
    "BestModels",
    "Callback",
    "EarlyStopping",
    "Profile",
    "Progress",
    "Run",
    "TensorBoard",
]
