"""The U-Net of Ronneberger, Fischer and Brox (2015), as a Keras functional model.

```python
model = build_unet("original")
logits = model(images)  # [N, 572, 572, 3] of 0..255 -> [N, 388, 388, 1]
```
"""

import functools
from collections.abc import Callable
from typing import Any

import keras

from unet_core.blocks import Blocks
from unet_core.config import UNetConfig
from unet_core.geometry import Geometry
from unet_core.presets import find_preset


def build_unet(
    config: UNetConfig | str | None = None, *, dtype: str | None = None
) -> keras.Model:
    """Builds the graph of figure 1: down on the left, up on the right.

    Args:
      config: Options, or the name of a preset; None means the defaults, "original".
      dtype: Keras dtype policy, such as "float32" or "mixed_bfloat16"; None means the
        global policy. Pixels are scaled and logits computed in float32 in any case.

    Returns:
      A model from pixel values 0..255, [N, H, W, input_channels], to float32 logits
      [N, H - 2m, W - 2m, classes], where m is `Geometry.margin` (0 for padding
      "same"). H and W are free among `Geometry`'s valid sizes; for any other the
      model raises a ValueError that names the nearest (a model loaded from its file
      has Keras's own error there). The model scales pixel values itself, to -1..1.
      With deep supervision it returns a list of logits.

    Raises:
      ValueError: There is no such preset, or Keras does not know the activation.
    """
    if isinstance(config, str):
        config = find_preset(config)
    config = config or UNetConfig()
    block = Blocks(config, dtype)
    filters = [config.base_filters * 2**level for level in range(config.depth + 1)]
    geometry = Geometry(config.depth, config.padding, config.upsampling)
    crops = geometry.crop_sizes
    levels = range(config.depth)

    image = keras.Input((None, None, config.input_channels), name="image")
    x = keras.layers.Rescaling(1 / 127.5, -1.0, name="rescale", dtype="float32")(image)

    skips = []
    for level in levels:
        stage = f"encoder_{level}"
        x = block.convolutions(x, filters[level], stage)
        if level == levels[-1]:
            x = block.dropout(x, stage)
        skips.append(x)
        x = block.max_pool(x, stage)

    x = block.convolutions(x, filters[-1], "bottleneck")
    x = block.dropout(x, "bottleneck")

    heads = []
    for level in reversed(levels):
        stage = f"decoder_{level}"
        x = block.up_convolution(x, filters[level], stage)
        x = block.copy_and_crop(skips[level], x, crops[level], stage)
        x = block.convolutions(x, filters[level], stage)
        if level == 0:
            heads.append(block.logits(x, "logits"))
        elif level <= config.deep_supervision:
            heads.append(block.logits(x, f"logits_{level}"))

    outputs = heads[::-1] if config.deep_supervision else heads[0]
    model = keras.Model(image, outputs, name="unet")
    # On the instance, so that the class stays the stock one and a `.keras` file loads
    # without this package.
    model.call = _checking_sizes(model.call, geometry)
    return model


def _checking_sizes(call: Callable[..., Any], geometry: Geometry) -> Callable[..., Any]:
    """Has a call refuse images of invalid sizes, as far as the sizes are known."""

    @functools.wraps(call)
    def checked_call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        for side in keras.tree.flatten(inputs)[0].shape[1:3]:
            if side is not None:
                geometry.output_size(side)
        return call(inputs, *args, **kwargs)

    return checked_call


def read_geometry(model: keras.Model) -> Geometry:
    """The sizes of a U-Net, read off its layers.

    Args:
      model: From `build_unet`, or loaded from its `.keras` file.

    Raises:
      ValueError: The model has no poolings or no convolutions.
    """
    pools, convolutions, resizes = (
        [layer for layer in model.layers if isinstance(layer, kind)]
        for kind in (
            keras.layers.MaxPooling2D,
            keras.layers.Conv2D,
            keras.layers.UpSampling2D,
        )
    )
    convolutions = [each for each in convolutions if each.kernel_size == (3, 3)]
    if not pools or not convolutions:
        raise ValueError(
            f"The model {model.name!r} has {len(convolutions)} convolutions and"
            f" {len(pools)} poolings, so it is no U-Net. Use a model of"
            " `unet_core.build_unet`."
        )
    return Geometry(
        depth=len(pools),
        padding=convolutions[0].padding,
        upsampling="resize" if resizes else "transposed",
    )
