"""Predictors of several devices, which share the images of an evaluation.

```python
gpus = [gpu.name for gpu in tf.config.list_logical_devices("GPU")]
predictors = on_each(gpus, lambda number: Predictor.load("runs/cats"))
for example, found in predictions(predictors, data.examples("validation")): ...
```
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from unet_train.inference.photos import Photo
from unet_train.inference.predictor import Predictor


@dataclasses.dataclass(frozen=True)
class OnDevice:
    """A predictor that has its weights, and computes, on a device of its own.

    Attributes:
      predictor: It.
      device: TensorFlow's name for it; None for the one that TensorFlow takes.
    """

    predictor: Predictor
    device: str | None = None

    @property
    def model(self) -> keras.Model:
        """What it predicts with."""
        return self.predictor.model

    def many(self, photos: Sequence[Photo]) -> list[npt.NDArray[np.float32]]:
        """As `Predictor.many`."""
        with _on(self.device):
            return self.predictor.many(photos)


def on_each(devices: Sequence[str], make: Callable[[int], Predictor]) -> list[OnDevice]:
    """One predictor on each of several devices, or on the one that TensorFlow takes.

    Args:
      devices: TensorFlow's names for them; of none or one, that is TensorFlow's choice.
      make: Makes a predictor with variables of its own; given a device's number.
    """
    found = []
    for number, device in enumerate(devices if len(devices) > 1 else [None]):
        with _on(device):
            found.append(OnDevice(make(number), device))
    return found


def copy_of(model: keras.Model) -> keras.Model:
    """The same with variables of its own, on the present device."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def _on(device: str | None) -> contextlib.AbstractContextManager[object]:
    return contextlib.nullcontext() if device is None else tf.device(device)
