"""What the values of a mask mean: 0 background, 1 foreground, 255 ignored.

```python
labels = labels_of_mask(mask, DataOptions(foreground=[1, 2]))
labels = labels_of_mask(mask, DataOptions(labels={"cat": [1], "dog": [2]}))
```

Of several classes the first is 1, the second 2 and so on.

TensorFlow is imported within a graph only: who counts labels needs none.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from unet_train.options import DataOptions
from unet_train.options.data import FOREGROUND

if TYPE_CHECKING:
    import tensorflow as tf

IGNORE = 255
"""The label of a pixel that counts in no loss and no score."""

STRANGE = 254
"""In a table of labels: a value that a mask should not have."""

STRANGE_MASK = "A mask has a value that the options do not name."

_CURE = (
    "Name every value with --data.foreground (of several classes --data.labels),"
    " --data.background and --data.ignored."
)


Mask = npt.NDArray[Any]
"""What a network found: bool, foreground, or of several classes uint8, their labels."""


def is_foreground(labels: Any) -> Any:
    """Where labels, an array or a tensor, are of any class."""
    return (labels != 0) & (labels != IGNORE)


def as_foreground(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The same labels without a difference between the classes: 0, 1 and 255."""
    return np.where(is_foreground(labels), np.uint8(1), labels)


def decide(probabilities: npt.NDArray[np.float32], threshold: float) -> Mask:
    """Foreground from a threshold on, bool [H, W]; or the most probable of labels.

    Args:
      probabilities: [H, W] of foreground, or [H, W, n + 1] of background and classes.
      threshold: For the former.
    """
    if probabilities.ndim == 2:
        return probabilities >= threshold
    return probabilities.argmax(-1).astype(np.uint8)


def with_labels(
    options: DataOptions, names: Sequence[Sequence[str] | None]
) -> DataOptions:
    """The options with the classes that the datasets name, where no option does.

    A dataset does so by names for its masks' labels, background first. Other than by
    default, `foreground` says which of these are to be found, as one class.

    Args:
      options: Of all datasets.
      names: Of each dataset, the first one first, those of its labels from 0, if any.

    Raises:
      ValueError: The first dataset names classes, and a further one does not.
    """
    labels = options.labels
    if labels is None and options.foreground == [1]:
        labels = _named(names[0])
    if labels is None:
        if named := [each.name for each in options.also if each.labels is not None]:
            raise ValueError(
                f"The datasets {named} in `also` have `labels`, and {options.name!r}"
                " has one class without a name. Give that one --data.labels too."
            )
        return options
    _require_same(options.name, labels, names[0])
    also = []
    for each, own in zip(options.also, names[1:], strict=True):
        of_it = each.labels or _named(own) if each.foreground is None else each.labels
        if of_it is None and options.labels is None:
            raise ValueError(
                f"The dataset {options.name!r} names the classes {list(labels)}, and"
                f" {each.name!r} in `also` names none. Give that one `labels`, such as"
                f" {{{next(iter(labels))}: [1]}}."
            )
        _require_same(each.name, of_it or labels, own)
        also.append(dataclasses.replace(each, labels=of_it))
    return dataclasses.replace(options, labels=labels, also=also)


def _require_same(
    dataset: str, labels: dict[str, list[int]], names: Sequence[str] | None
) -> None:
    """Refuses labels that call a value otherwise than the dataset does."""
    for value, name in enumerate(names or ()):
        if labels.get(name) and value not in labels[name]:
            raise ValueError(
                f"`labels` have {name!r} as {labels[name]}, and the dataset"
                f" {dataset!r} as {value}. Correct --data.labels, or leave them out to"
                " take the dataset's."
            )


def _named(names: Sequence[str] | None) -> dict[str, list[int]] | None:
    if not names or names[0] != "background" or len(names) < 2:
        return None
    return {name: [value] for value, name in enumerate(names) if value}


def default_names(logits: int) -> tuple[str, ...]:
    """Of the classes that so many logits tell, before the data names them.

    Raises:
      ValueError: Two, which are one too many for one class.
    """
    if logits == 2:
        raise ValueError(
            "The model has 2 logits a pixel. For one class one is enough, which its"
            " background does without (`model.classes` 1); for n of them it is n + 1."
        )
    return FOREGROUND if logits == 1 else tuple(map(str, range(1, logits)))


def logits_for(names: Sequence[str]) -> int:
    """How many a network has for these classes: one, or one more than there are."""
    return 1 if len(names) == 1 else len(names) + 1


def require_logits(logits: int, names: Sequence[str]) -> None:
    """Refuses a network that tells another number of classes.

    Raises:
      ValueError: With both numbers and the cure.
    """
    if logits != logits_for(names):
        raise ValueError(
            f"The model has {logits} logits a pixel, and the data has {len(names)}"
            f" classes, {', '.join(names)}, for which it takes {logits_for(names)}"
            " (one for one class, else one for each and one for the background)."
            f" Build it with `model.classes` {logits_for(names)}, or correct"
            " --data.labels."
        )


def label_table(options: DataOptions) -> npt.NDArray[np.uint8]:
    """The label, or `STRANGE`, of each value that a mask can have; uint8 [256]."""
    table = np.full(256, STRANGE, np.uint8)
    for values, label in (
        (options.background, 0),
        *((values, label) for label, values in enumerate(options.classes.values(), 1)),
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
        found = options.foreground if options.labels is None else options.labels
        raise ValueError(
            f"A mask of {options.name!r} has the values {strange.tolist()}, but"
            f" foreground is {found}, background"
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


def explained(error: Exception) -> Exception:
    """The error for people, if a mask or a map is the cause; else itself."""
    from unet_train.data.decoding import BAD_INSTANCES, DEEP_MASK

    if strange := re.search(rf"{STRANGE_MASK} \((\S+)\)", str(error)):
        return ValueError(
            f"In {strange[1]!r} a mask of the training split has a value that the"
            f" options do not name. {_CURE}"
        )
    if fault := re.search(rf"{BAD_INSTANCES} [\w ]+", str(error)):
        return ValueError(
            f"{fault[0]}. Build the dataset with PNGs of one grey channel, as large as"
            " the masks, or leave --data.instance_feature out."
        )
    deep = re.search(rf"{DEEP_MASK}\D*(\d+)", str(error))
    if deep is None:
        return error
    return ValueError(
        f"A mask has the value {deep[1]}, in a picture of 16 bits, and only values up"
        " to 255 can be labels. Build the dataset with masks whose values fit 8 bits."
    )
