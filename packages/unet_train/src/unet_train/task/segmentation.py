"""What is learned: a model, its loss, its optimizer, and one step of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from unet_core import read_geometry
from unet_core.encoders.class_prior import without_class_prior
from unet_train.data.labels import default_names, require_logits
from unet_train.graph import as_written
from unet_train.inference.predictor import Predictor
from unet_train.options import Precision, TaskOptions
from unet_train.runs.load import full_size_only
from unet_train.scoring.accumulator import Accumulator, MaskScores, Monitor
from unet_train.task.encoder import prepare_encoder, slowed
from unet_train.task.layers import set_precision, weights_by_place
from unet_train.task.loss import Loss, at_full_size
from unet_train.task.losses import make_loss
from unet_train.task.optimizer import (
    WarmUp,
    make_optimizer,
    move_averages,
    reduce_no_more,
)
from unet_train.task.replicas import (
    average_statistics,
    on_this_device,
    sum_over_devices,
)

# Images, masks, and with a border weight the weights of the pixels.
Batch = tuple[tf.Tensor, ...]

# Variables of Keras's LossScaleOptimizer.
_LOSS_SCALE = ("dynamic_scale", "step_counter")


class SegmentationTask:
    """Foreground against background with one logit, or classes with one for each.

    Override `train_step` to train differently; it is a plain function of a batch, run
    on each device with its part of it; `make_scores` and `monitor` to score otherwise.

    Example:
      ```python
      model = build_unet(UNetConfig(depth=2, base_filters=4))
      task = SegmentationTask(model, loss="bce_dice", learning_rate=1e-3)
      ```

    Attributes:
      model: From images 0..255 to logits, or to a list of them with those of full size
        first (deep supervision).
      trained: The same, without a class prior, which is for prediction.
      options: Loss, learning rate and so on.
      loss: What is made small.
      optimizer: What makes it small.
      schedule: The learning rate; its horizon is set by the trainer.
      accumulate: In how many parts a step's gradients are computed.
      compiles_gradients: Whether XLA compiles these, and the rest of a step is left as
        it is; on several devices, whose exchange XLA cannot compile.
      class_names: Of one logit, what is foreground; of several, what each but the
        first, the background, tells.
      threshold: Probability from which a pixel counts as foreground, as it is now; of
        several classes the most probable counts, and this has no effect.
      log_names: What `train_step` returns, in this order; "loss" must be among them.
      monitor: The score of a validation by which models are compared; `mean_iou` of
        several classes.
    """

    log_names: tuple[str, ...] = ("loss", "learning_rate", "gradient_norm")
    monitor: Monitor = Monitor("iou", "max")

    def __init__(self, model: keras.Model, **options: Any) -> None:
        """Makes loss and optimizer.

        Args:
          model: From `unet_core.build_unet`, with `classes` of 1, or of background and
            n classes n + 1; made within the trainer's scope if it is to train on
            several devices.
          **options: Fields of `TaskOptions`.

        Raises:
          ValueError: An impossible option, or one for another number of classes.
        """
        self.model = model
        logits = model.outputs[0].shape[-1]
        self.class_names = default_names(logits)
        if logits > 1 and type(self).monitor == SegmentationTask.monitor:
            self.monitor = Monitor("mean_iou", "max")
        self.trained = without_class_prior(model)
        self.options = TaskOptions(**options)
        self._encoder = prepare_encoder(model, self.options)
        if logits > 1 and self.options.threshold is not None:
            raise ValueError(
                f"`threshold` is for one class, and the model tells {logits - 1}: of"
                " several the most probable counts. Leave it out."
            )
        self.loss: Loss = make_loss(self.options.loss)
        self.loss.check_logits(logits)
        self.schedule = WarmUp.of(self.options)
        self.optimizer: keras.Optimizer = make_optimizer(self.options, self.schedule)
        self.accumulate = 1
        self.compiles_gradients = False
        self.threshold = self.options.threshold or 0.5
        self.averages: list[tf.Variable] = []

    def name_classes(self, names: Sequence[str]) -> None:
        """Says what the data has labels for.

        Raises:
          ValueError: The model has logits for another number of classes.
        """
        require_logits(self.model.outputs[0].shape[-1], names)
        self.class_names = tuple(names)

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
            reduce_no_more(self.optimizer)
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
            self.threshold = float(state["threshold"])
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
        compute = self._gradients
        if self.compiles_gradients:
            compute = tf.function(compute, jit_compile=True)
        sums = compute(batch, divisor)
        loss, *gradients = sum_over_devices(sums)
        gradients, norm = self._clip(gradients)
        with slowed(self._encoder, self.options.encoder_rate):
            self.optimizer.apply(gradients, weights)
        return {"loss": loss, "learning_rate": learning_rate, "gradient_norm": norm}

    @as_written
    def after_step(self) -> None:
        """Makes moving statistics one, moves the averages; called on each device."""
        average_statistics(self.model)
        if self.averages:
            step = self.optimizer.iterations
            move_averages(self.averages, self.model.weights, self.options.ema, step)

    def evaluation_model(self) -> keras.Model:
        """A copy in float32 with the full-size logits only, for `copy_weights`."""
        copy = full_size_only(keras.models.clone_model(self.model))
        set_precision(copy, "float32")
        return copy

    def copy_weights(self, copy: keras.Model) -> None:
        """Gives an evaluation model the weights, or their averages if there are any."""
        weights = self.model.weights
        source = self.averages or [weight.value for weight in weights]
        values = dict(zip(map(id, weights), source, strict=True))
        found = {
            place: values[id(weight)] for place, weight in weights_by_place(self.model)
        }
        for place, weight in weights_by_place(copy):
            weight.assign(on_this_device(found[place]))

    def make_predictor(self, *, image_size: int | Sequence[int] | None) -> Predictor:
        """What a validation predicts with; `copy_weights` gives it the weights.

        Args:
          image_size: As for `Predictor`.
        """
        return Predictor(
            self.evaluation_model(),
            image_size=image_size,
            threshold=self.threshold,
            class_names=self.class_names,
        )

    @property
    def calibrates(self) -> bool:
        """Whether `calibrate` needs held-out images: not if the threshold is given."""
        return self.options.threshold is None and len(self.class_names) == 1

    def make_calibration(self) -> Accumulator:
        """What held-out images are counted into before each validation."""
        return MaskScores(self.threshold)

    def calibrate(self, predictor: Predictor, scores: Accumulator) -> None:
        """Chooses the threshold with the highest IoU.

        Args:
          predictor: Gets the threshold.
          scores: Of `make_calibration`, with the held-out training images, of which
            there may be none, as the present weights predict them.
        """
        if isinstance(scores, MaskScores) and scores.curve.pixels:
            self.threshold = scores.curve.best_threshold()
        predictor.threshold = self.threshold

    def make_scores(self) -> Accumulator:
        """What a validation counts into."""
        return MaskScores(self.threshold, self.loss.of_image, self.class_names)

    def _divisor(self, masks: tf.Tensor) -> tf.Tensor:
        if self.options.reduction == "mean":
            return self.loss.weight(masks)
        share = 1 / tf.distribute.get_strategy().num_replicas_in_sync
        return tf.fill(tf.shape(self.loss.weight(masks)), share)

    def _loss(self, batch: Batch, divisor: tf.Tensor) -> tf.Tensor:
        """The part of the loss that comes from this part of the batch."""
        images, masks, *weights = batch
        outputs = self.trained(images, training=True)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        shares = [0.5**level for level in range(len(outputs))]
        loss = tf.constant(0.0)
        for level, (logits, share) in enumerate(zip(outputs, shares, strict=True)):
            logits = at_full_size(logits, level, masks)
            total = self.loss.total(masks, logits, *weights)
            mean = tf.math.divide_no_nan(total, divisor)
            loss += tf.reduce_sum(mean) * share / sum(shares)
        return loss

    def _gradients(self, batch: Batch, divisor: tf.Tensor) -> list[tf.Tensor]:
        """Loss and scaled gradients, summed over the parts they are computed in."""
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
        weights = [weight.value for weight in self.model.trainable_variables]
        # What was accessed would be all weights, those of a frozen encoder too.
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            loss = self._loss(batch, divisor)
            scaled_loss = self.optimizer.scale_loss(loss)
        zero = tf.UnconnectedGradients.ZERO
        gradients = tape.gradient(scaled_loss, weights, unconnected_gradients=zero)
        return [loss, *gradients]

    @as_written
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
