"""JSON files that are known again, as PNG files by their text, until they are changed.

```python
path.write_text(json.dumps(marked({"images": []}, "unet-train predict")))
is_unchanged(path, "unet-train predict")  # True, until somebody corrects the file.
```

The mark is an entry `info`, which COCO's formats have room for. A bare list has none:
the checksum of `coco_results.json` is in the mark of the file beside it.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any


def marked(
    content: Mapping[str, Any],
    writer: str,
    lists: Mapping[str, list[Any]] | None = None,
) -> dict[str, Any]:
    """The content with a mark.

    Args:
      content: Of a JSON object, without `info`.
      writer: What `is_unchanged` knows it by.
      lists: Files beside it that hold bare lists, by name.
    """
    checksums = {name: _checksum(entries) for name, entries in (lists or {}).items()}
    info = {"description": writer, "lists": checksums}
    whole = {"info": info, **content}
    return {**whole, "info": {**info, "checksum": _checksum(whole)}}


def is_unchanged(path: pathlib.Path, writer: str) -> bool:
    """Whether a file holds what `marked` gave for this writer, indented or not."""
    content = _read(path)
    try:
        info = dict(content["info"])
        checksum = info.pop("checksum")
        return bool(
            info["description"] == writer
            and checksum == _checksum({**content, "info": info})
        )
    except (KeyError, TypeError, ValueError):  # None of ours has another form.
        return False


def is_unchanged_list(path: pathlib.Path, beside: pathlib.Path, writer: str) -> bool:
    """Whether a file holds the list that an unchanged file beside it vouches for."""
    if not is_unchanged(beside, writer):
        return False
    checksum = _read(beside)["info"]["lists"].get(path.name)
    return bool(checksum == _checksum(_read(path)))


def _read(path: pathlib.Path) -> Any:
    """What the file holds; nothing if it is no JSON."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _checksum(content: Any) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
