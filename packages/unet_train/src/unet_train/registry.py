"""Parts of a run by name or by class path: losses, optimizers, schedules, models.

>>> make_part("half", {"half": lambda: 0.5})
0.5
>>> make_part("fractions.Fraction", {})
Fraction(0, 1)
>>> make_part({"class_path": "fractions.Fraction", "init_args": {"numerator": 2}}, {})
Fraction(2, 1)
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from unet_train.options import Part


def make_part(
    spec: Part,
    known: Mapping[str, Callable[..., Any]],
    *,
    kinds: tuple[type, ...] = (),
    **given: Any,
) -> Any:
    """Makes what a configuration asks for.

    Args:
      spec: A key of `known`; a class path, "package.module.Name"; or `{"class_path":
        "package.module.Name", "init_args": {...}}`, where any callable may stand for
        the class.
      known: The parts that have a name.
      kinds: What a mere class path must be a class of; none for any callable. So a
        configuration that somebody slipped in calls nothing else.
      **given: Further arguments, which `init_args` may replace.

    Raises:
      ValueError: There is no such part, or it does not take these arguments.
    """
    if isinstance(spec, str) and spec in known:
        return known[spec](**given)
    if isinstance(spec, str):
        if "." not in spec:
            names = f"one of {sorted(known)}, " if known else ""
            raise ValueError(
                f"There is no {spec!r}. Give {names}a class path"
                " such as 'my_package.MyClass', or"
                " {'class_path': 'my_package.MyClass', 'init_args': {...}}."
            )
        _require_kind(spec, kinds)
        spec = {"class_path": spec}
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


def _require_kind(path: str, kinds: tuple[type, ...]) -> None:
    found = find_object(path)
    if kinds and not (isinstance(found, type) and issubclass(found, kinds)):
        names = " or ".join(dict.fromkeys(kind.__name__ for kind in kinds))
        raise ValueError(
            f"{path} is no class of the kind {names}. Give one, or describe"
            f" what makes one: {{'class_path': {path!r}, 'init_args': {{...}}}}."
        )


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
