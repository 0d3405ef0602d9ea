"""What is learned: a model, its loss, its optimizer, and one step of training.

```python
task = SegmentationTask(build_unet(UNetConfig()), loss="bce_dice", learning_rate=1e-3)
```
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from unet_core import read_geometry
from unet_train.losses import Loss, make_loss
from unet_train.metrics import SegmentationMetrics
from unet_train.options import Precision, TaskOptions
from unet_train.parts import make_part
from unet_train.predict import Predictor
from unet_train.run_folder import full_size_only
from unet_train.schedule import WarmUp

if TYPE_CHECKING:
    from unet_train.data import Example

# Images, masks, and with a border weight the weights of the pixels.
Batch = tuple[tf.Tensor, ...]

# Variables of Keras's LossScaleOptimizer.
_LOSS_SCALE = ("dynamic_scale", "step_counter")

# What weight decay leaves alone: biases, and scale and offset of norms.
_NOT_DECAYED = ["bias", "gamma", "beta"]


class SegmentationTask:
    """Foreground against background with a U-Net of one logit.

    Override `train_step` to train differently; it is a plain function of a batch, run
    on each device with its part of it. Override `eval_step` to score differently.

    Attributes:
      model: From images 0..255 to logits, or to a list of them with those of full size
        first (deep supervision).
      options: Loss, learning rate and so on.
      loss: What is made small.
      optimizer: What makes it small.
      schedule: The learning rate; its horizon is set by the trainer.
      accumulate: In how many parts a step's gradients are computed.
      threshold: Probability from which a pixel counts as foreground, as it is now.
      log_names: What `train_step` returns, in this order.
    """

    log_names: tuple[str, ...] = ("cost", "learning_rate", "gradient_norm")

    def __init__(self, model: keras.Model, **options: Any) -> None:
        """Makes loss and optimizer.

        Args:
          model: From `unet_core.build_unet`, with one class; made within the trainer's
            scope if it is to train on several devices.
          **options: Fields of `TaskOptions`.
        """
        if model.outputs[0].shape[-1] != 1:
            raise ValueError(
                f"The model has {model.outputs[0].shape[-1]} output channels; a binary"
                " mask takes one logit. Build it with `classes=1`."
            )
        self.model = model
        self.options = TaskOptions(**options)
        self.loss: Loss = make_loss(self.options.loss)
        self.schedule = WarmUp(
            self.options.learning_rate,
            schedule=self.options.schedule,
            warmup_steps=self.options.warmup_steps,
        )
        self.optimizer: keras.Optimizer = _make_optimizer(self.options, self.schedule)
        self.accumulate = 1
        self.threshold = self.options.threshold or 0.5
        self.averages: list[tf.Variable] = []

    def set_precision(self, precision: Precision) -> None:
        """Sets what the layers compute in; weights stay float32.

        The input scaling and the output layers keep float32. With "mixed_float16" the
        loss is scaled so that small gradients survive.
        """
        set_precision(self.model, precision)
        scaled = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        if precision == "mixed_float16" and not scaled:
            self.optimizer = keras.optimizers.LossScaleOptimizer(self.optimizer)

    @property
    def margin(self) -> int:
        """What the prediction lacks at each border of the image, in pixels."""
        return read_geometry(self.model).margin

    def check_tile_size(self, tile_size: int) -> None:
        """Refuses tiles that the model cannot take; the text names the nearest."""
        read_geometry(self.model).output_size(tile_size)

    def build_optimizer(self) -> None:
        """Makes the optimizer's variables and the averages, unless there are some."""
        if not self.optimizer.built:
            self.optimizer.build(self.model.trainable_variables)
            _reduce_no_more(self.optimizer)
        if self.options.ema and not self.averages:
            self.averages = [
                tf.Variable(weight, trainable=False) for weight in self.model.weights
            ]

    def tracked(self) -> dict[str, Any]:
        """What a checkpoint keeps as tensors, the same at every precision."""
        optimizer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        tracked = {"model": self.model, "optimizer": optimizer}
        # What dropout draws next; Keras keeps it beside the layers' weights.
        seeds = [
            variable.value
            for variable in self.model.variables
            if variable.path.endswith("seed_generator_state")
        ]
        lists = {"averages": self.averages, "seeds": seeds}
        return tracked | {name: each for name, each in lists.items() if each}

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint keeps besides: threshold, state of the loss scaling."""
        scaling = {
            name: float(on_this_device(getattr(self.optimizer, name).value))
            for name in _LOSS_SCALE
            if hasattr(self.optimizer, name)
        }
        return {"threshold": self.threshold, **scaling}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Takes back what `state_dict` gave, as far as the options leave it open."""
        if self.options.threshold is None:
            self.threshold = state["threshold"]
        for name, value in state.items():
            if hasattr(self.optimizer, name):
                getattr(self.optimizer, name).assign(value)

    def train_step(self, batch: Batch) -> dict[str, tf.Tensor]:
        """One step of gradient descent on one batch, of which this device has a part.

        Args:
          batch: uint8 [N, T, T, 3], uint8 [N, W, W, 1] with 255 ignored, and perhaps
            float32 [N, W, W, 1], the weights of the pixels.

        Returns:
          Float scalars under `log_names`, the same on every device.
        """
        weights = self.model.trainable_variables
        learning_rate = self.schedule(self.optimizer.iterations)
        divisor = sum_over_devices([self._divisor(batch[1])])[0]
        sums = self._gradients(batch, divisor)
        cost, *gradients = sum_over_devices(sums)
        gradients, norm = self._clip(gradients)
        self.optimizer.apply(gradients, weights)
        return {"cost": cost, "learning_rate": learning_rate, "gradient_norm": norm}

    def after_step(self) -> None:
        """Moves the averages towards the weights; called outside of the devices."""
        if not self.averages:
            return
        step = tf.cast(self.optimizer.iterations, tf.float32)
        # Early on the average is of few steps, or it would remember the first weights.
        keep = tf.minimum(self.options.ema, (1 + step) / (10 + step))
        extended = tf.distribute.get_strategy().extended
        for average, weight in zip(self.averages, self.model.weights, strict=True):
            extended.update(
                average,
                lambda average, now: average.assign(keep * average + (1 - keep) * now),
                args=(extended.read_var(weight.value),),
            )

    def evaluation_model(self) -> keras.Model:
        """A copy in float32 with the full-size logits only, for `copy_weights`."""
        copy = full_size_only(keras.models.clone_model(self.model))
        set_precision(copy, "float32")
        return copy

    def copy_weights(self, copy: keras.Model) -> None:
        """Gives an evaluation model the weights, or their averages if there are any."""
        source = self.averages or [weight.value for weight in self.model.weights]
        found = {
            weight.path: values
            for weight, values in zip(self.model.weights, source, strict=True)
        }
        for weight in copy.weights:
            weight.assign(on_this_device(found[weight.path]))

    def make_metrics(self) -> SegmentationMetrics:
        """What `eval_step` counts into."""
        return SegmentationMetrics(self.threshold)

    def eval_step(
        self, predictor: Predictor, example: Example, metrics: SegmentationMetrics
    ) -> None:
        """Predicts one whole image and counts every pixel that is not ignored."""
        metrics.add(example.mask[..., 0], predictor.probabilities(example.image))

    def _divisor(self, masks: tf.Tensor) -> tf.Tensor:
        if self.options.reduction == "mean":
            return self.loss.weight(masks)
        share = 1 / tf.distribute.get_strategy().num_replicas_in_sync
        return tf.fill(tf.shape(self.loss.weight(masks)), share)

    def _cost(self, batch: Batch, divisor: tf.Tensor) -> tf.Tensor:
        """The part of the cost that comes from this part of the batch."""
        images, masks, *weights = batch
        outputs = self.model(images, training=True)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        shares = [0.5**level for level in range(len(outputs))]
        cost = tf.constant(0.0)
        for level, (logits, share) in enumerate(zip(outputs, shares, strict=True)):
            logits = _at_full_size(logits, level, masks)
            total = self.loss.total(masks, logits, *weights)
            mean = tf.math.divide_no_nan(total, divisor)
            cost += tf.reduce_sum(mean) * share / sum(shares)
        return cost

    def _gradients(self, batch: Batch, divisor: tf.Tensor) -> list[tf.Tensor]:
        """Cost and scaled gradients, summed over the parts they are computed in."""
        if self.accumulate == 1:
            return self._gradients_of_part(batch, divisor)
        parts = [
            tf.reshape(each, [self.accumulate, -1, *each.shape[1:]]) for each in batch
        ]

        def add(index: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
            part = tuple(each[index] for each in parts)
            more = self._gradients_of_part(part, divisor)
            return index + 1, *(a + b for a, b in zip(sums, more, strict=True))

        zeros = [tf.zeros(each.shape) for each in self.model.trainable_variables]
        _, *sums = tf.while_loop(
            lambda index, *_: index < self.accumulate,
            add,
            (tf.constant(0), tf.constant(0.0), *zeros),
            parallel_iterations=1,
        )
        return sums

    def _gradients_of_part(self, batch: Batch, divisor: tf.Tensor) -> list[tf.Tensor]:
        weights = self.model.trainable_variables
        with tf.GradientTape() as tape:
            cost = self._cost(batch, divisor)
            scaled_cost = self.optimizer.scale_loss(cost)
        gradients = tape.gradient(
            scaled_cost,
            [weight.value for weight in weights],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return [cost, *gradients]

    def _clip(
        self, gradients: Sequence[tf.Tensor]
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Scales the gradients down to `clip_norm`; their norm before, unscaled."""
        norm = tf.linalg.global_norm(gradients)
        norm = norm / getattr(self.optimizer, "dynamic_scale", 1.0)
        if self.options.clip_norm is None:
            return list(gradients), norm
        factor = self.options.clip_norm / tf.maximum(norm, self.options.clip_norm)
        return [gradient * factor for gradient in gradients], norm


def set_precision(model: keras.Model, precision: Precision) -> None:
    """Sets what a model's layers compute in, but for input scaling and logits."""
    outputs = {tensor._keras_history.operation for tensor in model.outputs}
    for layer in model.layers:
        if layer not in outputs and not isinstance(layer, keras.layers.Rescaling):
            layer.dtype_policy = keras.DTypePolicy(precision)


def sum_over_devices(values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The sums of each value over all devices; on one device the values."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return list(values)
    return list(context.all_reduce(tf.distribute.ReduceOp.SUM, list(values)))


def on_this_device(variable: tf.Variable) -> tf.Tensor:
    """The value of a variable on the first device of this machine."""
    local = tf.distribute.get_strategy().experimental_local_results(variable)
    return tf.convert_to_tensor(local[0])


def _make_optimizer(options: TaskOptions, schedule: WarmUp) -> keras.Optimizer:
    decay = options.weight_decay or None
    known = {
        "adam": lambda learning_rate: (
            keras.optimizers.AdamW(learning_rate, weight_decay=decay)
            if decay
            else keras.optimizers.Adam(learning_rate)
        )
    }
    optimizer = make_part(options.optimizer, known, learning_rate=schedule)
    if not isinstance(optimizer, keras.Optimizer):
        raise ValueError(
            f"{options.optimizer} gives a {type(optimizer).__name__}, which is no Keras"
            " optimizer."
        )
    if decay:
        optimizer.exclude_from_weight_decay(var_names=_NOT_DECAYED)
    return optimizer


def _reduce_no_more(optimizer: keras.Optimizer) -> None:
    """Keeps Keras from summing over the devices what `train_step` has summed.

    It has to be summed there, before it is clipped and before loss scaling looks for
    overflow; Keras has no option for that.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not hasattr(inner, "_all_reduce_sum_gradients"):
        raise RuntimeError(
            f"Keras {keras.__version__} sums gradients over devices in another way than"
            " is known here. Use the version in constraints.txt."
        )
    inner._all_reduce_sum_gradients = list


def _at_full_size(logits: tf.Tensor, level: int, masks: tf.Tensor) -> tf.Tensor:
    """The logits of a further head, 2^level times as large, cut to the window."""
    if level == 0:
        return logits
    height, width = (tf.shape(logits)[axis] * 2**level for axis in (1, 2))
    larger = tf.image.resize(logits, [height, width])
    top, left = (height - tf.shape(masks)[1]) // 2, (width - tf.shape(masks)[2]) // 2
    return tf.image.crop_to_bounding_box(
        larger, top, left, tf.shape(masks)[1], tf.shape(masks)[2]
    )
