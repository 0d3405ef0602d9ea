"""Encoders that others trained on ImageNet, as the way down of a U-Net.

One module a family: its graph and its weights. What an encoder wants done to pixel
values 0..255 belongs to its graph.
"""

from typing import TYPE_CHECKING

from unet_core.config import UNetConfig
from unet_core.encoders import efficientnet_lite
from unet_core.operations import Operation

if TYPE_CHECKING:
    import keras


def add_encoder(
    config: UNetConfig, operations: list[Operation]
) -> tuple[Operation, list[Operation | None]]:
    """Adds the encoder that a network asks for to its list of operations.

    Returns:
      Its end, and what it leaves for the way up: of full size, half, a quarter and so
      on, one for each of `decoder_filters`; None where it has nothing of that size.

    Raises:
      ValueError: There is no such encoder, or it has fewer stages.
    """
    assert config.encoder is not None
    taps: list[Operation | None]
    if config.encoder in efficientnet_lite.VARIANTS:
        lite = efficientnet_lite.add_encoder(config.encoder, config.depth, operations)
        taps = [None, *lite]  # Its first layer halves the size.
    else:
        from unet_core.encoders import applications

        taps = applications.add_encoder(config.encoder, config.depth, operations)
    *skips, end = taps
    assert end is not None
    return end, skips


def load_encoder(model: "keras.Model", config: UNetConfig) -> None:
    """Gives the encoder in a U-Net the weights that `encoder_weights` names.

    Raises:
      ImportError: They are not installed.
      ValueError: They are of another network.
    """
    assert config.encoder is not None
    assert config.encoder_weights is not None
    if config.encoder in efficientnet_lite.VARIANTS:
        is_path = config.encoder_weights != "imagenet"
        path = config.encoder_weights if is_path else None
        weights = efficientnet_lite.read_weights(config.encoder, path)
        for layer in model.layers:
            if layer.name in weights:
                layer.set_weights(weights[layer.name])
        return
    from unet_core.encoders import applications

    applications.load_encoder(model, config.encoder, config.encoder_weights)
