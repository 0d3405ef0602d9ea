"""What TensorFlow tracks, as it is now, to be written later.

```python
snapshot = Snapshot({"model": model, "optimizer": optimizer})  # Copies the variables.
thread.submit(snapshot.write, "step_00001000/tensors")  # Training may go on meanwhile.
```
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

# How TensorFlow asks what is no variable for its tensors.
_TENSORS_OF = "_serialize_to_tensors"


class Snapshot:
    """The values of all variables of some objects, in the host's memory.

    What is written is what `tf.train.Checkpoint(**objects).write` would have written,
    variable by variable under the same names, so that this reads it.

    ```python
    from unet_train.runs.snapshot import Snapshot

    counter = tf.Variable(1)
    snapshot = Snapshot({"counter": counter})
    counter.assign(2)
    snapshot.write("/tmp/cats/tensors")
    tf.train.Checkpoint(counter=counter).read("/tmp/cats/tensors")
    assert counter.numpy() == 1
    ```
    """

    def __init__(self, objects: dict[str, Any]) -> None:
        """Copies the variables; on several machines all must do so together.

        Args:
          objects: What `tf.train.Checkpoint` takes: models, optimizers, variables, and
            lists of them.

        Raises:
          TypeError: One of them keeps something else than variables, such as a table.
        """
        self._values: dict[int, np.ndarray[Any, Any]] = {}
        self._edges: list[tuple[int, str, int]] = []
        root = tf.train.Checkpoint(**objects)
        view = tf.train.TrackableView(root)
        nodes, places = [root], {id(root): 0}
        # Grows while it is gone through: node by node, each once.
        for place, node in enumerate(nodes):
            if isinstance(node, (tf.Variable, keras.Variable)):
                self._values[place] = tf.convert_to_tensor(node).numpy()
                continue
            _require_no_tensors(node)
            for name, child in view.children(node).items():
                if id(child) not in places:
                    places[id(child)] = len(nodes)
                    nodes.append(child)
                self._edges.append((place, name, places[id(child)]))
        self._count = len(nodes)

    def write(self, prefix: str) -> None:
        """Writes what was copied, with TensorFlow's own format and checksums.

        Args:
          prefix: Path and first part of the files' names.

        Raises:
          tf.errors.OpError: It cannot be written.
        """
        with tf.device("CPU"):
            twins = [
                tf.Variable(self._values[place])
                if place in self._values
                else tf.train.Checkpoint()
                for place in range(self._count)
            ]
            for parent, name, child in self._edges:
                setattr(twins[parent], name, twins[child])
            twins[0].write(prefix)


def _require_no_tensors(node: Any) -> None:
    plain = getattr(tf.train.Checkpoint, _TENSORS_OF)
    if getattr(type(node), _TENSORS_OF, plain) is not plain:
        raise TypeError(
            f"A checkpoint keeps variables, and {node!r} keeps something else. Keep"
            " what it holds in a variable, or give its state as JSON (`state_dict`)."
        )
