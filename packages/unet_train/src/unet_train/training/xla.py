"""Whether a step is compiled with XLA: as asked, or where that is known to gain.

```python
options = settle_xla(TrainerOptions(max_steps=100), task.model, place=place)
options.jit_compile  # True or False
```
"""

from __future__ import annotations

import dataclasses
import logging

import keras
import tensorflow as tf

from unet_train.options import TrainerOptions
from unet_train.training.devices import Place

_LOG = logging.getLogger("unet_train")


def settle_xla(
    options: TrainerOptions, model: keras.Model, *, place: Place
) -> TrainerOptions:
    """Puts yes or no in the place of `jit_compile: auto`, by the rule of `model.fit`.

    That is yes on one GPU if every layer can be compiled, and no on processors, on
    several devices and where all is to repeat to the bit. Other than there, a product
    is compiled first: TensorFlow's packages for GPUs do not bring XLA all that it needs
    everywhere, and then a run does without.

    Args:
      options: What was asked for.
      model: What is trained.
      place: Where.
    """
    if options.jit_compile != "auto":
        return options
    gains = not (place.is_cpu or place.is_spread or options.deterministic)
    gains = gains and all(layer.supports_jit for layer in model.layers)
    return dataclasses.replace(options, jit_compile=gains and _works())


def _works() -> bool:
    """Whether XLA compiles anything on this machine; warns if it does not."""
    ones = tf.ones((8, 8))

    @tf.function(jit_compile=True, autograph=False)
    def compute() -> tf.Tensor:
        return tf.exp(ones @ ones)

    try:
        compute()
    except tf.errors.OpError as error:
        _LOG.warning(
            "XLA does not work here, and steps are not compiled: %s. Training goes on"
            " without; --trainer.jit_compile false says nothing of it.",
            error.message.splitlines()[0].rstrip("."),
        )
        return False
    return True
