"""The five blocks of the paper's figure 1, as functions over stock Keras layers.

Each takes and gives a Keras tensor [batch, height, width, channels]. Layers carry the
stage's name (`encoder_0_conv_1`), so a summary reads like the figure and a saved
`.keras` file needs nothing but Keras to load.
"""

import dataclasses
from typing import Any

from keras import KerasTensor, layers

from unet_core.config import UNetConfig


@dataclasses.dataclass(frozen=True)
class Blocks:
    """The blocks, with the options that all of them share.

    Attributes:
      config: Norm and padding apply to every block.
      dtype: Keras dtype policy of the layers, None for the global one.
    """

    config: UNetConfig
    dtype: str | None = None

    def convolutions(self, x: KerasTensor, filters: int, stage: str) -> KerasTensor:
        """Conv 3x3, ReLU, twice; [H, W, C] to [H-4, W-4, filters] if "valid"."""
        for index in (1, 2):
            x = layers.Conv2D(
                filters,
                3,
                padding=self.config.padding,
                activation="relu",
                name=f"{stage}_conv_{index}",
                **self._initialised(),
            )(x)
            x = self._norm(x, f"{stage}_norm_{index}")
        return x

    def max_pool(self, x: KerasTensor, stage: str) -> KerasTensor:
        """Max pool 2x2; [H, W, C] to [H/2, W/2, C]."""
        return layers.MaxPooling2D(2, name=f"{stage}_pool", dtype=self.dtype)(x)

    def up_convolution(self, x: KerasTensor, filters: int, stage: str) -> KerasTensor:
        """Up-conv 2x2; [H, W, C] to [2H, 2W, filters]."""
        x = layers.Conv2DTranspose(
            filters, 2, strides=2, name=f"{stage}_up", **self._initialised()
        )(x)
        return self._norm(x, f"{stage}_up_norm")

    def copy_and_crop(
        self, skip: KerasTensor, x: KerasTensor, crop: int, stage: str
    ) -> KerasTensor:
        """Crops the skip by `crop` pixels a side and puts it before `x`."""
        if self.config.padding == "valid":
            skip = layers.Cropping2D(crop, name=f"{stage}_crop", dtype=self.dtype)(skip)
        merge = layers.Concatenate(name=f"{stage}_concat", dtype=self.dtype)
        return merge([skip, x])

    def logits(self, x: KerasTensor) -> KerasTensor:
        """Conv 1x1 to one channel a class; computed in float32 at any precision."""
        return layers.Conv2D(
            self.config.classes,
            1,
            name="logits",
            kernel_initializer="he_normal",
            dtype="float32",
        )(x)

    def _norm(self, x: KerasTensor, name: str) -> KerasTensor:
        if self.config.norm == "none":
            return x
        return layers.BatchNormalization(
            momentum=self.config.norm_momentum, name=name, dtype=self.dtype
        )(x)

    def _initialised(self) -> dict[str, Any]:
        # He et al. (2015), as the paper's section 3: standard deviation sqrt(2 / N).
        return {"kernel_initializer": "he_normal", "dtype": self.dtype}
