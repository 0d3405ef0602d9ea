"""What the values of a mask mean: 0 background, 1 foreground, 255 ignored.

```python
labels = labels_of_mask(mask, DataOptions(foreground=[1, 2]))
```

TensorFlow is imported within a graph only: who counts labels needs none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from unet_train.options import DataOptions

if TYPE_CHECKING:
    import tensorflow as tf

IGNORE = 255
"""The label of a pixel that counts in no loss and no score."""

STRANGE = 254
"""In a table of labels: a value that a mask should not have."""

STRANGE_MASK = "A mask has a value that the options do not name."

_CURE = "Name every value with --data.foreground, --data.background and --data.ignored."


def label_table(options: DataOptions) -> npt.NDArray[np.uint8]:
    """The label, or `STRANGE`, of each value that a mask can have; uint8 [256]."""
    table = np.full(256, STRANGE, np.uint8)
    for values, label in (
        (options.background, 0),
        (options.foreground, 1),
        (options.ignored, IGNORE),
    ):
        table[values] = label
    return table


def labels_of_mask(
    mask: npt.NDArray[np.uint8], options: DataOptions
) -> npt.NDArray[np.uint8]:
    """The labels of a dataset's mask, of any shape.

    Raises:
      ValueError: It has a value that the options do not name.
    """
    labels = label_table(options)[mask]
    strange = np.unique(mask[labels == STRANGE])
    if strange.size:
        raise ValueError(
            f"A mask of {options.name!r} has the values {strange.tolist()}, but"
            f" foreground is {options.foreground}, background"
            f" {options.background}, ignored {options.ignored}. {_CURE}"
        )
    return labels


def labels_of_tensor(mask: tf.Tensor, options: DataOptions) -> tf.Tensor:
    """The same within a graph, where a value without a name fails as `STRANGE_MASK`."""
    import tensorflow as tf

    labels = tf.gather(tf.constant(label_table(options)), tf.cast(mask, tf.int32))
    known = tf.reduce_all(labels != STRANGE)
    fault = f"{STRANGE_MASK} ({options.name})"
    with tf.control_dependencies([tf.debugging.Assert(known, [fault])]):
        return tf.identity(labels)


def explained(error: tf.errors.InvalidArgumentError) -> Exception:
    """The error for people, if a mask's values are the cause; else itself."""
    from unet_train.data.decoding import DEEP_MASK

    if strange := re.search(rf"{STRANGE_MASK} \((\S+)\)", str(error)):
        return ValueError(
            f"In {strange[1]!r} a mask of the training split has a value that the"
            f" options do not name. {_CURE}"
        )
    deep = re.search(rf"{DEEP_MASK}\D*(\d+)", str(error))
    if deep is None:
        return error
    return ValueError(
        f"A mask has the value {deep[1]}, in a picture of 16 bits, and only values up"
        " to 255 can be labels. Build the dataset with masks whose values fit 8 bits."
    )
