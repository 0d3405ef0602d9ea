"""What training does to a pretrained encoder otherwise than to the rest of a network.

The encoder is the layers whose names begin with `encoder_`, as in `unet_core`, also in
a network that was loaded from a file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf

from unet_train.options import TaskOptions

_PREFIX = "encoder_"


def encoder_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers of the way down that have weights."""
    return [
        layer
        for layer in model.layers
        if layer.name.startswith(_PREFIX) and layer.weights
    ]


def prepare_encoder(model: keras.Model, options: TaskOptions) -> list[keras.Layer]:
    """Freezes the encoder if the options say so; returns its layers.

    A norm that is frozen uses the statistics that it has, and keeps them.

    Raises:
      ValueError: The options are for an encoder, and the model has none.
    """
    layers = encoder_layers(model)
    is_meant = options.freeze_encoder or options.encoder_rate != 1
    if is_meant and not layers:
        raise ValueError(
            "`freeze_encoder` and `encoder_rate` are for an encoder, and no layer of"
            f" {model.name!r} has a name that begins with {_PREFIX!r}. Leave them out,"
            " or name the network's layers so."
        )
    if options.freeze_encoder:
        for layer in layers:
            layer.trainable = False
    return layers


@contextlib.contextmanager
def slowed(layers: Sequence[keras.Layer], rate: float) -> Iterator[None]:
    """Within this, the weights of layers move only this share of what they would.

    That is a learning rate of their own for any optimizer, weight decay included.
    """
    weights = [weight.value for layer in layers for weight in layer.trainable_weights]
    if rate == 1 or not weights:
        yield
        return
    before = [tf.identity(weight) for weight in weights]
    with tf.control_dependencies(before):
        yield
    for weight, old in zip(weights, before, strict=True):
        weight.assign(old + rate * (weight - old))
