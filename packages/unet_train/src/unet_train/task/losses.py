"""The losses that have a name, and those of a class path.

```python
loss = make_loss("bce_dice")
mean = loss(masks, logits)
```
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import keras
import tensorflow as tf

from unet_train.options import Part
from unet_train.registry import find_object, make_part
from unet_train.task.loss import ImageLoss, Loss, PixelLoss
from unet_train.task.lovasz import Lovasz
from unet_train.task.pixel_losses import Crossentropy, Focal


class Tversky(ImageLoss):
    """1 - (TP + s) / (TP + alpha FP + beta FN + s), of probabilities, an image each.

    Salehi et al. 2017. An image without foreground is well defined by s: finding
    nothing costs 0, and much that is found costs nearly 1. So is one without a class:
    of several, the mean over all but the background.

    ```python
    import tensorflow as tf

    from unet_train.losses import Tversky

    cat, unsure = tf.ones([1, 8, 8, 1], tf.uint8), tf.zeros([1, 8, 8, 1])
    assert round(float(Tversky(alpha=0.3, beta=0.7)(cat, unsure)), 3) == 0.404
    ```

    Attributes:
      alpha: What false positives count.
      beta: What false negatives count.
      smooth: s, in pixels.
    """

    def __init__(
        self, alpha: float = 0.3, beta: float = 0.7, smooth: float = 1.0
    ) -> None:
        if alpha < 0 or beta < 0 or not smooth > 0:
            raise ValueError(
                "`alpha` and `beta` must be at least 0 and `smooth` above 0. Received:"
                f" {alpha}, {beta} and {smooth}"
            )
        self.alpha = alpha
        self.beta = beta
        self.smooth = smooth

    def per_image(
        self, labels: tf.Tensor, logits: tf.Tensor, valid: tf.Tensor
    ) -> tf.Tensor:
        """As above."""
        if logits.shape.rank == 2:
            found = tf.sigmoid(logits) * valid
        else:
            valid = valid[..., tf.newaxis]
            found, labels = tf.nn.softmax(logits)[..., 1:] * valid, labels[..., 1:]
        truth = labels * valid
        true_positives = tf.reduce_sum(found * labels, axis=1)
        false_positives = tf.reduce_sum(found, axis=1) - true_positives
        false_negatives = tf.reduce_sum(truth, axis=1) - true_positives
        errors = self.alpha * false_positives + self.beta * false_negatives
        above = true_positives + self.smooth
        losses = 1 - above / (above + errors)
        return losses if losses.shape.rank == 1 else tf.reduce_mean(losses, axis=1)


class Dice(Tversky):
    """1 - (2 TP + 2 s) / (2 TP + FP + FN + 2 s), of probabilities, an image each.

    Milletari et al. 2016, with sums in place of squares: Tversky's with both halves.

    ```python
    import tensorflow as tf

    from unet_train.losses import Dice

    cat, unsure = tf.ones([1, 8, 8, 1], tf.uint8), tf.zeros([1, 8, 8, 1])
    assert round(float(Dice()(cat, unsure)), 3) == 0.327
    ```
    """

    def __init__(self, smooth: float = 1.0) -> None:
        super().__init__(alpha=0.5, beta=0.5, smooth=smooth)


class BceDice(Loss):
    """Cross-entropy a pixel plus Dice an image, each divided by its own weight.

    ```python
    import tensorflow as tf

    from unet_train.losses import BceDice

    cat, unsure = tf.ones([1, 8, 8, 1], tf.uint8), tf.zeros([1, 8, 8, 1])
    assert round(float(BceDice()(cat, unsure)), 3) == 1.02
    ```

    Attributes:
      dice_weight: What Dice counts against 1 for cross-entropy.
      class_weights: As for `Crossentropy`, in its part of the loss.
    """

    def __init__(
        self,
        dice_weight: float = 1.0,
        smooth: float = 1.0,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        if not dice_weight > 0:
            raise ValueError(f"`dice_weight` must be above 0. Received: {dice_weight}")
        self.dice_weight = dice_weight
        self._bce, self._dice = Crossentropy(class_weights=class_weights), Dice(smooth)

    def check_logits(self, count: int) -> None:
        """As the cross-entropy does."""
        self._bce.check_logits(count)

    def total(
        self,
        masks: tf.Tensor,
        logits: tf.Tensor,
        pixel_weights: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Both totals, float32 [2]."""
        dice = self._dice.total(masks, logits, pixel_weights)
        bce = self._bce.total(masks, logits, pixel_weights)
        return tf.stack([bce, self.dice_weight * dice])

    def weight(self, masks: tf.Tensor) -> tf.Tensor:
        """Both weights, float32 [2]."""
        return tf.stack([self._bce.weight(masks), self._dice.weight(masks)])


class KerasLoss(PixelLoss):
    """A loss of Keras, applied to each pixel.

    ```python
    import keras
    import tensorflow as tf

    from unet_train.losses import KerasLoss

    loss = KerasLoss(keras.losses.BinaryCrossentropy(from_logits=True))
    cat, unsure = tf.ones([1, 8, 8, 1], tf.uint8), tf.zeros([1, 8, 8, 1])
    assert round(float(loss(cat, unsure)), 3) == 0.693
    ```

    Attributes:
      loss: A `keras.losses.Loss` that takes labels 0 or 1 and logits; for several
        classes, labels of which one is 1, as `keras.losses.CategoricalCrossentropy`.
    """

    def __init__(self, loss: keras.losses.Loss) -> None:
        probe = loss.call(tf.ones((2, 3, 4, 2)), tf.zeros((2, 3, 4, 2)))
        if tuple(probe.shape) != (2, 3, 4):
            raise ValueError(
                f"{type(loss).__name__} gives no value for each pixel (shape"
                f" {tuple(probe.shape)} for images of 3 x 4), so what is ignored cannot"
                " be left out. Use a pixel-wise loss, or one of"
                f" {sorted(LOSSES)}."
            )
        self.loss = loss

    def per_pixel(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """What the loss says of each pixel, its own reduction left aside."""
        return self.loss.call(labels, logits)[..., None]


LOSSES = {
    "bce": Crossentropy,
    "ce": Crossentropy,
    "dice": Dice,
    "bce_dice": BceDice,
    "ce_dice": BceDice,
    "focal": Focal,
    "tversky": Tversky,
    "lovasz": Lovasz,
}


def make_loss(spec: Part) -> Loss:
    """A loss by name, or of a class path: a `Loss`, or a pixel-wise one of Keras.

    Raises:
      ValueError: There is none, or it is neither; a loss of Keras that takes
        probabilities where it could take logits.
    """
    given = {}
    path = spec.get("class_path") if isinstance(spec, dict) else spec
    if isinstance(path, str) and "." in path:
        made = find_object(path)
        if isinstance(made, type) and issubclass(made, keras.losses.Loss):
            parameters = inspect.signature(made).parameters
            given = {"from_logits": True} if "from_logits" in parameters else {}
    loss = make_part(spec, LOSSES, kinds=(Loss, keras.losses.Loss), **given)
    if isinstance(loss, keras.losses.Loss):
        return KerasLoss(loss)
    if not isinstance(loss, Loss):
        raise ValueError(
            f"{spec} gives a {type(loss).__name__}, which is no loss. Derive it from"
            " `unet_train.losses.Loss` or from `keras.losses.Loss`."
        )
    return loss
