"""The five blocks of the paper's figure 1, as functions over stock Keras layers.

Each takes and gives a Keras tensor [batch, height, width, channels]. Layers carry the
stage's name (`encoder_0_conv_1`), so a summary reads like the figure and a saved
`.keras` file needs nothing but Keras to load.
"""

import dataclasses
from typing import Any

from keras import KerasTensor, initializers, layers

from unet_core.config import UNetConfig


@dataclasses.dataclass(frozen=True)
class Blocks:
    """The blocks, with the options that all of them share.

    Attributes:
      config: Norm, activation and padding apply to every block.
      dtype: Keras dtype policy of the layers, None for the global one.
    """

    config: UNetConfig
    dtype: str | None = None

    def convolutions(self, x: KerasTensor, filters: int, stage: str) -> KerasTensor:
        """Conv 3x3, ReLU, twice; [H, W, C] to [H-4, W-4, filters] if "valid"."""
        into = x
        for index in (1, 2):
            x = self._convolution(x, filters, f"{stage}_conv_{index}")
            x = self._norm(x, f"{stage}_norm_{index}")
        if self.config.stochastic_depth:
            x = self._or_shortcut(x, into, filters, stage)
        return x

    def max_pool(self, x: KerasTensor, stage: str) -> KerasTensor:
        """Max pool 2x2; [H, W, C] to [H/2, W/2, C]."""
        return layers.MaxPooling2D(2, name=f"{stage}_pool", dtype=self.dtype)(x)

    def up_convolution(self, x: KerasTensor, filters: int, stage: str) -> KerasTensor:
        """Up-conv 2x2; [H, W, C] to [2H, 2W, filters] (2 less if resized, "valid")."""
        if self.config.upsampling == "resize":
            x = layers.UpSampling2D(2, name=f"{stage}_resize", dtype=self.dtype)(x)
            x = layers.Conv2D(
                filters,
                3,
                padding=self.config.padding,
                name=f"{stage}_up",
                **self._initialised(),
            )(x)
        else:
            # An output sees one of the four taps: N is the number of channels, where
            # Keras counts four times half of them.
            he_normal = initializers.VarianceScaling(4.0)
            x = layers.Conv2DTranspose(
                filters,
                2,
                strides=2,
                name=f"{stage}_up",
                kernel_initializer=he_normal,
                dtype=self.dtype,
            )(x)
        return self._norm(x, f"{stage}_up_norm")

    def copy_and_crop(
        self, skip: KerasTensor, x: KerasTensor, crop: int, stage: str
    ) -> KerasTensor:
        """Crops the skip by `crop` pixels at each border and puts it before `x`."""
        merge = layers.Concatenate(name=f"{stage}_concat", dtype=self.dtype)
        return merge([self._crop(skip, crop, f"{stage}_crop"), x])

    def dropout(self, x: KerasTensor, stage: str) -> KerasTensor:
        """Sets values to 0 in training; [H, W, C] to [H, W, C]."""
        if not self.config.dropout:
            return x
        return layers.Dropout(
            self.config.dropout, name=f"{stage}_dropout", dtype=self.dtype
        )(x)

    def logits(self, x: KerasTensor, name: str) -> KerasTensor:
        """Conv 1x1 to one channel a class; computed in float32 at any precision."""
        return layers.Conv2D(
            self.config.classes,
            1,
            name=name,
            kernel_initializer="he_normal",
            dtype="float32",
        )(x)

    def _convolution(self, x: KerasTensor, filters: int, name: str) -> KerasTensor:
        return layers.Conv2D(
            filters,
            3,
            padding=self.config.padding,
            activation=self.config.activation,
            name=name,
            **self._initialised(),
        )(x)

    def _norm(self, x: KerasTensor, name: str) -> KerasTensor:
        options = {"name": name, "dtype": self.dtype}
        match self.config.norm:
            case "none":
                return x
            case "group":
                return layers.GroupNormalization(self.config.groups, **options)(x)
            case "layer":
                return layers.LayerNormalization(**options)(x)
            case kind:
                return layers.BatchNormalization(
                    momentum=self.config.norm_momentum,
                    synchronized=kind == "sync_batch",
                    **options,
                )(x)

    def _or_shortcut(
        self, x: KerasTensor, into: KerasTensor, filters: int, stage: str
    ) -> KerasTensor:
        """Leaves `x` out for some samples; what is left is a 1x1 convolution."""
        x = layers.Dropout(
            self.config.stochastic_depth,
            noise_shape=(None, 1, 1, 1),
            name=f"{stage}_drop_path",
            dtype=self.dtype,
        )(x)
        name = f"{stage}_shortcut"
        into = layers.Conv2D(filters, 1, name=name, **self._initialised())(into)
        into = self._crop(into, 2, f"{name}_crop")
        return layers.Add(name=f"{stage}_add", dtype=self.dtype)([into, x])

    def _crop(self, x: KerasTensor, crop: int, name: str) -> KerasTensor:
        if self.config.padding == "same":
            return x
        return layers.Cropping2D(crop, name=name, dtype=self.dtype)(x)

    def _initialised(self) -> dict[str, Any]:
        # He et al. (2015), as the paper's section 3: standard deviation sqrt(2 / N).
        return {"kernel_initializer": "he_normal", "dtype": self.dtype}
