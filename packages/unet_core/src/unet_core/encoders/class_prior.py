"""What ImageNet's classifier knows of the classes, as a prior of the logits.

A few hundred photos of cats teach what is an animal and what is not; that a bear is no
cat they cannot teach. The encoder knew, before its classifier was cut off: it told
tabbies from 119 breeds of dog. Applied to each cell of the encoder's end in place of
their mean, the classifier is a class activation map (Zhou et al. 2016). Where it sees
none of a class's kinds, here or near, the logit of that class gets lower:

    logit = U-Net's logit - 6 * max(0, 1 - p / 0.03)

where p is the largest probability within three cells. Where it sees one, however
faintly, nothing changes. All of it is stock layers, and looks at a window, so that
tiles stay exact.

It is for prediction. A network that is trained with it learns to make up for it, also
where nobody should; `without_class_prior` is the same network up to its own logits.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from unet_core.operations import Operation, add

if TYPE_CHECKING:
    import keras
    import numpy as np
    import numpy.typing as npt

CLASSES = 1000
"""Of ImageNet's challenge, in the order that all weights have."""
CLASSIFIER, KINDS = "encoder_classifier", "encoder_prior_kinds"
_OUTPUT = "logits_with_prior"

_STRENGTH = 6.0
_ENOUGH = 0.03
_REACH = 3


def add_class_prior(
    end: Operation,
    logits: Operation,
    prior: Sequence[Sequence[int]],
    operations: list[Operation],
) -> Operation:
    """Adds the prior to the logits.

    Args:
      end: Of the encoder, what the classifier takes.
      logits: Of full size.
      prior: For each class its kinds: numbers of ImageNet's classes.
      operations: Get what is added.

    Returns:
      The logits with it.
    """

    def then(layer: str, name: str, *sources: Operation, **options: Any) -> Operation:
        # A softmax over so many, and what is compared with it, in float32.
        return add(operations, layer, name, *sources, dtype="float32", **options)

    fixed: dict[str, Any] = {"kernel_size": 1, "padding": "valid", "trainable": False}
    x = then("Conv2D", CLASSIFIER, end, filters=CLASSES, **fixed)
    x = then("Softmax", "encoder_prior_softmax", x)
    x = then("Conv2D", KINDS, x, filters=len(prior), **fixed)
    window = 2 * _REACH + 1
    near: dict[str, Any] = {"pool_size": window, "strides": 1, "padding": "same"}
    x = then("MaxPooling2D", "encoder_prior_near", x, **near)
    less = {"scale": -1 / _ENOUGH, "offset": 1.0}
    x = then("Rescaling", "encoder_prior_lacking", x, **less)
    x = then("ReLU", "encoder_prior_relu", x)
    smooth = {"size": end.pixel, "interpolation": "bilinear"}
    x = then("UpSampling2D", "encoder_prior_resize", x, **smooth)
    x = then("Rescaling", "encoder_prior", x, scale=-_STRENGTH)
    return then("Add", _OUTPUT, logits, x)


def kinds_weights(
    prior: Sequence[Sequence[int]],
) -> "list[npt.NDArray[np.float32]]":
    """Of the layer that adds up each class's kinds; what has none is always there."""
    import numpy as np

    kernel = np.zeros((1, 1, CLASSES, len(prior)), np.float32)
    for index, kinds in enumerate(prior):
        kernel[0, 0, list(kinds), index] = 1
    return [kernel, np.array([not kinds for kinds in prior], np.float32)]


def without_class_prior(model: "keras.Model") -> "keras.Model":
    """The network up to its own logits, of the same layers; one without as it is.

    Args:
      model: Of `build_unet`, or loaded from its file.
    """
    import keras

    first, *others = keras.tree.flatten(model.outputs)
    layer, node, _ = first._keras_history
    if layer.name != _OUTPUT:
        return model
    logits, _ = layer._inbound_nodes[node].input_tensors
    outputs = [logits, *others] if others else logits
    return keras.Model(model.inputs, outputs, name=model.name)
