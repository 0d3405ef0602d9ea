"""The doctor's pictures as files; those of anyone else are left alone.

```python
check_folder("pictures")
paths = write_drawings("pictures", found.drawings)
```
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping

from unet_train.inference.pictures import Pixels, is_marked, write_png

ALIGNMENT, LOGITS = "alignment.png", "logits.png"

Drawings = dict[str, Pixels]

# Says whose a picture is: only these are overwritten. So since version 0.1.0.
_WRITER = "unet-train doctor"


def check_folder(folder: str | os.PathLike[str]) -> None:
    """Refuses a folder in which a picture of someone else would be overwritten.

    Raises:
      ValueError: One is there.
    """
    for name in (ALIGNMENT, LOGITS):
        path = pathlib.Path(folder) / name
        if path.exists() and not is_marked(path, _WRITER):
            raise ValueError(
                f"{path} is there and was not drawn by `unet-train doctor`. Give"
                " another --output."
            )


def write_drawings(
    folder: str | os.PathLike[str], drawings: Mapping[str, Pixels]
) -> list[str]:
    """Writes pictures; returns their paths.

    ```python
    import numpy as np

    from unet_train.doctor import write_drawings

    grey = np.full((40, 60, 3), 128, np.uint8)
    (path,) = write_drawings("drawings", {"grey.png": grey})
    ```

    Args:
      folder: Where to; it is made if need be.
      drawings: By file name, uint8 [H, W, 3].

    Raises:
      ValueError: A picture of someone else would be overwritten.
    """
    check_folder(folder)
    paths = {pathlib.Path(folder) / name: drawn for name, drawn in drawings.items()}
    for path, pixels in paths.items():
        write_png(path, pixels, writer=_WRITER)
    return [str(path) for path in paths]
