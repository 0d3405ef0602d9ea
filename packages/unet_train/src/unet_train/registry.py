"""Parts of a run by name or by class path: losses, optimizers, schedules, models.

>>> make_part("half", {"half": lambda: 0.5})
0.5
>>> make_part({"class_path": "fractions.Fraction", "init_args": {"numerator": 2}}, {})
Fraction(2, 1)
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from unet_train.options import Part


def make_part(spec: Part, known: Mapping[str, Callable[..., Any]], **given: Any) -> Any:
    """Makes what a configuration asks for.

    Args:
      spec: A key of `known`; or `{"class_path": "package.module.Name", "init_args":
        {...}}`, where any callable may stand for the class.
      known: The parts that have a name.
      **given: Further arguments, which `init_args` may replace.

    Raises:
      ValueError: There is no such part, or it does not take these arguments.
    """
    if isinstance(spec, str):
        if spec not in known:
            raise ValueError(
                f"There is no {spec!r}. Give one of {sorted(known)}, or"
                " {'class_path': 'my_package.MyClass', 'init_args': {...}}."
            )
        return known[spec](**given)
    strange = set(spec) - {"class_path", "init_args"}
    if strange or not isinstance(spec.get("class_path"), str):
        raise ValueError(
            "A part is described by `class_path`, a text, and `init_args`. Received:"
            f" {spec}"
        )
    arguments = {**given, **(spec.get("init_args") or {})}
    make = find_object(spec["class_path"])
    try:
        return make(**arguments)
    except TypeError as error:
        raise ValueError(
            f"{spec['class_path']} does not take the arguments {arguments}: {error}."
            " Correct `init_args`."
        ) from error


def find_object(path: str) -> Any:
    """What `package.module.Name` stands for.

    Raises:
      ValueError: There is nothing of that name.
    """
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"Cannot import the class path {path!r}: {error}. It must be"
            " 'package.module.Name' of something installed, or on PYTHONPATH."
        ) from error
