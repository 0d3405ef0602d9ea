"""Reads the operations of any Keras model off its graph, and so its sizes and reach.

```python
geometry = read_geometry(keras.applications.MobileNetV2(include_top=False))
```

What a layer does to height and width is known for the stock layers that images pass
through. A layer of another kind counts as one that sees the whole image, so that it is
never cut into tiles by mistake.
"""

from collections.abc import Iterable
from typing import Any

import keras

from unet_core.geometry import Geometry
from unet_core.operations import Operation

# Layers and operations of Keras each of whose output pixels depends on the pixel of the
# same place only, whatever their options. `LayerScale` is ConvNeXt's,
# `CustomScaleLayer` Inception-ResNet's.
_POINTWISE = {
    *("Activation", "ReLU", "LeakyReLU", "ELU", "PReLU", "Identity", "Rescaling"),
    *("Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout"),
    *("BatchNormalization", "LayerScale", "StochasticDepth", "ActivityRegularization"),
    *("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Divide"),
    *("TrueDivide", "Relu", "Relu6", "Sigmoid", "HardSigmoid", "Gelu", "Silu", "Tanh"),
    *("HardSilu", "Cast", "Clip", "Abs", "Negative", "Sqrt", "Square"),
    "CustomScaleLayer",
}
# Those of an axis: the last one, of channels, is pointwise.
_ALONG_AN_AXIS = {
    *("Concatenate", "LayerNormalization", "Normalization", "Softmax"),
    "UnitNormalization",
}
_WINDOWS = {
    *("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Conv2DTranspose"),
    *("MaxPooling2D", "AveragePooling2D", "UpSampling2D"),
    *("ZeroPadding2D", "Cropping2D"),
}


def read_geometry(model: keras.Model) -> Geometry:
    """The sizes and the reach of a network, read off its graph.

    Args:
      model: From images to logits: of `build_unet`, or any functional model of Keras's
        layers, or one loaded from its `.keras` file.

    Raises:
      TypeError: It is no Keras model.
      ValueError: It takes or gives no images, or its output is of another size than its
        input but for a margin.

    Example:
      ```python
      from unet_core import UNetConfig, build_unet, read_geometry

      model = build_unet(UNetConfig(depth=2, base_filters=8))
      assert read_geometry(model).output_size(92) == 52
      ```
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            "`model` must be a Keras model, such as `unet_core.build_unet` gives."
            f" Received: {model!r}"
        )
    try:
        operations, outputs = read_operations(model)
        geometry = Geometry.of_operations(operations, outputs)
        if geometry.sees_all:
            _require_sizes(model, geometry)  # What is not known may change them.
        return geometry
    except ValueError as error:
        fault = str(error)
    raise ValueError(
        f"The model {model.name!r} makes no masks of images: {fault}. Use one of"
        " `unet_core.build_unet`, or another functional model from [N, H, W, C] to"
        " logits of each pixel."
    )


def read_operations(model: keras.Model) -> tuple[list[Operation], list[Operation]]:
    """All operations of a model, each after its sources, and those that it returns.

    Raises:
      ValueError: It is no functional model of one input, an image.
    """
    inputs = getattr(model, "inputs", None)
    if not inputs or not getattr(model, "outputs", None):
        raise ValueError("its graph is not known before it is called")
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        shapes = [tuple(each.shape) for each in inputs]
        raise ValueError(f"it takes {shapes} in place of one batch of images")
    for output in model.outputs:
        if len(output.shape) != 4:
            raise ValueError(f"it returns {tuple(output.shape)}, which is no image")
    reader = GraphReader()
    outputs = reader.read(model, None)
    return list(reader.nodes), outputs


def _require_sizes(model: keras.Model, geometry: Geometry) -> None:
    """Compares what the operations say with what Keras does."""
    any_size = geometry.smallest_valid_size + geometry.step
    _, *sides, channels = model.inputs[0].shape
    sides = [any_size if side is None else side for side in sides]
    outputs = model.compute_output_shape((1, *sides, channels))
    found = tuple((outputs[0] if isinstance(outputs, list) else outputs)[1:3])
    if found != tuple(side - 2 * geometry.margin for side in sides):
        raise ValueError(f"it makes {found} pixels of {tuple(sides)}")


class GraphReader:
    """Follows a graph, and those of the models in it.

    Attributes:
      nodes: Keras's call of a layer by the operation that it became, each after its
        sources.
    """

    def __init__(self) -> None:
        self.nodes: dict[Operation, Any] = {}

    def read(self, model: Any, given: Operation | None) -> list[Operation]:
        """Adds the operations of a model that is given the output of another one."""
        found: dict[int, Operation | None] = {id(model.inputs[0]): given}
        for node in _nodes(model):
            sources = [
                found[id(tensor)]
                for tensor in node.input_tensors
                if id(tensor) in found
            ]
            if not sources:
                continue
            layer = node.operation
            outputs = node.outputs
            if isinstance(layer, keras.Model) and getattr(layer, "outputs", None):
                for tensor, end in zip(
                    outputs, self.read(layer, sources[0]), strict=True
                ):
                    found[id(tensor)] = end
                continue
            operation = _operation(layer, [s for s in sources if s], outputs[0])
            self.nodes[operation] = node
            for tensor in outputs:
                found[id(tensor)] = operation
        ends = [found.get(id(tensor)) for tensor in model.outputs]
        if None in ends:
            raise ValueError("it returns what it was given")
        return [end for end in ends if end is not None]


def _nodes(model: Any) -> Iterable[Any]:
    """The calls of a model's layers in the order of its graph, without its inputs."""
    if isinstance(model, keras.Sequential):
        model = model._functional
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if not node.is_input:
                yield node


def _operation(
    layer: Any, sources: list[Operation], output: keras.KerasTensor
) -> Operation:
    """One layer, as far as height and width are concerned."""
    kind = type(layer).__name__
    shape = output.shape
    channels = shape[-1] or 0
    known = _options(layer, kind, len(shape))
    reach_known = known is not None and known.get("interpolation") != "bicubic"
    return Operation(
        kind,
        layer.name,
        tuple(sources),
        channels,
        known or {},
        sees_all=len(shape) != 4 or not reach_known,
        of_image=len(shape) != 4 or tuple(shape[1:3]) == (1, 1),
    )


def _options(layer: Any, kind: str, rank: int) -> dict[str, Any] | None:
    """What `window_of` must know of a layer; None if nobody knows what it sees."""
    if kind in _POINTWISE:
        return {}
    if kind in _ALONG_AN_AXIS:
        axis = layer.axis
        axes = axis if isinstance(axis, (list, tuple)) else [axis]
        return {} if all(each in (-1, rank - 1) for each in axes) else None
    if kind == "Dense":
        return {}
    if kind not in _WINDOWS or layer.data_format != "channels_last":
        return None
    config = layer.get_config()
    options: dict[str, Any] = {}
    for name in ("kernel_size", "strides", "pool_size", "dilation_rate", "size"):
        if config.get(name) is not None:
            options[name] = _square(config[name])
    for name in ("padding", "cropping"):
        value = config.get(name)
        if isinstance(value, (list, tuple)):
            (before, after), across = map(tuple, value)
            if (before, after) != across:
                raise ValueError(f"{layer.name} treats height and width unequally")
            options[name] = (before, after)
        elif value is not None:
            options[name] = value
    if "interpolation" in config:
        options["interpolation"] = config["interpolation"]
    return options if options.get("padding") != "causal" else None


def _square(value: Any) -> int:
    """The larger of height and width, so that no pixel of the true window is missed."""
    return max(value) if isinstance(value, (list, tuple)) else int(value)
