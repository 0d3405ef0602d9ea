"""Where the records of a TFRecord file begin: one can be read without the others.

A record is its length, a checksum of that, its bytes and a checksum of these. Here the
lengths alone are read: of 100,000 records in a fraction of a second.
"""

from __future__ import annotations

import os
import struct

import numpy as np
import numpy.typing as npt

# Length and its checksum before a record, a checksum behind it.
_BEFORE, _BEHIND = 12, 4


def record_offsets(path: str) -> npt.NDArray[np.int64]:
    """The byte at which each record of a file begins.

    Args:
      path: Of a file on this machine.

    Returns:
      int64 [records].

    Raises:
      ValueError: The file ends within a record.
    """
    found, start = [], 0
    with open(path, "rb", buffering=0) as file:
        end = os.fstat(file.fileno()).st_size
        while start < end:
            found.append(start)
            head = os.pread(file.fileno(), 8, start)
            if len(head) == 8:
                start += _BEFORE + struct.unpack("<Q", head)[0] + _BEHIND
            if len(head) < 8 or start > end:
                raise ValueError(
                    f"{path} ends within its record {len(found)}: it was cut off. Build"
                    " the dataset again, or copy it again."
                )
    return np.array(found, np.int64)
