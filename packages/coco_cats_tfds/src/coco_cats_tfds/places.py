"""Which photos are for validation: a share of them that follows from their names.

>>> is_for_validation("photos/cat.jpg", 0.2), is_for_validation("photos/dog.jpg", 0.2)
(False, False)
"""

from __future__ import annotations

import hashlib
import pathlib


def is_for_validation(file_name: str, share: float) -> bool:
    """Whether a photo is one of a share of all, by the last part of its name.

    Each photo for itself: more of them move none, and a larger share keeps all of a
    smaller one.
    """
    return place_of(pathlib.PurePosixPath(file_name).name) < share


def place_of(name: str) -> float:
    """A number from 0 to 1 that follows from the name alone."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
