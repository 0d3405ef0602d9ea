"""Named networks, each with how it deviates from the one it is named after.

```python
model = build_unet("paper")
model = build_unet(dataclasses.replace(presets.blog_2018(), base_filters=32))
```

`blog_2018` is the default: the network of the system that this project does again, for
photographs in colour and one class, with batch norm to train from scratch.
"""

import warnings
from collections.abc import Callable

from unet_core.config import UNetConfig


def paper() -> UNetConfig:
    """Ronneberger, Fischer and Brox (2015), figure 1: 31,030,658 parameters.

    Grey input, two classes, no norm, He initialisation, dropout at the end of the
    contracting path. Deviations: the graph scales pixel values 0..255 to -1..1, which
    the paper leaves open; the share of dropout, 0.5, is not in the paper; biases start
    at 0; weights are drawn from a normal distribution cut off at 2 standard deviations
    and scaled to that of the paper, as Keras's "he_normal" is, not from the whole one.
    """
    return UNetConfig(input_channels=1, classes=2, norm="none", dropout=0.5)


def blog_2018() -> UNetConfig:
    """The default, of a blog post of 2018: RGB, one logit, batch norm.

    31,059,137 parameters, of which 31,045,441 are trained.

    Batch norm after each ReLU and after each up-convolution, as there. Deviations:
    logits in place of a sigmoid in the graph; prediction uses moving statistics; pixel
    values are scaled in the graph.
    """
    return UNetConfig()


def same() -> UNetConfig:
    """`blog_2018` with zero padding: the output is as large as the input.

    Deviates from the paper, whose outputs depend on real pixels only: towards the
    border of the image outputs see zeros. Sizes must be multiples of 16.
    """
    return UNetConfig(padding="same")


def small() -> UNetConfig:
    """For a CPU: depth 3, 16 filters, padded: 485,297 parameters, 5% of `same`'s work.

    Deviates from the paper in all but the order of its layers. Its moving statistics
    follow within some ten steps, for runs of a few hundred.
    """
    return UNetConfig(depth=3, base_filters=16, padding="same", norm_momentum=0.9)


def tiny() -> UNetConfig:
    """For tests and first tries: depth 2, 8 filters, padded: 30,201 parameters.

    Deviates from the paper in all but the order of its layers.
    """
    return UNetConfig(depth=2, base_filters=8, padding="same", norm_momentum=0.9)


PRESETS: dict[str, Callable[[], UNetConfig]] = {
    preset.__name__: preset for preset in (paper, blog_2018, same, small, tiny)
}
"""Every preset by name."""

_RENAMED = {"original": "blog_2018"}


def find_preset(name: str) -> UNetConfig:
    """The configuration of a preset.

    A name that it had before still finds it, with a FutureWarning.

    Raises:
      ValueError: There is no such preset.
    """
    if name in _RENAMED:
        warnings.warn(
            f"The preset {name!r} is now {_RENAMED[name]!r}, since {name!r} read as the"
            ' network of the paper, which is "paper". Use the new name.',
            FutureWarning,
            stacklevel=2,
        )
        name = _RENAMED[name]
    if name not in PRESETS:
        raise ValueError(f"No preset is named {name!r}. There are: {sorted(PRESETS)}.")
    return PRESETS[name]()
