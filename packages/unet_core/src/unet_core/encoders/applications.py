"""The networks of `keras.applications` as encoders, by their names.

```python
model = build_unet(UNetConfig(encoder="resnet50v2", encoder_weights="imagenet"))
```

Nothing is written by hand for any of them. The graph is Keras's own, layer by layer,
each named `encoder_` and its name there. Where the way up joins it is found by size: at
each resolution the last tensor that everything deeper is computed through. What a
network wants done to pixel values 0..255 is asked of its `preprocess_input` and of the
layers that it begins with, and becomes one layer, `rescale`; for those that take BGR
the first convolution is turned round in place of the image.

Convolutions and poolings that take off a border (Inception, Inception-ResNet, Xception
and NASNet begin with some) are padded here, as in segmentation_models.pytorch, since a
U-Net needs feature maps of exactly half the size.
"""

import collections
import dataclasses
import difflib
import functools
import math
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt

from unet_core.operations import Cost, Operation, add
from unet_core.reading import GraphReader

# NASNet compares the sizes of its cells, so they must be known: with these all that is
# halved is even, as in a U-Net.
_KNOWN_SIZE = {"nasnet": 257}
# What the others say by their own layers, EfficientNet says in its weights only.
_MODES = {"efficientnet": "torch"}


def add_encoder(
    name: str, depth: int, operations: list[Operation]
) -> list[Operation | None]:
    """Adds the layers of a network, down to `depth` halvings.

    Returns:
      What the way up takes, of full size, half, a quarter and so on, and the end; None
      where the network has no tensor of that size.

    Raises:
      ValueError: There is no such network, or it halves the size less often.
    """
    blueprint = _blueprint(_proper_name(name))
    taps = _taps(blueprint, depth, name)
    needed = _needed(blueprint.operations, taps)
    copies: dict[Operation, Operation] = {}
    image = add(
        operations, "Rescaling", "rescale", dtype="float32", **blueprint.rescaling
    )
    for operation in blueprint.operations:
        if operation in needed:
            sources = tuple(copies[each] for each in operation.sources) or (image,)
            copies[operation] = dataclasses.replace(operation, sources=sources)
            operations.append(copies[operation])
    return [copies[tap] if tap else None for tap in taps]


def load_encoder(model: keras.Model, name: str, weights: str) -> None:
    """Gives the encoder in a U-Net the weights that Keras has for it, or a file's.

    Raises:
      ValueError: They are of another network.
    """
    name = _proper_name(name)
    try:
        original = _build(name, weights)
    except ValueError as error:
        raise ValueError(
            f"`encoder_weights` {weights!r} cannot be read as those of"
            f" `keras.applications.{name}` with include_top=False: {error}"
        ) from error
    first = _blueprint(name).turned
    names = {layer.name for layer in model.layers}
    for layer in original._flatten_layers(include_self=False):
        own = _encoder_name(layer.name)
        if own not in names or not layer.weights:
            continue
        values = layer.get_weights()
        if own == first:
            values[0] = values[0][:, :, ::-1]
        model.get_layer(own).set_weights(values)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class _Copied(Operation):
    """A layer as Keras's network has it, but for its name and its padding.

    Attributes:
      original: The layer there.
    """

    original: Any = dataclasses.field(repr=False)

    def make(self, dtype: str | None) -> Any:
        """One more of it."""
        config = self.original.get_config() | {"name": self.name, "dtype": dtype}
        if isinstance(config.get("padding"), str):
            config["padding"] = self.options["padding"]
        return type(self.original).from_config(config)

    @functools.cached_property
    def cost(self) -> Cost:
        """Counted on the layer's own variables."""
        layer = self.original
        kernels = [math.prod(w.shape) for w in layer.weights if len(w.shape) > 1]
        return Cost(
            sum(math.prod(each.shape) for each in layer.trainable_weights),
            sum(math.prod(each.shape) for each in layer.non_trainable_weights),
            sum(kernels),
        )


class _Blueprint(NamedTuple):
    """A network without weights.

    Attributes:
      operations: Each after its sources; the first ones take pixels as rescaled.
      end: The last of them.
      rescaling: Scale and offset of pixel values, of each channel where they differ.
      turned: The convolution that takes BGR there, and RGB here, if there is one.
    """

    operations: list[Operation]
    end: Operation
    rescaling: dict[str, Any]
    turned: str | None


@functools.lru_cache(maxsize=8)
def _blueprint(name: str) -> _Blueprint:
    reader = GraphReader()
    (end,) = reader.read(_build(name, None, allocate=False), None)
    copies: dict[Operation, Operation] = {}
    leading = []
    for operation, node in reader.nodes.items():
        sources = tuple(copies[each] for each in operation.sources if each in copies)
        is_scaling = operation.layer in ("Rescaling", "Normalization")
        if is_scaling and not sources:
            leading.append(node.operation)
        else:
            copies[operation] = _copied(operation, sources, node)
    scale, offset, turned = _preprocessing(name, leading)
    first = next(each for each in copies.values() if each.layer == "Conv2D")
    return _Blueprint(
        list(copies.values()),
        copies[end],
        {"scale": scale, "offset": offset},
        first.name if turned else None,
    )


def _copied(
    operation: Operation, sources: tuple[Operation, ...], node: Any
) -> Operation:
    """An operation of Keras's network as one of ours: same, and of stock layers."""
    name, options = _encoder_name(operation.name), operation.options
    if not isinstance(node.operation, keras.layers.Layer):
        # Written with an operator: `x + 3.0`, or `x + y`.
        numbers = [each for each in node.arguments.args if isinstance(each, float)]
        kind = operation.layer
        if numbers:
            (number,), kind = numbers, "Rescaling"
            is_sum = operation.layer == "Add"
            options = {"offset": number, "scale": 1.0} if is_sum else {"scale": number}
        return dataclasses.replace(
            operation, layer=kind, name=name, sources=sources, options=options
        )
    window = operation.window
    padded = any(each.layer == "ZeroPadding2D" for each in operation.sources)
    shrinks = options.get("padding") == "valid" and window.kernel > window.stride
    if shrinks and not padded:
        options = options | {"padding": "same"}
    fields = {
        field.name: getattr(operation, field.name)
        for field in dataclasses.fields(operation)
        if field.init
    }
    fields |= {"name": name, "sources": sources, "options": options}
    return _Copied(**fields, original=node.operation)


def _preprocessing(name: str, leading: Iterable[Any]) -> tuple[Any, Any, bool]:
    """Scale, offset, and whether channels are turned round; seen on four pixels."""
    pixels: Any = np.float32(255) * np.concatenate([np.zeros((1, 3)), np.eye(3)])
    pixels = pixels.astype(np.float32)[np.newaxis, np.newaxis]
    module = _module(name)
    mode = _MODES.get(module.__name__.rpartition(".")[-1])
    if mode:
        preprocess = keras.applications.imagenet_utils.preprocess_input
        pixels = preprocess(pixels, mode=mode)
    else:
        pixels = module.preprocess_input(pixels)
        for layer in leading:
            pixels = type(layer).from_config(layer.get_config())(pixels)
    black, *primaries = np.asarray(pixels, np.float64)[0, 0]
    slopes = (primaries - black) / 255
    turned = not slopes[0, 0]
    if turned:
        slopes, black = slopes[:, ::-1], black[::-1]
    return _short(np.diag(slopes)), _short(black), turned


def _short(values: "npt.NDArray[Any]") -> float | list[float]:
    """One number where all channels have the same."""
    numbers: list[float] = [float(f"{value:.7g}") for value in values]
    return numbers[0] if len(set(numbers)) == 1 else numbers


def _taps(blueprint: _Blueprint, depth: int, name: str) -> list[Operation | None]:
    """The last operation of each resolution that everything deeper goes through."""
    operations, end = blueprint.operations, blueprint.end
    deepest = end.pixel.bit_length() - 1
    shallowest = min(
        place
        for place in range(1, deepest + 1)
        if any(each.pixel == 2**place for each in operations)
    )
    if not shallowest <= depth <= deepest:
        raise ValueError(
            f"The encoder {name!r} halves the size {deepest} times, the first"
            f" {shallowest} at once, and there are {depth} `decoder_filters`. Give"
            f" {shallowest} to {deepest} of them."
        )
    taps = [_last_before(operations, end, 2**place) for place in range(depth + 1)]
    if depth == deepest:
        taps[-1] = end
    return taps


def _last_before(
    operations: list[Operation], end: Operation, pixel: int
) -> Operation | None:
    """The last one whose pixels have that side, and without which the end is cut off.

    Where there is none, since the network keeps two paths (NASNet): the widest, and of
    these the one that the most layers lead to.
    """
    of_the_end = _needed(operations, [end])
    layers: dict[Operation, int] = {}
    for each in operations:
        layers[each] = 1 + max((layers[source] for source in each.sources), default=0)
    found = [
        each
        for each in operations
        if each in of_the_end
        and each.pixel == pixel
        and not each.of_image
        # Exactly the size of the image over `pixel`, so not padded for what follows.
        and each.layer not in ("ZeroPadding2D", "Cropping2D")
    ]
    for each in reversed(found):
        if not _reaches_deeper(operations, each, pixel):
            return each
    return max(found, key=lambda each: (each.channels, layers[each]), default=None)


def _reaches_deeper(
    operations: list[Operation], without: Operation, pixel: int
) -> bool:
    """Whether a path around one operation leads to larger pixels."""
    reached: set[Operation] = set()
    for each in operations:
        from_there = not each.sources or not reached.isdisjoint(each.sources)
        if each is not without and from_there:
            if each.pixel > pixel:
                return True
            reached.add(each)
    return False


def _needed(
    operations: list[Operation], ends: Iterable[Operation | None]
) -> set[Operation]:
    """What these are computed from, and they themselves."""
    needed = {end for end in ends if end}
    for operation in reversed(operations):
        if operation in needed:
            needed.update(operation.sources)
    return needed


def _encoder_name(name: str) -> str:
    return f"encoder_{name}"


def _proper_name(name: str) -> str:
    """As in `keras.applications`, from a name in any case.

    Raises:
      ValueError: There is none.
    """
    from unet_core.encoders import efficientnet_lite

    folder = vars(keras.applications)
    names = {each.lower(): each for each in folder if callable(folder[each])}
    if name.lower() in names:
        return names[name.lower()]
    known = [*names, *efficientnet_lite.VARIANTS]
    nearest = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0)
    raise ValueError(
        f"There is no encoder {name!r}. The nearest names are {nearest}; there are"
        f" {', '.join(sorted(known))}."
    )


def _module(name: str) -> Any:
    return sys.modules[getattr(keras.applications, name).__module__]


def _build(name: str, weights: str | None, *, allocate: bool = True) -> keras.Model:
    """Keras's network, without the layers of its classes.

    In a thread of its own, where Keras counts layers from 0, so that they have the same
    names each time, and where variables that are not allocated are forgotten.
    """
    side = _KNOWN_SIZE.get(_module(name).__name__.rpartition(".")[-1])
    function = getattr(keras.applications, name)
    options = {"include_top": False, "input_shape": (side, side, 3)}

    def build() -> keras.Model:
        if allocate:
            return function(weights=weights, **options)
        with keras.StatelessScope(initialize_variables=False):
            return function(weights=weights, **options)

    return _in_a_thread(build)


def _in_a_thread(function: Callable[[], Any]) -> Any:
    results: collections.deque[Any] = collections.deque()

    def call() -> None:
        try:
            results.append((function(), None))
        except Exception as error:
            results.append((None, error))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    result, error = results.pop()
    if error is not None:
        raise error
    return result
