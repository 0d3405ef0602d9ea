"""The network of the paper's figure 1 as data: its operations, stage by stage.

This one list is the network: `model.py` makes a layer of each operation, `geometry.py`
takes sizes and reach from what each does to a length, `summary.py` adds up what each
costs.

>>> for each, size in Network(UNetConfig(depth=1, norm="none")).sizes(60).items():
...     print(f"{size} x {each.channels:3} {each.layer:15} {each.name}")
60 x   3 Rescaling       rescale
58 x  64 Conv2D          encoder_0_conv_1
56 x  64 Conv2D          encoder_0_conv_2
28 x  64 MaxPooling2D    encoder_0_pool
26 x 128 Conv2D          bottleneck_conv_1
24 x 128 Conv2D          bottleneck_conv_2
48 x  64 Conv2DTranspose decoder_0_up
48 x  64 Cropping2D      decoder_0_crop
48 x 128 Concatenate     decoder_0_concat
46 x  64 Conv2D          decoder_0_conv_1
44 x  64 Conv2D          decoder_0_conv_2
44 x   1 Conv2D          logits
"""

from typing import Any

from unet_core.config import UNetConfig
from unet_core.encoders import add_encoder
from unet_core.encoders.class_prior import add_class_prior
from unet_core.operations import Operation, add, sizes


class Network:
    """Figure 1: down on the left, up on the right.

    Attributes:
      operations: Each after its sources.
      outputs: Those that give logits, of the full size first.
    """

    def __init__(self, config: UNetConfig) -> None:
        """Lists the operations of the network with these options."""
        self._config = config
        self.operations: list[Operation] = []
        if config.encoder is None:
            x, skips = self._way_down()
        else:
            end, skips = add_encoder(config, self.operations)
            x = self._dropout(end, "bottleneck")

        heads = []
        for level in reversed(range(config.depth)):
            stage, filters = f"decoder_{level}", config.filters_up[level]
            x = self._up_convolution(x, filters, stage)
            x = self._copy_and_crop(skips[level], x, stage)
            x = self._convolutions(x, filters, stage)
            if level <= config.deep_supervision:
                heads.append(self._logits(x, f"logits_{level}" if level else "logits"))
        self.outputs = heads[::-1]
        if config.class_prior:
            logits, *_ = self.outputs
            self.outputs[0] = add_class_prior(
                end, logits, config.class_prior, self.operations
            )

    def sizes(self, image: int) -> dict[Operation, int]:
        """Height or width of the output of each, for that of an image: a valid size."""
        found = sizes(self.operations, image)
        assert found is not None, image
        return found

    def _way_down(self) -> tuple[Operation, list[Operation | None]]:
        """The paper's: the bottom, and what it leaves for the way up, top first."""
        config = self._config
        filters = [config.base_filters * 2**level for level in range(config.depth + 1)]
        x = self._add(
            "Rescaling", "rescale", scale=1 / 127.5, offset=-1.0, dtype="float32"
        )
        skips: list[Operation | None] = []
        for level in range(config.depth):
            stage = f"encoder_{level}"
            x = self._convolutions(x, filters[level], stage)
            if level == config.depth - 1:
                x = self._dropout(x, stage)
            skips.append(x)
            x = self._add("MaxPooling2D", f"{stage}_pool", x, pool_size=2)
        x = self._convolutions(x, filters[-1], "bottleneck")
        return self._dropout(x, "bottleneck"), skips

    def _convolutions(self, x: Operation, filters: int, stage: str) -> Operation:
        """Conv 3x3, ReLU, twice."""
        into, relu = x, self._config.activation
        for index in (1, 2):
            name = f"{stage}_conv_{index}"
            x = self._convolution(x, filters, 3, name, activation=relu)
            x = self._norm(x, f"{stage}_norm_{index}")
        if not self._config.stochastic_depth:
            return x
        # For some samples the two are left out; what is left is a convolution 1x1.
        share = {"rate": self._config.stochastic_depth, "noise_shape": (None, 1, 1, 1)}
        x = self._add("Dropout", f"{stage}_drop_path", x, **share)
        into = self._convolution(into, filters, 1, f"{stage}_shortcut")
        into = self._crop(into, x, f"{stage}_shortcut_crop")
        return self._add("Add", f"{stage}_add", into, x)

    def _up_convolution(self, x: Operation, filters: int, stage: str) -> Operation:
        """Up-conv 2x2; or each pixel four times, then conv 3x3."""
        if self._config.upsampling != "transposed":
            x = self._add("UpSampling2D", f"{stage}_resize", x, size=2)
        if self._config.upsampling == "nearest":
            return x
        if self._config.upsampling == "resize":
            x = self._convolution(x, filters, 3, f"{stage}_up")
        else:
            # An output sees one of the four taps: N is the number of channels, where
            # Keras's `he_normal` counts four times half of them.
            he_normal = {"class_name": "VarianceScaling", "config": {"scale": 4.0}}
            kernel = {"kernel_size": 2, "strides": 2, "kernel_initializer": he_normal}
            name = f"{stage}_up"
            x = self._add("Conv2DTranspose", name, x, filters=filters, **kernel)
        return self._norm(x, f"{stage}_up_norm")

    def _copy_and_crop(
        self, skip: Operation | None, x: Operation, stage: str
    ) -> Operation:
        """The middle of the skip, of the size of `x`, before `x`."""
        if skip is None:
            return x
        skip = self._crop(skip, x, f"{stage}_crop")
        return self._add("Concatenate", f"{stage}_concat", skip, x)

    def _dropout(self, x: Operation, stage: str) -> Operation:
        rate = self._config.dropout
        return self._add("Dropout", f"{stage}_dropout", x, rate=rate) if rate else x

    def _logits(self, x: Operation, name: str) -> Operation:
        """Conv 1x1 to one channel a class; computed in float32 at any precision."""
        return self._convolution(x, self._config.classes, 1, name, dtype="float32")

    def _convolution(
        self, x: Operation, filters: int, kernel: int, name: str, **options: Any
    ) -> Operation:
        padding = self._config.padding if kernel > 1 else "valid"
        options |= {"filters": filters, "kernel_size": kernel, "padding": padding}
        # He et al. (2015), as the paper's section 3: standard deviation sqrt(2 / N),
        # but for Keras, which draws no value beyond 2.3 of these.
        return self._add("Conv2D", name, x, kernel_initializer="he_normal", **options)

    def _norm(self, x: Operation, name: str) -> Operation:
        config = self._config
        match config.norm:
            case "none":
                return x
            case "group":
                return self._add("GroupNormalization", name, x, groups=config.groups)
            case "layer":
                return self._add("LayerNormalization", name, x)
            case kind:
                options = {"momentum": config.norm_momentum}
                options["synchronized"] = kind == "sync_batch"
                return self._add("BatchNormalization", name, x, **options)

    def _crop(self, x: Operation, to: Operation, name: str) -> Operation:
        """The middle of `x`, where it is larger than `to`."""
        if self._config.padding == "same":
            return x
        excess = (to.margin - x.margin) // x.pixel
        return self._add("Cropping2D", name, x, cropping=excess) if excess else x

    def _add(
        self, layer: str, name: str, *sources: Operation, **options: Any
    ) -> Operation:
        channels = self._config.input_channels
        return add(self.operations, layer, name, *sources, image=channels, **options)
