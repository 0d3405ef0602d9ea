"""What a loss is: a total over a batch, and what that is divided by.

```python
class Hinge(PixelLoss):
    def per_pixel(self, labels, logits):
        return tf.nn.relu(1 - logits * (2 * labels - 1))
```

The loss of a step is the total over the whole batch divided by the weight of the whole
batch. Both are sums over images, so that a batch may be spread over devices, or
computed in parts, and still give the loss and the gradients of the batch in one piece,
whatever pixels are ignored. Pixels marked 255 count in neither. Sums are in float32.
"""

from __future__ import annotations

import abc

import tensorflow as tf

from unet_train.data.labels import IGNORE


class Loss(abc.ABC):
    """Derive from this for a loss of your own; only the batch's sums matter."""

    @abc.abstractmethod
    def total(
        self,
        masks: tf.Tensor,
        logits: tf.Tensor,
        pixel_weights: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """The sum of the loss over the batch.

        Args:
          masks: uint8 [N, H, W, 1]: 0 background, 1 foreground, 255 ignored.
          logits: float [N, H, W, 1].
          pixel_weights: float32 [N, H, W, 1]; None weighs all pixels 1.

        Returns:
          float32 scalar, or [K] for a sum of K losses with a weight each.
        """

    @abc.abstractmethod
    def weight(self, masks: tf.Tensor) -> tf.Tensor:
        """What the total is divided by for a mean: float32, as many as totals."""

    def __call__(
        self,
        masks: tf.Tensor,
        logits: tf.Tensor,
        pixel_weights: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """The mean; 0 where nothing counts."""
        total = self.total(masks, logits, pixel_weights)
        return tf.reduce_sum(tf.math.divide_no_nan(total, self.weight(masks)))


class PixelLoss(Loss):
    """A loss that is a sum over pixels; its weight is their number."""

    @abc.abstractmethod
    def per_pixel(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """The loss of each pixel, from labels 0.0 or 1.0; float32 [N, H, W, 1]."""

    def total(
        self,
        masks: tf.Tensor,
        logits: tf.Tensor,
        pixel_weights: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """The sum over the pixels that count, each times its weight."""
        labels, valid = _labels(masks)
        losses = self.per_pixel(labels, tf.cast(logits, tf.float32)) * valid
        return tf.reduce_sum(
            losses if pixel_weights is None else losses * pixel_weights
        )

    def weight(self, masks: tf.Tensor) -> tf.Tensor:
        """The number of pixels that count, whatever their weights."""
        return tf.reduce_sum(_labels(masks)[1])


class ImageLoss(Loss):
    """A loss of each image as a whole; an image that is all ignored does not count."""

    @abc.abstractmethod
    def per_image(
        self, labels: tf.Tensor, logits: tf.Tensor, valid: tf.Tensor
    ) -> tf.Tensor:
        """The loss of each image, float32 [N].

        Args:
          labels: float32 [N, P], 0 or 1.
          logits: float32 [N, P].
          valid: float32 [N, P]: 1 for pixels that count, times their weights.
        """

    def total(
        self,
        masks: tf.Tensor,
        logits: tf.Tensor,
        pixel_weights: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """The sum over the images that have a pixel that counts."""
        labels, valid = _labels(masks)
        weighted = valid if pixel_weights is None else valid * pixel_weights
        flat = [
            tf.reshape(each, [tf.shape(masks)[0], -1])
            for each in (labels, tf.cast(logits, tf.float32), weighted)
        ]
        return tf.reduce_sum(self.per_image(*flat) * _counting_images(valid))

    def weight(self, masks: tf.Tensor) -> tf.Tensor:
        """The number of images that have a pixel that counts."""
        return tf.reduce_sum(_counting_images(_labels(masks)[1]))


def _labels(masks: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Which pixels are foreground, and which count: float32 of 0 and 1."""
    return tf.cast(masks == 1, tf.float32), tf.cast(masks != IGNORE, tf.float32)


def _counting_images(valid: tf.Tensor) -> tf.Tensor:
    """1.0 for each image that has a pixel that counts; float32 [N]."""
    return tf.reduce_max(valid, axis=tf.range(1, tf.rank(valid)))
