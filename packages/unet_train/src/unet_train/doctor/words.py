"""Shares and times as people say them."""

from __future__ import annotations


def share(part: float) -> str:
    """A share as a percentage of two or three digits.

    >>> share(0.123), share(0.00123)
    ('12.3%', '0.12%')
    """
    return f"{part:.1%}" if part >= 0.01 or part == 0 else f"{part:.2%}"


def duration(seconds: float) -> str:
    """A time for people.

    >>> duration(30), duration(3000), duration(30000)
    ('30 seconds', '50 minutes', '8.3 hours')
    """
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
