"""The options of the U-Net. No TensorFlow here, so that a CLI can read them fast."""

import dataclasses
from typing import Literal, get_args

Norm = Literal["none", "batch"]
Padding = Literal["valid", "same"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """What to build. The defaults are the network of the original system (2018).

    The paper's network (Ronneberger et al. 2015, figure 1) is
    `UNetConfig(input_channels=1, classes=2, norm="none")`.

    Attributes:
      depth: Number of poolings, and of up-convolutions. The paper has 4.
      base_filters: Channels of the first stage; each stage down doubles them.
      input_channels: Channels of the input image, 3 for RGB.
      classes: Channels of the output: logits. One is enough for foreground against
        background (sigmoid); two or more are meant for a softmax.
      norm: "batch" puts batch normalisation after each ReLU and each up-convolution,
        "none" is the paper.
      norm_momentum: Of the moving statistics that prediction uses. 0.99 averages over
        about 100 steps; runs of a few hundred steps want 0.9.
      padding: "valid" is the paper: every output pixel is computed from real pixels
        and the output is smaller than the input. "same" pads with zeros and keeps the
        size, which is cheaper for small inputs.
    """

    depth: int = 4
    base_filters: int = 64
    input_channels: int = 3
    classes: int = 1
    norm: Norm = "batch"
    norm_momentum: float = 0.99
    padding: Padding = "valid"

    def __post_init__(self) -> None:
        for name in ("depth", "base_filters", "input_channels", "classes"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"`{name}` must be a whole number of at least 1. Received:"
                    f" {value!r}"
                )
        if self.depth > 8:
            raise ValueError(
                "`depth` above 8 halves the image more often than any photograph"
                f" bears; the paper has 4. Received: {self.depth}"
            )
        if not 0 <= self.norm_momentum < 1:
            raise ValueError(
                "`norm_momentum` must be at least 0 and below 1. Received:"
                f" {self.norm_momentum!r}"
            )
        for name, choices in (("norm", get_args(Norm)), ("padding", get_args(Padding))):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"`{name}` must be one of {list(choices)}. Received:"
                    f" {getattr(self, name)!r}"
                )
