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
from unet_core.encoders import load_encoder
from unet_core.geometry import Geometry
from unet_core.operations import Operation
from unet_core.presets import find_preset
from unet_core.stages import Network


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
      ValueError: There is no such preset, Keras does not know the activation, or the
        encoder's weights are of another network.
      ImportError: The encoder's weights are not installed.

    Example:
      ```python
      import numpy as np
      from unet_core import UNetConfig, build_unet

      model = build_unet(UNetConfig(depth=2, base_filters=8, classes=3))
      logits = model(np.zeros((1, 92, 108, 3), np.float32))
      assert logits.shape == (1, 52, 68, 3)
      ```
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
        layer = operation.make(dtype)
        sources = [tensors[each] for each in operation.sources] or [image]
        tensors[operation] = layer(sources if len(sources) > 1 else sources[0])

    logits = [tensors[each] for each in network.outputs]
    outputs = logits if config.deep_supervision else logits[0]
    model = keras.Model(image, outputs, name="unet")
    if config.encoder_weights is not None:
        load_encoder(model, config)
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
