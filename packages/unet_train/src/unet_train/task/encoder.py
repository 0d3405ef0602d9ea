"""What training does to a pretrained encoder otherwise than to the rest of a network.

The encoder is the layers whose names begin with `encoder_`, as in `unet_core`, also in
a network that was loaded from a file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf

_PREFIX = "encoder_"


def encoder_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers of the way down that have weights."""
    return [
        layer
        for layer in model.layers
        if layer.name.startswith(_PREFIX) and layer.weights
    ]


def require_encoder(layers: Sequence[keras.Layer], model: keras.Model) -> None:
    """Refuses to treat an encoder otherwise where there is none.

    Raises:
      ValueError: The model has none.
    """
    if not layers:
        raise ValueError(
            f"`freeze_encoder` and `encoder_rate` are for an encoder, and no layer of"
            f" {model.name!r} has a name that begins with {_PREFIX!r}. Leave them out,"
            " or name the network's layers so."
        )


def freeze(layers: Sequence[keras.Layer]) -> None:
    """Has layers keep their weights; norms then use and keep their statistics."""
    for layer in layers:
        layer.trainable = False


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
