"""Named networks, each with how it deviates from the one it is named after.

```python
model = build_unet("paper")
model = build_unet(dataclasses.replace(presets.original(), base_filters=32))
```
"""

from collections.abc import Callable

from unet_core.config import UNetConfig


def paper() -> UNetConfig:
    """Ronneberger, Fischer and Brox (2015), figure 1: 31,030,658 parameters.

    Grey input, two classes, no norm, He initialisation, dropout at the end of the
    contracting path. Deviations: the graph scales pixel values 0..255 to -1..1, which
    the paper leaves open; the share of dropout, 0.5, is not in the paper; biases start
    at 0.
    """
    return UNetConfig(input_channels=1, classes=2, norm="none", dropout=0.5)


def original() -> UNetConfig:
    """The blog post of 2018: RGB, one logit, batch norm: 31,045,441 trainable.

    Batch norm after each ReLU and after each up-convolution, as there. Deviations:
    logits in place of a sigmoid in the graph; prediction uses moving statistics; pixel
    values are scaled in the graph.
    """
    return UNetConfig()


def same() -> UNetConfig:
    """`original` with zero padding: the output is as large as the input.

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
    preset.__name__: preset for preset in (paper, original, same, small, tiny)
}
"""Every preset by name."""


def find_preset(name: str) -> UNetConfig:
    """The configuration of a preset.

    Raises:
      ValueError: There is no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f"No preset is named {name!r}. There are: {sorted(PRESETS)}.")
    return PRESETS[name]()
