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

A network of one logit tells foreground from background (sigmoid), one of several tells
classes, background first (softmax). A loss is given labels with a channel for each
logit: whether it is foreground, or of the classes one that is 1 and others that are 0.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from unet_train.data.labels import IGNORE

# Probabilities in float32 tell no logits beyond those of this and 1 minus this.
_EPSILON = np.float32(1e-7)


class Loss(abc.ABC):
    """Derive from this for a loss of your own; only the batch's sums matter.

    ```python
    import tensorflow as tf

    from unet_train.losses import Loss


    class Brier(Loss):
        def total(self, masks, logits, pixel_weights=None):
            weights = 1.0 if pixel_weights is None else pixel_weights
            errors = tf.sigmoid(logits) - tf.cast(masks == 1, tf.float32)
            counts = tf.cast(masks != 255, tf.float32)
            return tf.reduce_sum(errors**2 * counts * weights)

        def weight(self, masks):
            return tf.reduce_sum(tf.cast(masks != 255, tf.float32))
    ```
    """

    @abc.abstractmethod
    def total(
        self,
        masks: tf.Tensor,
        logits: tf.Tensor,
        pixel_weights: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """The sum of the loss over the batch.

        Args:
          masks: uint8 [N, H, W, 1]: 0 background, 1 foreground (or 1 to C - 1, the
            classes), 255 ignored.
          logits: float [N, H, W, C].
          pixel_weights: float32 [N, H, W, 1]; None weighs all pixels 1.

        Returns:
          float32 scalar, or [K] for a sum of K losses with a weight each.
        """

    @abc.abstractmethod
    def weight(self, masks: tf.Tensor) -> tf.Tensor:
        """What the total is divided by for a mean: float32, as many as totals."""

    def check_logits(self, count: int) -> None:
        """Refuses, as a ValueError, so many logits a pixel as it is not made for."""
        return  # Most take any number of them.

    def of_image(
        self, mask: npt.NDArray[np.uint8], probabilities: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Totals and weights of one image that was predicted already.

        Args:
          mask: [H, W].
          probabilities: [H, W] of foreground, or [H, W, C] of background and classes.
        """
        if probabilities.ndim == 2:
            clipped = np.clip(probabilities, _EPSILON, 1 - _EPSILON)
            logits = (np.log(clipped) - np.log1p(-clipped))[..., np.newaxis]
        else:
            logits = np.log(np.maximum(probabilities, _EPSILON))
        masks = tf.constant(mask[np.newaxis, ..., np.newaxis])
        totals = self.total(masks, tf.constant(logits[np.newaxis]))
        return np.asarray(totals), np.asarray(self.weight(masks))

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
    """A loss that is a sum over pixels; its weight is their number.

    ```python
    import tensorflow as tf

    from unet_train.losses import PixelLoss


    class Hinge(PixelLoss):
        def per_pixel(self, labels, logits):
            return tf.nn.relu(1 - logits * (2 * labels - 1))
    ```
    """

    @abc.abstractmethod
    def per_pixel(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """The loss of each pixel, float32 [N, H, W, 1].

        Args:
          labels: float32 [N, H, W, C], 0 or 1.
          logits: float32 [N, H, W, C].
        """

    def total(
        self,
        masks: tf.Tensor,
        logits: tf.Tensor,
        pixel_weights: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """The sum over the pixels that count, each times its weight."""
        labels, valid = _labels(masks, logits.shape[-1]), _valid(masks)
        losses = self.per_pixel(labels, tf.cast(logits, tf.float32))
        _require_shape(self, "per_pixel", losses, (*labels.shape[:-1], 1))
        losses *= valid
        return tf.reduce_sum(
            losses if pixel_weights is None else losses * pixel_weights
        )

    def weight(self, masks: tf.Tensor) -> tf.Tensor:
        """The number of pixels that count, whatever their weights."""
        return tf.reduce_sum(_valid(masks))


class ImageLoss(Loss):
    """A loss of each image as a whole; an image that is all ignored does not count.

    ```python
    import tensorflow as tf

    from unet_train.losses import ImageLoss


    class Area(ImageLoss):
        def per_image(self, labels, logits, valid):
            error = (tf.sigmoid(logits) - labels) * valid
            pixels = tf.reduce_sum(valid, 1)
            return tf.math.divide_no_nan(tf.abs(tf.reduce_sum(error, 1)), pixels)
    ```
    """

    @abc.abstractmethod
    def per_image(
        self, labels: tf.Tensor, logits: tf.Tensor, valid: tf.Tensor
    ) -> tf.Tensor:
        """The loss of each image, float32 [N].

        Args:
          labels: float32 [N, P] for one logit, else [N, P, C]; 0 or 1.
          logits: float32, of the same shape.
          valid: float32 [N, P]: 1 for pixels that count, times their weights.
        """

    def total(
        self,
        masks: tf.Tensor,
        logits: tf.Tensor,
        pixel_weights: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """The sum over the images that have a pixel that counts."""
        classes = logits.shape[-1]
        labels, valid = _labels(masks, classes), _valid(masks)
        weighted = valid if pixel_weights is None else valid * pixel_weights
        pixels = [tf.shape(masks)[0], -1]
        channels = [] if classes == 1 else [classes]
        losses = self.per_image(
            tf.reshape(labels, [*pixels, *channels]),
            tf.reshape(tf.cast(logits, tf.float32), [*pixels, *channels]),
            tf.reshape(weighted, pixels),
        )
        _require_shape(self, "per_image", losses, masks.shape[:1])
        return tf.reduce_sum(losses * _counting_images(valid))

    def weight(self, masks: tf.Tensor) -> tf.Tensor:
        """The number of images that have a pixel that counts."""
        return tf.reduce_sum(_counting_images(_valid(masks)))


def _labels(masks: tf.Tensor, classes: int) -> tf.Tensor:
    """Which pixels are foreground, or of which class: float32 [N, H, W, classes]."""
    labels = 1 if classes == 1 else tf.constant(np.arange(classes), tf.uint8)
    return tf.cast(masks == labels, tf.float32)


def _valid(masks: tf.Tensor) -> tf.Tensor:
    """Which pixels count: float32 of 0 and 1, as `masks`."""
    return tf.cast(masks != IGNORE, tf.float32)


def _require_shape(
    loss: Loss, method: str, losses: tf.Tensor, shape: Sequence[int | None]
) -> None:
    if not losses.shape.is_compatible_with(shape):
        raise ValueError(
            f"`{method}` of {type(loss).__name__} gives values of shape"
            f" {tuple(losses.shape)} where {tuple(shape)} is needed. It may be made for"
            " one logit only; use a loss for as many classes as the network tells."
        )


def _counting_images(valid: tf.Tensor) -> tf.Tensor:
    """1.0 for each image that has a pixel that counts; float32 [N]."""
    return tf.reduce_max(valid, axis=tf.range(1, tf.rank(valid)))


def at_full_size(logits: tf.Tensor, level: int, masks: tf.Tensor) -> tf.Tensor:
    """The logits of a further head, 2^level times as large, cut to the window."""
    if level == 0:
        return logits
    height, width = (tf.shape(logits)[axis] * 2**level for axis in (1, 2))
    larger = tf.image.resize(logits, [height, width])
    top, left = (height - tf.shape(masks)[1]) // 2, (width - tf.shape(masks)[2]) // 2
    return tf.image.crop_to_bounding_box(
        larger, top, left, tf.shape(masks)[1], tf.shape(masks)[2]
    )
