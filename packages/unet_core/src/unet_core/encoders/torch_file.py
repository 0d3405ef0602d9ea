"""Reads a file of PyTorch weights without PyTorch.

```python
weights = read_torch_file("efficientnet-lite0-57934424.pth")
weights["_conv_stem.weight"].shape  # (32, 3, 3, 3)
```

The file is what `torch.save` wrote before version 1.6: pickles of a magic number, a
protocol, the sizes of numbers, the tensors, and the keys of the storages; then each
storage as int64 count and raw values. A pickle may name any function to be called; this
one gets ordered dictionaries, tensors and storages, and is refused for any other name.
"""

import collections
import os
import pickle
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_STORAGES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
}


def read_torch_file(path: str | os.PathLike[str]) -> dict[str, npt.NDArray[Any]]:
    """All tensors of a file by their names, in PyTorch's order of axes.

    Args:
      path: Of a state dictionary, saved by PyTorch before 1.6 or with
        `_use_new_zipfile_serialization=False`.

    Raises:
      OSError: The file cannot be opened.
      ValueError: It is something else, names something that is no weight, or is cut
        off.
    """
    with open(path, "rb") as file:
        try:
            return _read(file)
        except (pickle.UnpicklingError, EOFError, ValueError, LookupError) as error:
            fault = str(error)
        except (TypeError, AttributeError, OverflowError, MemoryError) as error:
            fault = f"{type(error).__name__}: {error}"  # As damaged pickles cause.
    raise ValueError(
        f"{os.fspath(path)} is no file of PyTorch weights that can be read here:"
        f" {fault}. It must be a whole state dictionary as PyTorch before 1.6 saved it."
    )


class _Tensor(NamedTuple):
    """A view into a storage, as in PyTorch: counted in numbers, not in bytes."""

    key: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def of(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The tensor, once its storage is read."""
        sides = zip(self.shape, self.strides, strict=True)
        last = self.offset + sum((side - 1) * stride for side, stride in sides)
        if min((self.offset, *self.strides)) < 0 or last >= len(values):
            raise ValueError(f"a tensor lies outside its {len(values)} numbers")
        strides = [stride * values.itemsize for stride in self.strides]
        view = np.lib.stride_tricks.as_strided(
            values[self.offset :], self.shape, strides
        )
        return view.copy()


class _Unpickler(pickle.Unpickler):
    """Admits ordered dictionaries, tensors and storages.

    Attributes:
      dtypes: Of the storages that the tensors refer to, by their keys.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.dtypes: dict[str, np.dtype[Any]] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What a name of the pickle stands for."""
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda key, offset, shape, strides, *_: _Tensor(
                key, offset, shape, strides
            )
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is no weight")

    def persistent_load(self, pid: Any) -> str:
        """The key of a storage."""
        kind, dtype, key, *_, view = pid
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError(f"it refers to a {kind} or a part of one")
        self.dtypes[key] = dtype
        return str(key)


def _read(file: BinaryIO) -> dict[str, npt.NDArray[Any]]:
    if (_Unpickler(file).load(), _Unpickler(file).load()) != (_MAGIC, _PROTOCOL):
        raise ValueError("it begins otherwise")
    _Unpickler(file).load()  # Sizes of numbers, which the storages' types tell.
    unpickler = _Unpickler(file)
    tensors = unpickler.load()
    storages = {}
    for key in _Unpickler(file).load():
        (count,) = np.frombuffer(file.read(8), "<i8")
        dtype = unpickler.dtypes[key]
        content = file.read(int(count) * dtype.itemsize)
        storages[key] = np.frombuffer(content, dtype, count=int(count))
    return {name: tensor.of(storages[tensor.key]) for name, tensor in tensors.items()}
