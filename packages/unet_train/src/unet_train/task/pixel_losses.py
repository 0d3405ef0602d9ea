"""The losses of each pixel by itself: cross-entropy and focal loss.

```python
mean = Focal(gamma=2.0)(masks, logits)
```
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from unet_train.task.loss import PixelLoss


class Crossentropy(PixelLoss):
    """Cross-entropy: of a sigmoid for one logit, of a softmax for several.

    Of a sigmoid, max(x, 0) - x z + log(1 + exp(-|x|)).

    ```python
    import tensorflow as tf

    from unet_train.losses import Crossentropy

    cat, unsure = tf.ones([1, 8, 8, 1], tf.uint8), tf.zeros([1, 8, 8, 1])
    assert round(float(Crossentropy(pos_weight=2)(cat, unsure)), 3) == 1.386
    ```

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

    ```python
    import tensorflow as tf

    from unet_train.losses import Focal

    cat, unsure = tf.ones([1, 8, 8, 1], tf.uint8), tf.zeros([1, 8, 8, 1])
    assert round(float(Focal(gamma=2)(cat, unsure)), 3) == 0.173
    ```

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
