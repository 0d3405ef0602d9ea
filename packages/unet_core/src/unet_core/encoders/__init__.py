"""Encoders that others trained on ImageNet, as the way down of a U-Net.

One module a family, with its graph in `add_encoder` and its weights in `load_encoder`.
What an encoder wants done to pixel values 0..255 belongs to its graph.
"""

from typing import TYPE_CHECKING, Any

from unet_core.config import UNetConfig
from unet_core.encoders import class_prior, efficientnet_lite
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
    family = _family(config.encoder)
    if config.class_prior and family is not efficientnet_lite:
        raise ValueError(
            f"`class_prior` needs the classifier of {list(efficientnet_lite.VARIANTS)}."
            f" Received `encoder` {config.encoder!r}. Leave `class_prior` out, or use"
            " one of them."
        )
    *skips, end = family.add_encoder(config.encoder, config.depth, operations)
    return end, skips


def load_encoder(model: "keras.Model", config: UNetConfig) -> None:
    """Gives the encoder in a U-Net the weights that `encoder_weights` names.

    Raises:
      ImportError: They are not installed.
      ValueError: They are of another network.
    """
    family = _family(config.encoder)
    family.load_encoder(model, config.encoder, config.encoder_weights)
    if config.class_prior:
        kinds = model.get_layer(class_prior.KINDS)
        kinds.set_weights(class_prior.kinds_weights(config.class_prior))


def _family(name: str | None) -> Any:
    """The module of an encoder; that of `keras.applications` needs Keras."""
    if name in efficientnet_lite.VARIANTS:
        return efficientnet_lite
    from unet_core.encoders import applications

    return applications
