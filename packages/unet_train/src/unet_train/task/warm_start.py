"""Weights that are there already, in place of random ones.

```python
taken = start_from(task, "runs/cats")  # Or best/step_00001000, or model.keras.
print(taken, taken.left)  # 120 of 122 weights of runs/cats ('logits',)
```
"""

from __future__ import annotations

import dataclasses
import logging
import os
from typing import TYPE_CHECKING

import keras

from unet_train.runs.load import load_network
from unet_train.task.layers import weights_by_place

if TYPE_CHECKING:
    from unet_train.task.segmentation import SegmentationTask

_LOG = logging.getLogger("unet_train")
_NAMED = 10


@dataclasses.dataclass(frozen=True)
class Taken:
    """Which weights of a model are from somewhere else.

    Attributes:
      source: Where they are from.
      count: How many were taken.
      total: How many the model has.
      left: Names of the layers that have others, at their initial values.
    """

    source: str
    count: int
    total: int
    left: tuple[str, ...]

    def __str__(self) -> str:
        """How many of whose."""
        return f"{self.count} of {self.total} weights of {self.source}"


def start_from(task: SegmentationTask, path: str | os.PathLike[str]) -> Taken:
    """Gives a task's model, and its averages, the weights that fit.

    Warns of layers that keep initial values.

    Args:
      task: That has trained no step yet.
      path: As for `load_network`: a run, a folder with `model.keras`, such a file.

    Raises:
      ValueError: It is none of these, or no weight fits.
    """
    taken = take_weights(task.model, load_network(path), source=os.fspath(path))
    for average, weight in zip(task.averages, task.model.weights, strict=False):
        average.assign(weight)
    if taken.left:
        more = len(taken.left) - _NAMED
        _LOG.warning(
            "%s taken. At their initial values are left: %s%s.",
            taken, ", ".join(taken.left[:_NAMED]),
            f" and {more} more layers" if more > 0 else "",
        )  # fmt: skip
    return taken


def take_weights(model: keras.Model, other: keras.Model, *, source: str) -> Taken:
    """Gives a model every weight of another one that fits, frozen ones too.

    A weight fits one of the same shape at the same place in the layer of its name. A
    layer's weights are taken together or not at all, since half of one is worth
    nothing; those of a model within the model one by one.

    Args:
      model: Is changed.
      other: Is not.
      source: What errors call the other one.

    Raises:
      ValueError: None fits.
    """
    found = dict(weights_by_place(other))
    places = dict(weights_by_place(model))
    misfits = {
        place
        for place, weight in places.items()
        if place not in found or found[place].shape != weight.shape
    }
    left = {name for name, _ in misfits}
    inner = {each.name for each in model.layers if isinstance(each, keras.Model)}
    fitting = [
        place
        for place in places
        if place not in misfits and (place[0] not in left or place[0] in inner)
    ]
    if not fitting:
        raise ValueError(
            f"No weight of {source} fits the model: none is of the same layer and"
            f" shape. It has the layers {_some(other)}, the model {_some(model)}. Give"
            " the options `model` that it was trained with, or train from the start."
        )
    for place in fitting:
        places[place].assign(found[place].numpy())
    in_order = dict.fromkeys(name for name, _ in places if name in left)
    return Taken(source, len(fitting), len(places), tuple(in_order))


def _some(model: keras.Model) -> str:
    names = [layer.name for layer in model.layers if layer.weights]
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "") or "none"
