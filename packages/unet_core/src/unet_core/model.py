"""The U-Net of Ronneberger, Fischer and Brox (2015), as a Keras functional model.

```python
model = build_unet("blog_2018")
logits = model(images)  # [N, 572, 572, 3] of 0..255 -> [N, 388, 388, 1]
```
"""

import functools
from collections.abc import Callable
from typing import Any

import keras

from unet_core.config import UNetConfig
from unet_core.geometry import Geometry
from unet_core.presets import find_preset
from unet_core.stages import Network, Operation


def build_unet(
    config: UNetConfig | str | None = None, *, dtype: str | None = None
) -> keras.Model:
    """Builds the graph of figure 1: down on the left, up on the right.

    Args:
      config: Options, or the name of a preset; None means the defaults, "blog_2018".
      dtype: Keras dtype policy, such as "float32" or "mixed_bfloat16"; None means the
        global policy. Pixels are scaled and logits computed in float32 in any case.

    Returns:
      A model from pixel values 0..255, [N, H, W, input_channels], to float32 logits
      [N, H - 2m, W - 2m, classes], where m is `Geometry.margin` (0 for padding
      "same"). H and W are free among `Geometry`'s valid sizes; for any other the
      model raises a ValueError that names the nearest (a model loaded from its file
      has Keras's own errors there). The model scales pixel values itself, to -1..1.
      With deep supervision it returns a list of logits.

    Raises:
      TypeError: `config` is something else.
      ValueError: There is no such preset, or Keras does not know the activation.
    """
    if isinstance(config, str):
        config = find_preset(config)
    config = UNetConfig() if config is None else config
    if not isinstance(config, UNetConfig):
        raise TypeError(
            "`config` must be a UNetConfig or the name of a preset. Received:"
            f" {config!r}"
        )
    network = Network(config)
    image = keras.Input((None, None, config.input_channels), name="image")
    tensors: dict[Operation, Any] = {}
    for operation in network.operations:
        options = {"name": operation.name, "dtype": dtype, **operation.options}
        layer = getattr(keras.layers, operation.layer)(**options)
        sources = [tensors[each] for each in operation.sources] or [image]
        tensors[operation] = layer(sources if len(sources) > 1 else sources[0])

    logits = [tensors[each] for each in network.outputs]
    outputs = logits if config.deep_supervision else logits[0]
    model = keras.Model(image, outputs, name="unet")
    # On the instance, so that the class stays the stock one and a `.keras` file loads
    # without this package.
    model.call = _checking_images(
        model.call, config.input_channels, Geometry.of(config)
    )
    return model


def _checking_images(
    call: Callable[..., Any], channels: int, geometry: Geometry
) -> Callable[..., Any]:
    """Has a call refuse what are no images of valid sizes, as far as it is known."""

    @functools.wraps(call)
    def checked_call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        shape = tuple(keras.tree.flatten(inputs)[0].shape)
        if len(shape) != 4 or shape[3] not in (channels, None):
            raise ValueError(
                f"The model takes a batch of images [N, H, W, {channels}]. Received the"
                f" shape {shape}. A single image needs a batch axis"
                " (`image[numpy.newaxis]`), a grey one a channel axis too."
            )
        smallest = geometry.smallest_valid_size
        geometry.output_shape(
            *(smallest if side is None else side for side in shape[1:3])
        )
        return call(inputs, *args, **kwargs)

    return checked_call


def read_geometry(model: keras.Model) -> Geometry:
    """The sizes of a U-Net, read off its layers.

    Args:
      model: From `build_unet`, or loaded from its `.keras` file.

    Raises:
      TypeError: It is no Keras model.
      ValueError: It is no U-Net: it has no 3x3 convolutions or no 2x2 poolings, other
        strides or dilations, or an output of another size.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            "`model` must be a Keras model, such as `unet_core.build_unet` gives."
            f" Received: {model!r}"
        )
    kinds = keras.layers.MaxPooling2D, keras.layers.Conv2D, keras.layers.UpSampling2D
    pools, convolutions, resizes = (
        [layer for layer in model.layers if isinstance(layer, kind)] for kind in kinds
    )
    plain = all(each.strides == each.dilation_rate == (1, 1) for each in convolutions)
    halving = all(each.pool_size == each.strides == (2, 2) for each in pools)
    convolutions = [each for each in convolutions if each.kernel_size == (3, 3)]
    fault = None
    if not pools or not convolutions:
        fault = f"{len(convolutions)} convolutions 3x3 and {len(pools)} poolings"
    elif not plain or not halving:
        fault = "other strides or dilations than those of the figure"
    else:
        geometry = Geometry(
            depth=len(pools),
            padding=convolutions[0].padding,
            upsampling="resize" if resizes else "transposed",
        )
        size = geometry.smallest_valid_size + geometry.step
        shape = (1, size, size, model.inputs[0].shape[-1])
        outputs = model.compute_output_shape(shape)
        output = outputs[0] if isinstance(outputs, list) else outputs
        if tuple(output[1:3]) == (geometry.output_size(size),) * 2:
            return geometry
        fault = f"an output of {tuple(output[1:3])} for an input of {shape[1:3]}"
    raise ValueError(
        f"The model {model.name!r} has {fault}, so it is no U-Net. Use a model of"
        " `unet_core.build_unet`; of one within another, that one."
    )
