"""The Lovász extension of 1 - IoU: a loss that is small where the IoU is large."""

from __future__ import annotations

import tensorflow as tf

from unet_train.task.loss import ImageLoss


class Lovasz(ImageLoss):
    """The Lovász hinge, of several classes Lovász-softmax, an image each.

    Berman, Triki, Blaschko 2018: the convex surrogate of 1 - IoU over the sorted
    errors. Weights of pixels only say which count. An image without foreground costs
    its largest hinge error. Of several classes it is the mean over those in the image,
    the background among them, and the error is the distance of the probability from 0
    or 1.

    ```python
    import tensorflow as tf

    from unet_train.losses import Lovasz

    cat, unsure = tf.ones([1, 8, 8, 1], tf.uint8), tf.zeros([1, 8, 8, 1])
    assert round(float(Lovasz()(cat, unsure)), 3) == 1.0
    ```
    """

    def per_image(
        self, labels: tf.Tensor, logits: tf.Tensor, valid: tf.Tensor
    ) -> tf.Tensor:
        """Dot product of sorted errors and the gradient of the Jaccard loss."""
        counts = valid > 0
        if logits.shape.rank == 2:
            return self._extended(labels, 1.0 - logits * (2.0 * labels - 1.0), counts)
        errors = tf.abs(labels - tf.nn.softmax(logits))
        costs, there = [], []
        for label in range(logits.shape[-1]):
            truth = labels[..., label]
            costs.append(self._extended(truth, errors[..., label], counts))
            there.append(tf.reduce_any((truth > 0) & counts, axis=1))
        present = tf.cast(tf.stack(there, 1), tf.float32)
        total = tf.reduce_sum(tf.stack(costs, 1) * present, axis=1)
        return tf.math.divide_no_nan(total, tf.reduce_sum(present, axis=1))

    def _extended(
        self, labels: tf.Tensor, errors: tf.Tensor, counts: tf.Tensor
    ) -> tf.Tensor:
        """The Lovász extension at errors [N, P], of one class; [N]."""
        # Ignored pixels last and without effect: no error, neither sort of label.
        errors = tf.where(counts, errors, -1e30)
        order = tf.argsort(errors, axis=1, direction="DESCENDING", stable=True)
        errors = tf.gather(errors, order, batch_dims=1)
        kept = tf.gather(tf.cast(counts, tf.float32), order, batch_dims=1)
        truth = tf.gather(labels, order, batch_dims=1) * kept
        foreground = tf.reduce_sum(truth, axis=1, keepdims=True)
        intersection = foreground - tf.cumsum(truth, axis=1)
        union = foreground + tf.cumsum(kept - truth, axis=1)
        jaccard = 1.0 - tf.math.divide_no_nan(intersection, union)
        jaccard = tf.where(union > 0, jaccard, 0.0)
        steps = jaccard - tf.pad(jaccard[:, :-1], [[0, 0], [1, 0]])
        return tf.reduce_sum(
            tf.nn.relu(errors) * tf.stop_gradient(steps * kept), axis=1
        )
