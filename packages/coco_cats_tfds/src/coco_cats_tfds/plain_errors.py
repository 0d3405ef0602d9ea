"""An error of the data as its text alone, in the process of `tfds build`.

TFDS's command line prints every error below its traceback, some 30 lines of code that
have nothing to do with a damaged photograph.
"""

from __future__ import annotations

import pathlib
import sys
from types import TracebackType

from coco_cats_tfds.errors import CocoDataError


def show_data_errors_plainly() -> None:
    """Has `CocoDataError` end the process with its text, if that process is `tfds`."""
    program = pathlib.Path(sys.argv[0])
    if program.stem != "tfds" and "tensorflow_datasets" not in program.parts:
        return
    before = sys.excepthook

    def show(
        kind: type[BaseException],
        error: BaseException,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, CocoDataError):
            print(f"tfds build: {error}", file=sys.stderr)
        else:
            before(kind, error, traceback)

    sys.excepthook = show
