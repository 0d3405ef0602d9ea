"""Does the network itself keep the masks from being good?

What it can give at all (its last activation), weights that are no numbers, channels
that answer to nothing, and batch norms whose moving statistics lag behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from unet_train.doctor.finding import Finding
from unet_train.doctor.words import share
from unet_train.scoring.confusion import iou_of_logits

_PROBE = np.random.default_rng(0).uniform(-50, 50, (1, 64, 64, 1)).astype(np.float32)
# Logits that stay above this give no probability near 0.
_BOUND = -5.0
_MANY_DEAD = 0.5
# Batch statistics must do so much better for the moving ones to be blamed.
_LAG = 0.15


def check_output_layer(model: keras.Model, lowest: float | None = None) -> Finding:
    """Whether logits can take any value, as loss and sigmoid expect of them.

    Args:
      model: Whose last layers are looked at.
      lowest: The least logit that was seen for background, if any was; of one class.
    """
    found = _bounding_layer(model)
    if found is not None:
        name, activation, least = found
        return Finding(
            "output layer",
            "fault",
            f"the layer {name!r} applies {activation} to the logits, which then never"
            f" get below {least:.2g}, so that no pixel is background with certainty",
            f"Leave the activation of {name!r} out: loss and predictor take logits of"
            " both signs and apply the sigmoid themselves.",
        )
    if lowest is not None and lowest >= 0:
        return Finding(
            "output layer",
            "fault",
            f"no logit is below 0 (the least is {abs(lowest):.3g}), as if a ReLU or"
            " another non-negative activation came before the logits",
            "Let the network end in a convolution without activation.",
        )
    return Finding("output layer", "ok", "logits can have both signs")


def _bounding_layer(model: keras.Model) -> tuple[str, str, float] | None:
    """The layer that keeps logits up, its activation, and the least it gives."""
    tensor = model.outputs[0]
    while True:
        operation = tensor._keras_history.operation
        activation = getattr(operation, "activation", None)
        if isinstance(operation, keras.layers.InputLayer | keras.Model):
            return None
        has_weights = bool(getattr(operation, "weights", None))
        function = activation or (None if has_weights else operation)
        if function is not None and (least := _least(function)) > _BOUND:
            name = getattr(function, "__name__", type(function).__name__)
            return operation.name, name, least
        if has_weights:
            return None
        inputs = keras.tree.flatten(operation.input) if _has_one(operation) else []
        if len(inputs) != 1:
            return None
        tensor = inputs[0]


def _has_one(operation: Any) -> bool:
    """Whether an operation was used once, so that it has one input."""
    return len(getattr(operation, "_inbound_nodes", [])) == 1


def _least(function: Any) -> float:
    """The least value of a function of logits; minus infinity if it is none."""
    try:
        return float(np.min(function(tf.constant(_PROBE))))
    except (ValueError, TypeError, tf.errors.OpError):
        return -np.inf


def check_weights(model: keras.Model) -> Finding:
    """Whether all weights are numbers."""
    for weight in model.weights:
        if not np.isfinite(weight.numpy()).all():
            return Finding(
                "weights",
                "fault",
                f"the weight {weight.path} is no longer finite",
                "Go back to an earlier checkpoint and resume with a lower"
                " --task.learning_rate or --trainer.precision float32.",
            )
    count = sum(int(np.prod(weight.shape)) for weight in model.weights)
    return Finding("weights", "ok", f"all {count:,} are finite")


def check_dead_units(
    model: keras.Model, tiles: Sequence[npt.NDArray[np.uint8]]
) -> Finding:
    """Which channels give the same value for every pixel of every tile.

    ```python
    import numpy as np

    from unet_core import UNetConfig, build_unet
    from unet_train.doctor import check_dead_units

    model = build_unet(UNetConfig(depth=2, base_filters=4))
    tile = np.random.default_rng(0).integers(0, 256, (1, 92, 92, 3), np.uint8)
    print(check_dead_units(model, [tile]).text)
    ```

    Args:
      model: The network as it predicts.
      tiles: Batches, uint8 [N, T, T, C] each.
    """
    outputs = {tensor._keras_history.operation for tensor in model.outputs}
    layers = [
        layer
        for layer in model.layers
        if layer not in outputs and _is_activation(layer)
    ]
    if not layers:
        return Finding("dead units", "ok", "there are no activations to look at")
    probe = keras.Model(model.inputs[0], [layer.output for layer in layers])

    @tf.function(autograph=False, reduce_retracing=True)
    def extremes(batch: tf.Tensor) -> list[tuple[tf.Tensor, tf.Tensor]]:
        return [
            (tf.reduce_min(each, [0, 1, 2]), tf.reduce_max(each, [0, 1, 2]))
            for each in keras.tree.flatten(probe(batch, training=False))
        ]

    seen = [extremes(batch) for batch in tiles]
    dead = {
        layer.name: np.min([least for least, _ in of_layer], 0)
        == np.max([most for _, most in of_layer], 0)
        for layer, of_layer in zip(layers, zip(*seen, strict=True), strict=True)
    }
    parts = {name: float(each.mean()) for name, each in dead.items()}
    worst = max(parts, key=lambda name: parts[name])
    channels = np.concatenate(list(dead.values()))
    text = (
        f"{share(float(channels.mean()))} of {len(channels):,} channels are dead, most"
        f" in {worst} ({share(parts[worst])})"
    )
    cure = (
        "Train anew with a lower --task.learning_rate, with --task.warmup_steps, or"
        " with --model.norm batch."
    )
    if parts[worst] == 1:
        text = f"nothing gets through the layer {worst}: {text}"
        return Finding("dead units", "fault", text, cure)
    if parts[worst] > _MANY_DEAD:
        return Finding("dead units", "warning", text, cure)
    return Finding("dead units", "ok", text)


def _is_activation(layer: keras.layers.Layer) -> bool:
    activation = getattr(layer, "activation", None)
    is_linear = activation is None or activation is keras.activations.linear
    return isinstance(layer, keras.layers.ReLU) or not is_linear


def check_batch_norm(
    model: keras.Model,
    tiles: Sequence[npt.NDArray[np.uint8]],
    masks: Sequence[npt.NDArray[np.uint8]],
) -> Finding:
    """Whether moving statistics, used in prediction, fit those of training batches.

    ```python
    from unet_core import UNetConfig, build_unet
    from unet_train.doctor import check_batch_norm

    model = build_unet(UNetConfig(depth=2, base_filters=4, norm="batch"))
    data = SegmentationData(data_dir="OUT", tile_size=92)
    tiles, masks = data.first_tiles(2, margin=20, seed=0)
    print(check_batch_norm(model, [tiles], [masks]).text)
    ```

    Args:
      model: The network as it predicts.
      tiles: Training batches, uint8 [N, T, T, C] each.
      masks: Their labels, uint8 [N, W, W, 1] each.
    """
    norms = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    if not norms:
        return Finding("batch norm", "ok", "the network has none")
    drift = _drift(model, norms, tiles)
    worst = max(drift, key=lambda name: drift[name])
    moving, batch = (
        tile_iou(model, tiles, masks, training=training) for training in (False, True)
    )
    text = (
        f"IoU on training tiles is {moving:.2f} by the moving statistics and"
        f" {batch:.2f} by those of the batch; the means differ most in {worst}, by"
        f" {drift[worst]:.2f} standard deviations"
    )
    if batch - moving < _LAG:
        return Finding("batch norm", "ok", text)
    return Finding(
        "batch norm",
        "fault",
        f"the moving statistics of batch norm lag behind: {text}",
        "Train longer, or with a lower --model.norm_momentum (0.9; it is"
        f" {norms[0].momentum:g} now), or with --model.norm group for small batches.",
    )


def tile_iou(
    model: keras.Model,
    tiles: Sequence[npt.NDArray[np.uint8]],
    masks: Sequence[npt.NDArray[np.uint8]],
    *,
    training: bool = False,
) -> float:
    """IoU at threshold 0.5; with `training` by batch statistics. Weights are kept."""
    statistics = [weight.numpy() for weight in model.non_trainable_weights]
    iou = iou_of_logits(
        (truth, np.asarray(model(batch, training=training)))
        for batch, truth in zip(tiles, masks, strict=True)
    )
    for weight, value in zip(model.non_trainable_weights, statistics, strict=True):
        weight.assign(value)
    return iou


def _drift(
    model: keras.Model,
    norms: Sequence[keras.layers.BatchNormalization],
    tiles: Sequence[npt.NDArray[np.uint8]],
) -> dict[str, float]:
    """By layer, the median over channels of how far the means are apart."""
    probe = keras.Model(model.inputs[0], [layer.input for layer in norms])
    sums: list[Any] = [0.0] * len(norms)
    for batch in tiles:
        inputs = keras.tree.flatten(probe(batch, training=False))
        sums = [
            total + np.mean(each, (0, 1, 2))
            for total, each in zip(sums, inputs, strict=True)
        ]
    return {
        layer.name: float(
            np.median(
                np.abs(total / len(tiles) - layer.moving_mean.numpy())
                / np.sqrt(layer.moving_variance.numpy() + layer.epsilon)
            )
        )
        for layer, total in zip(norms, sums, strict=True)
    }
