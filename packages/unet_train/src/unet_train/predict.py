"""A trained network for whole photos at their own resolution.

```python
predictor = Predictor.load("runs/cats")
mask = predictor(photo)  # uint8 [H, W, 3] -> bool [H, W]
```
"""

from __future__ import annotations

import os

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from unet_core import TiledPredictor
from unet_train import augment
from unet_train.run_folder import Weights, load_model, read_config

Photo = npt.NDArray[np.uint8]


class Predictor:
    """Scales a photo as in training, predicts it in tiles, scales the result back.

    Attributes:
      model: What it predicts with.
      threshold: Probability from which a pixel is foreground.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        image_size: int | None = None,
        threshold: float = 0.5,
    ) -> None:
        """Wraps a model.

        Args:
          model: Of `unet_core.build_unet` with one class.
          image_size: Longer side in pixels that photos are scaled to for the network;
            None leaves them as they are.
          threshold: Probability from which a pixel is foreground.
        """
        self.model = model
        self.threshold = threshold
        self._image_size = image_size
        self._predict = TiledPredictor(model)

    @classmethod
    def load(
        cls, run_dir: str | os.PathLike[str], weights: Weights = "last"
    ) -> Predictor:
        """Loads the model of a run: the finished one, else its last checkpoint.

        Args:
          run_dir: The folder that `fit` wrote.
          weights: "best" takes the model of the best validation in its place.

        Raises:
          ValueError: The folder holds no run, or no weights yet.
        """
        config = read_config(run_dir)
        return cls(
            load_model(run_dir, weights),
            image_size=config["data"]["image_size"],
            threshold=config["task"]["threshold"],
        )

    def probabilities(self, photo: Photo) -> npt.NDArray[np.float32]:
        """Probability of foreground for every pixel.

        Args:
          photo: uint8 [H, W, 3].

        Returns:
          float32 [H, W].
        """
        if self._image_size is None:
            return self._predict(photo)[..., 0]
        size = augment.scaled_size(tf.shape(photo), self._image_size)
        scaled = self._predict(augment.resize_image(photo, size).numpy())
        result: npt.NDArray[np.float32] = tf.image.resize(
            scaled, photo.shape[:2]
        ).numpy()
        return result[..., 0]

    def __call__(self, photo: Photo) -> npt.NDArray[np.bool_]:
        """The mask of a photo, uint8 [H, W, 3] to bool [H, W]."""
        return self.probabilities(photo) >= self.threshold
