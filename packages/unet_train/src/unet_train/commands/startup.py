"""TensorFlow's start without the notes that it writes about itself.

```python
with quiet_start():
    import tensorflow
```

They come before TensorFlow reads `TF_CPP_MIN_LOG_LEVEL`, or as errors where there is
merely no GPU, so they are taken out of what is written to file descriptor 2. Another
process does that, this file run as a program: what TensorFlow says when it aborts (no
AVX, say) still arrives. Whoever sets `TF_CPP_MIN_LOG_LEVEL` sees all.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import BinaryIO

LEVEL = "TF_CPP_MIN_LOG_LEVEL"

# What is informative only; that there is no GPU, or no driver for one.
_NOISE = re.compile(
    rb"I\d{4} "
    rb"|WARNING: All log messages before absl::InitializeLog\(\) is called"
    rb"|To enable the following instructions: "
    rb"|E\d{4} .*failed call to cuInit: .*(UNKNOWN ERROR \(303\)|CUDA_ERROR_NO_DEVICE)"
)
# The end of what was written, if all went well.
_DONE = b"\0\n"


@contextlib.contextmanager
def quiet_start() -> Iterator[None]:
    """Leaves the notes of TensorFlow's start out of stderr, unless it fails."""
    is_late = LEVEL in os.environ or "tensorflow" in sys.modules
    if is_late or sys.stderr is None or not sys.executable:
        yield
        return
    os.environ[LEVEL] = "2"
    sys.stderr.flush()
    with contextlib.ExitStack() as after:
        kept = os.dup(2)
        after.callback(os.close, kept)
        filtering = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stderr=kept,
            start_new_session=True,  # Ctrl-C is for us, who have more to say.
        )
        after.callback(filtering.wait)
        assert filtering.stdin is not None
        after.callback(filtering.stdin.close)
        os.dup2(filtering.stdin.fileno(), 2)
        after.callback(os.dup2, kept, 2)
        try:
            yield
        except ImportError:
            raise
        except BaseException:
            filtering.stdin.write(_DONE)
            raise
        filtering.stdin.write(_DONE)


def pass_on(lines: Iterable[bytes], out: BinaryIO) -> None:
    """Writes all lines but the notes; those too if nothing says that all went well."""
    notes = []
    for line in lines:
        if line.endswith(_DONE):
            out.write(line.removesuffix(_DONE))
            return
        if _NOISE.match(line):
            notes.append(line)
        else:
            out.write(line)
            out.flush()
    out.writelines(notes)
    out.flush()


if __name__ == "__main__":
    pass_on(sys.stdin.buffer, sys.stderr.buffer)
