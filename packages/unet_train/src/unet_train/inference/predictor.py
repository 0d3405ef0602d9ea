"""A trained network for whole photos at their own resolution.

```python
predictor = Predictor.load("runs/cats")
mask = predictor(photo)  # uint8 [H, W, 3], or a path -> bool [H, W]
```
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from unet_core import TiledPredictor
from unet_train.data import augment
from unet_train.inference.photos import Photo, read_photo
from unet_train.options import DataOptions
from unet_train.options.checks import require_sizes
from unet_train.runs.folder import read_config
from unet_train.runs.load import Weights, load_trained


class Predictor:
    """Scales a photo as in training, predicts it in tiles, scales the result back.

    Attributes:
      model: What it predicts with.
      image_sizes: Longer sides in pixels that photos are scaled to; empty for none.
      threshold: Probability from which a pixel is foreground.
      flips: Whether a photo and its mirror image are averaged.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        image_size: int | Sequence[int] | None = None,
        threshold: float = 0.5,
        flips: bool = False,
    ) -> None:
        """Wraps a model.

        Args:
          model: Of `unet_core.build_unet` with one class.
          image_size: Longer side in pixels that photos are scaled to for the network;
            None leaves them as they are. Of several sizes the probabilities are
            averaged, at the cost of them all.
          threshold: Probability from which a pixel is foreground.
          flips: Average the predictions of the photo and of its mirror image (left to
            right, as `data.mirror` trains), at twice the cost.

        Raises:
          ValueError: The threshold is no probability, a size is not above 0, or the
            model takes something else than photos, or gives something else than one
            logit a pixel.
        """
        if not 0 < threshold < 1:
            raise ValueError(
                f"`threshold` must lie between 0 and 1. Received: {threshold}"
            )
        channels = model.inputs[0].shape[-1], model.outputs[0].shape[-1]
        if channels != (3, 1):
            raise ValueError(
                f"The model makes {channels[1]} channels of {channels[0]}. For masks of"
                " photos it must make one logit of red, green and blue."
            )
        self.model = model
        self.threshold = threshold
        self.image_sizes = (
            () if image_size is None else require_sizes("image_size", image_size)
        )
        self.flips = flips
        self._predict = TiledPredictor(model, flips="horizontal" if flips else False)

    @classmethod
    def load(
        cls,
        run_dir: str | os.PathLike[str],
        weights: Weights = "last",
        *,
        threshold: float | None = None,
        flips: bool = False,
    ) -> Predictor:
        """Loads the model of a run: the finished one, else its last checkpoint.

        Args:
          run_dir: The folder that `fit` wrote, or a published model: a folder with
            `model.keras`, and with `config.yaml` and `metrics.json` of its run, or the
            path of that `model.keras`.
          weights: "best" takes the model of the best validation in its place.
          threshold: In place of the run's own.
          flips: As for `Predictor`.

        Raises:
          ValueError: The folder holds no run and no model, or no weights yet.
        """
        data = DataOptions(**read_config(run_dir)["data"])
        trained = load_trained(run_dir, weights)
        return cls(
            trained.model,
            image_size=data.prediction_size,
            threshold=trained.threshold if threshold is None else threshold,
            flips=flips,
        )

    @property
    def settings(self) -> dict[str, float]:
        """What decides its masks besides the weights; kept with them, as JSON."""
        return {"threshold": self.threshold}

    def probabilities(
        self, photo: Photo | str | os.PathLike[str]
    ) -> npt.NDArray[np.float32]:
        """Probability of foreground for every pixel.

        Args:
          photo: uint8 [H, W, 3], or the path of a file.

        Returns:
          float32 [H, W].

        Raises:
          ValueError: The file is not a picture that can be read.
        """
        if not isinstance(photo, np.ndarray):
            photo = read_photo(photo)
        if not self.image_sizes:
            return self._predict(photo)[..., 0]
        total = np.zeros(photo.shape[:2], np.float32)
        for longer_side in self.image_sizes:
            size = augment.scaled_size(tf.shape(photo), longer_side)
            scaled = self._predict(augment.resize_image(photo, size).numpy())
            total += tf.image.resize(scaled, photo.shape[:2]).numpy()[..., 0]
        return total / np.float32(len(self.image_sizes))

    def __call__(self, photo: Photo | str | os.PathLike[str]) -> npt.NDArray[np.bool_]:
        """The mask of a photo, uint8 [H, W, 3] or a path, to bool [H, W]."""
        return self.probabilities(photo) >= self.threshold
