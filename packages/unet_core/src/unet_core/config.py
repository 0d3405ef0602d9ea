"""The options of the U-Net. No TensorFlow here, so that a CLI can read them fast."""

import contextlib
import dataclasses
import math
import numbers
import operator
from typing import Literal, SupportsIndex, get_args

Norm = Literal["none", "batch", "sync_batch", "group", "layer"]
Padding = Literal["valid", "same"]
Upsampling = Literal["transposed", "resize", "nearest"]

DECODER_FILTERS = (128, 64, 48, 32, 16)
"""Channels on the way up behind a pretrained encoder, unless told otherwise."""

_IMAGENET_CLASSES = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """What to build. The defaults are the preset "blog_2018".

    `unet_core.presets` has named ones, among them the paper's network.

    Example:
      ```python
      from unet_core import UNetConfig, build_unet

      model = build_unet(UNetConfig(depth=3, base_filters=16, padding="same"))
      ```

    Attributes:
      depth: Number of poolings, and of up-convolutions. The paper has 4.
      base_filters: Channels of the first stage; each stage down doubles them.
      input_channels: Channels of the input image, 3 for RGB.
      classes: Channels of the output: logits. One is enough for foreground against
        background (sigmoid); two or more are meant for a softmax.
      norm: "none" is the paper. The others follow each activation and each
        up-convolution: "batch" normalisation, with statistics joined over all GPUs as
        "sync_batch"; "group" (Wu and He 2018) with statistics of one image, for
        batches of one or two; "layer" over the channels of one pixel.
      norm_momentum: Of the moving statistics that prediction uses, for the two batch
        norms. 0.99 averages over about 100 steps; runs of a few hundred want 0.9.
      groups: Of channels, for norm "group".
      activation: After each 3x3 convolution; a name that Keras knows. The weights are
        initialised for "relu".
      dropout: Share of values set to 0 in training at the end of the contracting path:
        after its last stage and after the bottom. The paper does not say how many.
      upsampling: "transposed" is the paper's up-convolution 2x2; "resize" repeats each
        pixel and convolves 3x3, which leaves no checkerboard and costs a margin of
        7 * 2^depth - 5 pixels in place of 6 * 2^depth - 4; "nearest" only repeats.
      padding: "valid" is the paper: every output pixel is computed from real pixels
        and the output is smaller than the input. "same" pads with zeros and keeps the
        size, which is cheaper for small inputs.
      deep_supervision: Number of further heads, on the stages of the way up below the
        top one: the model then returns a list, the full-size logits first, then those
        of half the resolution, a quarter and so on (sizes: `Geometry.head_size`).
      stochastic_depth: Share of samples for which, in training, a stage's two
        convolutions are left out (Huang et al. 2016). Above 0 each stage gets a 1x1
        convolution as a shortcut, which then is all that is left of it.
      encoder: In place of the way down: "efficientnet_lite0", "efficientnet_lite1",
        "efficientnet_lite2", or a network of `keras.applications` by its name, such as
        "resnet50v2" or "ResNet50V2". `depth` is then the number of `decoder_filters`,
        `padding` is "same", and `base_filters` has no effect.
      encoder_weights: "imagenet"; None for weights to be trained from scratch; or the
        path of a file of them.
      decoder_filters: Channels of the stages on the way up, the deepest first; None for
        those of the way down, or with an encoder for (128, 64, 48, 32, 16).
      class_prior: For each of `classes`, the ImageNet classes that show it, by their
        numbers 0 to 999, such as ((281, 282, 283, 284, 285),) for house cats; none of
        them for a class that ImageNet does not know. Where the encoder's own classifier
        sees none of them, the logit gets lower (`encoders/class_prior.py`). Needs one
        of the EfficientNet-Lite with its weights and five stages up.
    """

    depth: int = 4
    base_filters: int = 64
    input_channels: int = 3
    classes: int = 1
    norm: Norm = "batch"
    norm_momentum: float = 0.99
    groups: int = 8
    activation: str = "relu"
    dropout: float = 0.0
    upsampling: Upsampling = "transposed"
    padding: Padding = "valid"
    deep_supervision: int = 0
    stochastic_depth: float = 0.0
    encoder: str | None = None
    encoder_weights: str | None = None
    decoder_filters: tuple[int, ...] | None = None
    class_prior: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        """Refuses what cannot be built.

        Raises:
          ValueError: An option or a combination of them is impossible.
        """
        self._complete_encoder()
        for name, least in (
            *(("depth", 1), ("base_filters", 1), ("input_channels", 1)),
            *(("classes", 1), ("groups", 1), ("deep_supervision", 0)),
        ):
            number = whole_number(name, getattr(self, name), least)
            object.__setattr__(self, name, number)
        self._complete_class_prior()
        for name in ("norm_momentum", "dropout", "stochastic_depth"):
            value = getattr(self, name)
            is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
            if not is_number or not 0 <= value < 1:
                raise ValueError(
                    f"`{name}` must be at least 0 and below 1. Received: {value!r}"
                )
            object.__setattr__(self, name, float(value))
        for name, kind in (
            *(("norm", Norm), ("padding", Padding), ("upsampling", Upsampling)),
        ):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(
                    f"`{name}` must be one of {list(get_args(kind))}. Received:"
                    f" {getattr(self, name)!r}"
                )
        if not isinstance(self.activation, str) or not self.activation:
            raise ValueError(
                '`activation` must be a name that Keras knows, such as "relu" or'
                f' "gelu". Received: {self.activation!r}'
            )
        self._check_combinations()

    @property
    def filters_up(self) -> tuple[int, ...]:
        """Channels of the stages on the way up, the one at the top first."""
        if self.decoder_filters is not None:
            return self.decoder_filters[::-1]
        return tuple(self.base_filters * 2**level for level in range(self.depth))

    def _complete_encoder(self) -> None:
        """Sets what follows from the encoder, and checks the way up."""
        if self.encoder_weights is not None and self.encoder is None:
            raise ValueError(
                f"`encoder_weights` {self.encoder_weights!r} are for no `encoder`. Name"
                ' one, such as encoder="efficientnet_lite0", or leave them out.'
            )
        if self.encoder is not None:
            if self.input_channels != 3:
                raise ValueError(
                    f"The encoder {self.encoder!r} takes photos of 3 channels."
                    f" Received `input_channels` {self.input_channels!r}"
                )
            if self.decoder_filters is None:
                object.__setattr__(self, "decoder_filters", DECODER_FILTERS)
            object.__setattr__(self, "padding", "same")
        if self.decoder_filters is None:
            return
        filters = tuple(
            whole_number("decoder_filters", each, 1) for each in self.decoder_filters
        )
        object.__setattr__(self, "decoder_filters", filters)
        if self.encoder is not None:
            object.__setattr__(self, "depth", len(filters))
        if len(filters) != self.depth:
            raise ValueError(
                f"`decoder_filters` names {len(filters)} stages on the way up, and"
                f" `depth` is {self.depth}. Received: {filters}"
            )

    def _complete_class_prior(self) -> None:
        """As tuples of Python's numbers, one a class.

        Raises:
          ValueError: They are not, or the encoder has no classifier.
        """
        if not self.class_prior:
            return
        received = f"Received: {self.class_prior!r}"
        try:
            prior = tuple(
                tuple(whole_number("class_prior", each, 0) for each in kinds)
                for kinds in self.class_prior
            )
        except TypeError:
            prior = ((_IMAGENET_CLASSES,),)
        if len(prior) != self.classes or max((0, *sum(prior, ()))) >= _IMAGENET_CLASSES:
            raise ValueError(
                "`class_prior` must have a tuple of numbers of ImageNet's classes, 0 to"
                f" 999, for each of the {self.classes} `classes`, such as ((281, 282,"
                f" 283, 284, 285),) for cats. {received}"
            )
        if self.encoder_weights is None or self.depth != len(DECODER_FILTERS):
            raise ValueError(
                "`class_prior` is read off the encoder's own classifier: it needs"
                f" `encoder_weights` and {len(DECODER_FILTERS)} `decoder_filters`."
                f" Received `encoder_weights` {self.encoder_weights!r} and"
                f" `decoder_filters` {self.decoder_filters}"
            )
        object.__setattr__(self, "class_prior", prior)

    def _check_combinations(self) -> None:
        if self.depth > 8:
            raise ValueError(
                "`depth` above 8 halves the image more often than any photograph"
                f" bears; the paper has 4. Received: {self.depth}"
            )
        if self.deep_supervision >= self.depth:
            raise ValueError(
                f"`deep_supervision` of {self.deep_supervision} needs as many stages"
                f" below the top one on the way up; a depth of {self.depth} has"
                f" {self.depth - 1}. Use fewer heads or more depth."
            )
        ways_up = [each for each in self.filters_up if each % self.groups]
        if self.norm == "group" and self.decoder_filters is not None and ways_up:
            raise ValueError(
                f"{ways_up[0]} channels of `decoder_filters` do not divide into"
                f" {self.groups} `groups`. Use groups="
                f"{math.gcd(self.groups, *self.filters_up)}, or other filters."
                f" Received: {self.decoder_filters}"
            )
        is_own = self.encoder is None
        if self.norm == "group" and is_own and self.base_filters % self.groups:
            fitting = math.gcd(self.base_filters, self.groups)
            raise ValueError(
                f"{self.base_filters} channels (`base_filters`) do not divide into"
                f" {self.groups} `groups`. Use groups={fitting}, or base_filters="
                f"{self.groups * max(1, round(self.base_filters / self.groups))}."
            )
        if self.norm == "layer" and self.base_filters == 1:
            raise ValueError(
                'Norm "layer" over the one channel of `base_filters=1` leaves nothing'
                ' of it. Use base_filters=2 or more, or norm="batch".'
            )
        if self.activation in ("softmax", "log_softmax"):
            raise ValueError(
                f"`activation` {self.activation!r} leaves nothing of a channel but its"
                ' share of all; it belongs after the logits. Use "relu".'
            )


def whole_number(name: str, value: object, least: int) -> int:
    """A number of any library as Python's own, which JSON knows and never overflows.

    Raises:
      ValueError: It is no whole number, or less than `least`.
    """
    number = None
    if not isinstance(value, bool) and isinstance(value, SupportsIndex):
        with contextlib.suppress(TypeError):  # An array says so, and may not be one.
            number = operator.index(value)
    if number is None or number < least:
        raise ValueError(
            f"`{name}` must be a whole number of at least {least}. Received: {value!r}"
        )
    return number
