"""Makes the file of a network small, and the network no other."""

from __future__ import annotations

from typing import Any

import numpy as np

_MANY = 1000


def halve(model: Any) -> None:
    """Stores as float16 the weights that it holds exactly, such as compact ones.

    A runtime widens them once, when it loads the network.

    Args:
      model: An `onnx.ModelProto`; is changed.
    """
    import onnx

    graph = model.graph
    casts = []
    for weights in graph.initializer:
        values = onnx.numpy_helper.to_array(weights)
        if values.dtype != np.float32 or values.size < _MANY:
            continue
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if not np.array_equal(halves.astype(np.float32), values):
            continue
        name = weights.name
        weights.CopyFrom(onnx.numpy_helper.from_array(halves, f"{name}_half"))
        casts.append(
            onnx.helper.make_node(
                "Cast", [weights.name], [name], to=onnx.TensorProto.FLOAT
            )
        )
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
