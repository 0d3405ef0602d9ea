"""What is learned: a model, its loss, its optimizer, and one step of training.

```python
task = SegmentationTask(build_unet(UNetConfig()), learning_rate=1e-3)
```
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from unet_core import read_geometry
from unet_train.losses import binary_crossentropy
from unet_train.options import Precision, TaskOptions
from unet_train.schedule import WarmUp

Batch = tuple[tf.Tensor, tf.Tensor]

# Variables of Keras's LossScaleOptimizer.
_LOSS_SCALE = ("dynamic_scale", "step_counter")


class SegmentationTask:
    """Foreground against background with a U-Net of one logit.

    Override `train_step` to train differently; it is a plain function of a batch.

    Attributes:
      model: From images 0..255 to logits.
      options: Learning rate and so on.
      optimizer: Adam.
      schedule: The learning rate; its horizon is set by the trainer.
      log_names: What `train_step` returns, in this order.
    """

    log_names: tuple[str, ...] = ("cost", "learning_rate")

    def __init__(self, model: keras.Model, **options: Any) -> None:
        """Makes the optimizer.

        Args:
          model: From `unet_core.build_unet`, with one class.
          **options: Fields of `TaskOptions`.
        """
        if len(model.outputs) > 1:
            raise ValueError(
                f"The model has {len(model.outputs)} outputs; this task trains one."
                " Build it with `deep_supervision=0`."
            )
        if model.output_shape[-1] != 1:
            raise ValueError(
                f"The model has {model.output_shape[-1]} output channels; a binary mask"
                " takes one logit. Build it with `classes=1`."
            )
        self.model = model
        self.options = TaskOptions(**options)
        self.schedule = WarmUp(
            self.options.learning_rate,
            schedule=self.options.schedule,
            warmup_steps=self.options.warmup_steps,
        )
        self.optimizer: keras.Optimizer = keras.optimizers.Adam(self.schedule)

    def set_precision(self, precision: Precision) -> None:
        """Sets what the layers compute in; weights stay float32.

        The input scaling and the output layers keep float32. With "mixed_float16" the
        loss is scaled so that small gradients survive.
        """
        outputs = {tensor._keras_history.operation for tensor in self.model.outputs}
        for layer in self.model.layers:
            if layer not in outputs and not isinstance(layer, keras.layers.Rescaling):
                layer.dtype_policy = keras.DTypePolicy(precision)
        scaled = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        if precision == "mixed_float16" and not scaled:
            self.optimizer = keras.optimizers.LossScaleOptimizer(self.optimizer)

    @property
    def margin(self) -> int:
        """Pixels a side by which the prediction is smaller than the image."""
        return read_geometry(self.model).margin

    def check_tile_size(self, tile_size: int) -> None:
        """Refuses tiles that the model cannot take; the text names the nearest."""
        read_geometry(self.model).output_size(tile_size)

    def build_optimizer(self) -> None:
        """Makes the optimizer's variables, unless it has them."""
        if not self.optimizer.built:
            self.optimizer.build(self.model.trainable_variables)

    def tracked(self) -> dict[str, Any]:
        """What a checkpoint keeps as tensors, the same at every precision."""
        optimizer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        return {"model": self.model, "optimizer": optimizer}

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint keeps besides: the state of the loss scaling."""
        return {
            name: float(getattr(self.optimizer, name))
            for name in _LOSS_SCALE
            if hasattr(self.optimizer, name)
        }

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Takes back what `state_dict` gave; without loss scaling it is left aside."""
        for name, value in state.items():
            if hasattr(self.optimizer, name):
                getattr(self.optimizer, name).assign(value)

    def train_step(self, batch: Batch) -> dict[str, tf.Tensor]:
        """One step of gradient descent on one batch.

        Args:
          batch: uint8 [N, T, T, 3] and uint8 [N, W, W, 1] with 255 ignored.

        Returns:
          Float scalars under `log_names`.
        """
        images, masks = batch
        weights = self.model.trainable_variables
        learning_rate = self.schedule(self.optimizer.iterations)
        with tf.GradientTape() as tape:
            logits = self.model(images, training=True)
            cost = binary_crossentropy(masks, logits, self.options.reduction)
            scaled_cost = self.optimizer.scale_loss(cost)
        self.optimizer.apply(tape.gradient(scaled_cost, weights), weights)
        return {"cost": cost, "learning_rate": learning_rate}

    def predict(self, images: tf.Tensor) -> tf.Tensor:
        """Probabilities [N, W, W, 1] of a batch of tiles [N, T, T, 3], 0..255."""
        return tf.sigmoid(self.model(images, training=False))
