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


class Crossentropy(PixelLoss):
    """Cross-entropy: of a sigmoid for one logit, of a softmax for several.

    Of a sigmoid, max(x, 0) - x z + log(1 + exp(-|x|)).

    Attributes:
      pos_weight: What a pixel of foreground counts, whatever its class, against one of
        background.
      label_smoothing: Share by which labels are drawn to 0.5, of several classes to
        one over their number.
      class_weights: What a pixel counts by its true label, background first; for
        several classes, in place of `pos_weight`. The sum is divided by the number of
        pixels all the same.
    """

    def __init__(
        self,
        pos_weight: float = 1.0,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        if not pos_weight > 0 or not 0 <= label_smoothing < 1:
            raise ValueError(
                "`pos_weight` must be above 0, `label_smoothing` at least 0 and below"
                f" 1. Received: {pos_weight} and {label_smoothing}"
            )
        if class_weights is not None and (
            pos_weight != 1 or min(class_weights) < 0 or not max(class_weights) > 0
        ):
            raise ValueError(
                "`class_weights` must be at least 0, one of them above it, and stand"
                f" alone, without `pos_weight`. Received: {list(class_weights)} and"
                f" {pos_weight}"
            )
        self.pos_weight = pos_weight
        self.label_smoothing = label_smoothing
        self.class_weights = class_weights

    def check_logits(self, count: int) -> None:
        """Refuses as many weights as there are no classes."""
        weights = self.class_weights
        if weights is not None and (count == 1 or len(weights) != count):
            raise ValueError(
                f"`class_weights` {list(weights)} are {len(weights)}, and the network"
                f" has {count} logits. Give one for each of several logits, background"
                " first; for one logit there is `pos_weight`."
            )

    def per_pixel(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """As above; with a `pos_weight` p, p z softplus(-x) + (1 - z) softplus(x)."""
        if logits.shape[-1] > 1:
            return self._of_classes(labels, logits)
        labels += self.label_smoothing * (0.5 - labels)
        if self.pos_weight == 1.0:
            return tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
        return tf.nn.weighted_cross_entropy_with_logits(labels, logits, self.pos_weight)

    def _of_classes(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        smooth = labels + self.label_smoothing * (1 / logits.shape[-1] - labels)
        losses = -tf.reduce_sum(smooth * tf.nn.log_softmax(logits), -1, keepdims=True)
        weights = self.class_weights
        if weights is None:
            return losses * _foreground_weight(labels, self.pos_weight, 1.0)
        return losses * tf.reduce_sum(labels * tf.constant(weights), -1, keepdims=True)


BinaryCrossentropy = Crossentropy
"""By the name of the case of one logit."""


class Focal(PixelLoss):
    """Cross-entropy times (1 - p of the truth)^gamma (Lin et al. 2017).

    Attributes:
      gamma: How little what is right already counts; 0 is cross-entropy.
      alpha: Weight of the foreground, of whatever class, 1 - alpha that of the
        background; None weighs both 1.
    """

    def __init__(self, gamma: float = 2.0, alpha: float | None = None) -> None:
        if gamma < 0 or (alpha is not None and not 0 < alpha < 1):
            raise ValueError(
                "`gamma` must be at least 0 and `alpha` lie between 0 and 1. Received:"
                f" {gamma} and {alpha}"
            )
        self.gamma = gamma
        self.alpha = alpha

    def per_pixel(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """With m = x for foreground and -x for background: softplus(-m) sigmoid(-m)^g.

        The power is taken of the logarithm, which has a gradient everywhere. Of several
        classes p is the softmax's, and 1 - p the sum of the others'.
        """
        if logits.shape[-1] > 1:
            return self._of_classes(labels, logits)
        margin = logits * (2 * labels - 1)
        losses = tf.nn.softplus(-margin) * tf.exp(-self.gamma * tf.nn.softplus(margin))
        if self.alpha is None:
            return losses
        return losses * (labels * self.alpha + (1 - labels) * (1 - self.alpha))

    def _of_classes(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        every = tf.reduce_logsumexp(logits, -1, keepdims=True)
        # Not infinity, whose gradient is no number.
        others = tf.reduce_logsumexp(logits - 1e9 * labels, -1, keepdims=True)
        of_truth = tf.reduce_sum(labels * (logits - every), -1, keepdims=True)
        losses = -of_truth * tf.exp(self.gamma * (others - every))
        if self.alpha is None:
            return losses
        return losses * _foreground_weight(labels, self.alpha, 1 - self.alpha)


def _foreground_weight(
    labels: tf.Tensor, foreground: float, background: float
) -> tf.Tensor:
    """Of each pixel by its label among several; [..., C] to [..., 1]."""
    is_background = labels[..., :1]
    return foreground + (background - foreground) * is_background


class Tversky(ImageLoss):
    """1 - (TP + s) / (TP + alpha FP + beta FN + s), of probabilities, an image each.

    Salehi et al. 2017. An image without foreground is well defined by s: finding
    nothing costs 0, and much that is found costs nearly 1. So is one without a class:
    of several, the mean over all but the background.

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
    """

    def __init__(self, smooth: float = 1.0) -> None:
        super().__init__(alpha=0.5, beta=0.5, smooth=smooth)


class BceDice(Loss):
    """Cross-entropy a pixel plus Dice an image, each divided by its own weight.

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
