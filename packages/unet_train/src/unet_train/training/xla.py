"""Whether a step is compiled with XLA: as asked, or where that is known to gain.

```python
is_compiled(TrainerOptions(max_steps=100), task.model, on_cpu=True)  # False
```
"""

from __future__ import annotations

import logging
import re

import keras
import tensorflow as tf

from unet_train.data.share import ALL, Share
from unet_train.options import TrainerOptions

_LOG = logging.getLogger("unet_train")
_UNCOMPILED = "tf2xla conversion failed|Detected unsupported operations"


def is_compiled(
    options: TrainerOptions, model: keras.Model, *, on_cpu: bool, share: Share = ALL
) -> bool:
    """Whether a run's steps are: as asked, and for "auto" by the rule of `model.fit`.

    That is yes on one GPU if every layer can be compiled, and no on processors, on
    several devices and where all is to repeat to the bit. Other than there, a product
    is compiled first: TensorFlow's packages for GPUs do not bring XLA all that it needs
    everywhere, and then a run does without.

    Args:
      options: What was asked for.
      model: What is trained.
      on_cpu: Whether on a processor.
      share: How a batch goes round the devices.
    """
    if options.jit_compile != "auto":
        return options.compiles
    gains = not (on_cpu or share.is_spread or options.deterministic)
    # Those within nested models and layers too, as Keras asks them.
    gains = gains and all(layer.supports_jit for layer in model._flatten_layers())
    return gains and _works()


def explain_uncompiled(error: tf.errors.OpError) -> Exception:
    """The error for people, if XLA cannot compile a step; else itself."""
    if not re.search(_UNCOMPILED, str(error)):
        return error
    reason = error.message.strip().splitlines()[0].rstrip(".:")
    return ValueError(
        f"XLA cannot compile the steps of this run ({reason}): a part of the network,"
        " the loss or the optimizer is not made for it. Give --trainer.jit_compile"
        " false."
    )


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
