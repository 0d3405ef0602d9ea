"""What the SavedModels offer: a photo's bytes to its mask, and bare logits.

```python
module = PhotoModule(predictor, ["background", "cat"])
tf.saved_model.save(module, folder, signatures=module.signatures())
```
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from unet_core import TiledPredictor
from unet_train.export.decode import decode_photo
from unet_train.export.whole_photo import Forward, WholePhoto
from unet_train.inference.predictor import Predictor

_PHOTO = tf.TensorSpec([], tf.string, name="photo")


class PhotoModule(tf.Module):
    """From the bytes of a photo to its mask, with nothing of Python in between.

    Photos differ in size, so that one goes in at a time, as a scalar.

    Attributes:
      predictor: What it does the same as.
      class_names: Of the values of masks, the background first.
      geometry: Of its model.
      largest_tile: Side of the largest tiles; None for one pass over the whole photo.
    """

    def __init__(
        self,
        predictor: Predictor,
        class_names: Sequence[str] = ("background", "foreground"),
        *,
        tile_size: int | None = None,
    ) -> None:
        """Compiles nothing yet.

        Args:
          predictor: Its model, threshold and scaling are taken over.
          class_names: Of the values of masks, the background first.
          tile_size: Side of the largest tiles; None for what `largest_tile` says.

        Raises:
          ValueError: The model takes no such tile.
        """
        super().__init__(name="photo")
        model = predictor.model
        self.predictor = predictor
        self.class_names = tuple(class_names)
        self.geometry = TiledPredictor(model).geometry
        self.largest_tile = largest_tile(model, tile_size)
        self._weights = weights_of(model)
        self._probability = self.with_network(
            lambda tiles: model(tiles, training=False)
        )

    @tf.function(autograph=False, input_signature=[_PHOTO])
    def mask(self, photo: tf.Tensor) -> dict[str, tf.Tensor]:
        """`mask` uint8 [H, W], `probability` float32 [H, W], `class_names` [2].

        Of n classes, two or more: labels, [H, W, n + 1] and [n + 1].
        """
        probability = self._probability(decode_photo(photo))
        if self.predictor.is_binary:
            found = probability >= self.predictor.threshold
        else:
            found = tf.argmax(probability, axis=-1)
        return {
            "mask": tf.cast(found, tf.uint8),
            "probability": probability,
            "class_names": tf.constant(self.class_names),
        }

    @tf.function(autograph=False, input_signature=[_PHOTO])
    def png(self, photo: tf.Tensor) -> dict[str, tf.Tensor]:
        """`mask_png_bytes`: the mask as a PNG of 0 and 255, or of labels; string []."""
        grey = self.mask(photo)["mask"][..., tf.newaxis]
        if self.predictor.is_binary:
            grey *= tf.constant(255, tf.uint8)
        return {"mask_png_bytes": tf.io.encode_png(grey)}

    def with_network(self, forward: Forward) -> WholePhoto:
        """The same scaling and tiling around another form of the network."""
        return WholePhoto(
            forward,
            self.geometry,
            image_sizes=self.predictor.image_sizes,
            largest_tile=self.largest_tile,
            logits=self.predictor.model.outputs[0].shape[-1],
        )

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """For `tf.saved_model.save`."""
        return {
            "serving_default": self.mask.get_concrete_function(),
            "png": self.png.get_concrete_function(),
        }


class LogitsModule(tf.Module):
    """The bare network: float32 pixel values 0 to 255 to logits."""

    def __init__(self, model: keras.Model) -> None:
        """Compiles nothing yet."""
        super().__init__(name="logits")
        self._weights = weights_of(model)
        image = tf.TensorSpec(
            (None, None, None, model.inputs[0].shape[-1]), name="image"
        )
        self.logits = tf.function(
            lambda image: {"logits": model(image, training=False)},
            autograph=False,
            input_signature=[image],
        )

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """For `tf.saved_model.save`."""
        return {"serving_default": self.logits.get_concrete_function()}


def weights_of(model: keras.Model) -> list[tf.Variable]:
    """What a SavedModel must be told to save; the model itself stays outside."""
    return [weight.value for weight in model.weights]


def largest_tile(model: keras.Model, tile_size: int | None) -> int | None:
    """The side of the largest tiles that a photo is cut into.

    Args:
      model: Of `unet_core.build_unet`.
      tile_size: What was asked for; None for what fits into 3 GiB of memory.

    Returns:
      None where only the whole photo will do (group norm).

    Raises:
      ValueError: The model takes no tiles of that size.
    """
    largest = TiledPredictor(model).largest_tile
    if tile_size is None:
        return largest
    TiledPredictor(model, tile_size=tile_size)  # Refuses what does not fit.
    if largest is None:
        raise ValueError(
            "Group norm takes the statistics of a whole image, so that tiles would not"
            " agree. Leave `tile_size` out."
        )
    return tile_size
