"""What options refuse: fault, value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def require_positive(options: Any, *names: str) -> None:
    """Refuses values that are not above zero; None means "not set" and passes."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise ValueError(f"`{name}` must be above 0. Received: {value}")


def require_from(options: Any, least: float, *names: str) -> None:
    """Refuses values below the least."""
    for name in names:
        if not getattr(options, name) >= least:
            raise ValueError(
                f"`{name}` must be at least {least}. Received: {getattr(options, name)}"
            )


def require_share(options: Any, *names: str) -> None:
    """Refuses what is no share, and 1."""
    for name in names:
        if not 0 <= getattr(options, name) < 1:
            raise ValueError(
                f"`{name}` must be at least 0 and below 1. Received:"
                f" {getattr(options, name)}"
            )


def require_sizes(name: str, value: int | Sequence[int]) -> tuple[int, ...]:
    """One size in pixels, or several that differ, as a tuple; refuses all else."""
    sizes = (value,) if isinstance(value, int) else tuple(value)
    if not sizes or min(sizes) < 1 or len(set(sizes)) < len(sizes):
        raise ValueError(
            f"`{name}` must be a number of pixels above 0, or several that differ."
            f" Received: {value}"
        )
    return sizes


def require_choice(options: Any, name: str, choices: tuple[str, ...]) -> None:
    """Refuses what is none of the choices."""
    value = getattr(options, name)
    if value not in choices:
        raise ValueError(
            f"`{name}` must be one of {list(choices)}. Received: {value!r}"
        )
