"""The U-Net of Ronneberger, Fischer and Brox (2015), as a Keras functional model.

```python
model = build_unet(UNetConfig(base_filters=64))
logits = model(images)  # [N, 572, 572, 3] of 0..255 -> [N, 388, 388, 1]
```
"""

import keras

from unet_core import geometry
from unet_core.blocks import Blocks
from unet_core.config import Padding, UNetConfig


def build_unet(
    config: UNetConfig | None = None, *, dtype: str | None = None
) -> keras.Model:
    """Builds the graph of figure 1: down on the left, up on the right.

    Args:
      config: Options; None means the defaults.
      dtype: Keras dtype policy, such as "float32" or "mixed_bfloat16"; None means the
        global policy. Pixels are scaled and logits computed in float32 in any case.

    Returns:
      A model from pixel values 0..255, [N, H, W, input_channels], to float32 logits
      [N, H - 2m, W - 2m, classes], where m is `geometry.margin` (0 for padding
      "same"). H and W are free among `geometry`'s valid sizes. The model scales pixel
      values itself, to -1..1.
    """
    config = config or UNetConfig()
    block = Blocks(config, dtype)
    filters = [config.base_filters * 2**level for level in range(config.depth + 1)]
    crops = geometry.crop_sizes(config.depth)
    levels = range(config.depth)

    image = keras.Input((None, None, config.input_channels), name="image")
    x = keras.layers.Rescaling(1 / 127.5, -1.0, name="rescale", dtype="float32")(image)

    skips = []
    for level in levels:
        stage = f"encoder_{level}"
        x = block.convolutions(x, filters[level], stage)
        skips.append(x)
        x = block.max_pool(x, stage)

    x = block.convolutions(x, filters[-1], "bottleneck")

    for level in reversed(levels):
        stage = f"decoder_{level}"
        x = block.up_convolution(x, filters[level], stage)
        x = block.copy_and_crop(skips[level], x, crops[level], stage)
        x = block.convolutions(x, filters[level], stage)

    return keras.Model(image, block.logits(x), name="unet")


def read_geometry(model: keras.Model) -> tuple[int, Padding]:
    """Depth and padding of a U-Net, read off its layers: enough for `geometry`.

    Args:
      model: From `build_unet`, or loaded from its `.keras` file.

    Raises:
      ValueError: The model has no poolings or no convolutions.
    """
    pools, convolutions = (
        [layer for layer in model.layers if isinstance(layer, kind)]
        for kind in (keras.layers.MaxPooling2D, keras.layers.Conv2D)
    )
    if not pools or not convolutions:
        raise ValueError(
            f"The model {model.name!r} has {len(convolutions)} convolutions and"
            f" {len(pools)} poolings, so it is no U-Net. Use a model of"
            " `unet_core.build_unet`."
        )
    return len(pools), convolutions[0].padding
