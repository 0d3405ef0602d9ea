"""A trained network for whole photos at their own resolution.

```python
predictor = Predictor.load("runs/cats")
mask = predictor(photo)  # uint8 [H, W, 3], or a path -> bool [H, W]
```

A network of several classes gives labels, uint8 [H, W]: 0 background, 1 the first of
`class_names`, and so on.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from unet_core import TiledPredictor
from unet_train.data import scale
from unet_train.data.labels import Mask, decide, default_names, require_logits
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
      threshold: Probability from which a pixel is foreground; of several classes the
        most probable counts, and this has no effect.
      class_names: Of one class, what is foreground; of several, labels 1 to n.
      flips: Whether a photo and its mirror image are averaged.

    Example:
      ```python
      from unet_train import Predictor

      predictor = Predictor.load("runs/cats")
      mask = predictor("photo.jpg")  # bool [H, W], as large as the photo
      print(f"{mask.mean():.1%} of the photo is cat")
      ```
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        image_size: int | Sequence[int] | None = None,
        threshold: float = 0.5,
        flips: bool = False,
        class_names: Sequence[str] | None = None,
    ) -> None:
        """Wraps a model.

        Args:
          model: Of `unet_core.build_unet`: one logit for one class, else one for the
            background and one for each class.
          image_size: Longer side in pixels that photos are scaled to for the network;
            None leaves them as they are. Of several sizes the probabilities are
            averaged, at the cost of them all.
          threshold: Probability from which a pixel is foreground.
          flips: Average the predictions of the photo and of its mirror image (left to
            right, as `data.mirror` trains), at twice the cost.
          class_names: As many as the model tells; None calls them by their numbers.

        Raises:
          ValueError: The threshold is no probability, a size is not above 0, or the
            model takes something else than photos, or tells another number of classes.
        """
        if not 0 < threshold < 1:
            raise ValueError(
                f"`threshold` must lie between 0 and 1. Received: {threshold}"
            )
        channels, logits = model.inputs[0].shape[-1], model.outputs[0].shape[-1]
        if channels != 3:
            raise ValueError(
                f"The model makes {logits} channels of {channels}. For masks of"
                " photos it must make logits of red, green and blue."
            )
        self.class_names = tuple(class_names or default_names(logits))
        require_logits(logits, self.class_names)
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
        require_no_threshold(threshold, data.class_names)
        return cls(
            trained.model,
            image_size=data.prediction_size,
            threshold=trained.threshold if threshold is None else threshold,
            flips=flips,
            class_names=data.class_names,
        )

    @property
    def is_binary(self) -> bool:
        """Whether it tells foreground from background, and no classes."""
        return len(self.class_names) == 1

    @property
    def settings(self) -> dict[str, float]:
        """What decides its masks besides the weights; kept with them, as JSON."""
        return {"threshold": self.threshold} if self.is_binary else {}

    def probabilities(
        self, photo: Photo | str | os.PathLike[str]
    ) -> npt.NDArray[np.float32]:
        """Probability of foreground, or of background and each class, of every pixel.

        Args:
          photo: uint8 [H, W, 3], or the path of a file.

        Returns:
          float32 [H, W]; of n classes, two or more, [H, W, n + 1].

        Raises:
          ValueError: The file is not a picture that can be read.
        """
        if not isinstance(photo, np.ndarray):
            photo = read_photo(photo)
        return self.many([photo])[0]

    def many(self, photos: Sequence[Photo]) -> list[npt.NDArray[np.float32]]:
        """The `probabilities` of several photos.

        Those of one size share passes, which is meant for a GPU. Everything else calls
        this, so that it is what a predictor of one's own changes.

        Args:
          photos: Each uint8 [H, W, 3].

        Returns:
          What `probabilities` returns for each, in their order, but for rounding.
        """
        if not self.image_sizes:
            found = self._predict.many(photos)
        else:
            logits = self.model.outputs[0].shape[-1]
            found = [np.zeros((*each.shape[:2], logits), np.float32) for each in photos]
            for longer_side in self.image_sizes:
                small = self._predict.many([_scaled(x, longer_side) for x in photos])
                for total, each in zip(found, small, strict=True):
                    total += tf.image.resize(each, total.shape[:2]).numpy()
            for total in found:
                total /= len(self.image_sizes)
        return [each[..., 0] for each in found] if self.is_binary else found

    def decide(self, probabilities: npt.NDArray[np.float32]) -> Mask:
        """The mask that `probabilities` give: bool, or of several classes uint8."""
        return decide(probabilities, self.threshold)

    def __call__(self, photo: Photo | str | os.PathLike[str]) -> Mask:
        """The mask of a photo, uint8 [H, W, 3] or a path.

        Returns:
          bool [H, W]; of several classes their labels, uint8 [H, W].
        """
        return self.decide(self.probabilities(photo))


def _scaled(photo: Photo, longer_side: int) -> Photo:
    size = scale.scaled_size(tf.shape(photo), longer_side)
    return np.asarray(scale.resize_image(photo, size))


def require_no_threshold(threshold: float | None, names: Sequence[str]) -> None:
    """Refuses a threshold for several classes.

    Raises:
      ValueError: There are both.
    """
    if threshold is not None and len(names) > 1:
        raise ValueError(
            f"`threshold` {threshold:g} is for networks of one class; this one tells"
            f" {', '.join(names)}, and takes the most probable. Leave it out."
        )
