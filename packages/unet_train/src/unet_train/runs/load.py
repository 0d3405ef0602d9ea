"""The networks that a run folder holds: the finished one, checkpoints, the best.

```python
model = load_model("runs/cats")  # Also while the run is under way.
```
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
from typing import Literal

import keras
import tensorflow as tf

from unet_train.runs.checkpoint import Checkpoints, step_of
from unet_train.runs.folder import (
    ARCHITECTURE,
    BEST,
    CHECKPOINTS,
    CONFIG,
    METRICS,
    MODEL,
    folder_of,
    read_config,
)
from unet_train.runs.remote import to_read

Weights = Literal["last", "best"]

_NO_THRESHOLD = 0.5
_STATE = {"step": int, "task": dict}


def load_model(
    run_dir: str | os.PathLike[str], weights: Weights = "last"
) -> keras.Model:
    """The model of a run in float32, with averaged weights if it averages them.

    ```python
    from unet_train.runs.load import load_model

    model = load_model("runs/cats")  # A keras.Model that returns logits.
    ```

    Args:
      run_dir: The folder that `fit` wrote.
      weights: "last": of the last checkpoint, or of the end if that is later; "best":
        of the validation that scored best (callback `BestModels`).

    Raises:
      OSError: The checkpoint cannot be read for now: memory, rights, the disk.
      ValueError: The run has written no weights yet, or they are damaged.
    """
    return load_trained(run_dir, weights).model


@dataclasses.dataclass(frozen=True)
class Trained:
    """A model of a run.

    Attributes:
      model: In float32.
      threshold: Probability from which a pixel is foreground; of several classes
        without effect.
      step: That it was trained to.
    """

    model: keras.Model
    threshold: float
    step: int


def load_trained(run_dir: str | os.PathLike[str], weights: Weights = "last") -> Trained:
    """As `load_model`, with the model's threshold and step.

    A `model.keras` may be given in place of its folder, and is then the one.
    """
    run_dir = to_read(run_dir)
    if weights == "best":
        return _load_finished(best_folder(folder_of(run_dir)) / MODEL)
    if run_dir.is_file():
        return _load_finished(run_dir)
    checkpoints = Checkpoints(run_dir / CHECKPOINTS, keep=1)
    latest = checkpoints.latest()
    if (run_dir / MODEL).exists() and (
        latest is None or step_of(latest) <= _finished_step(run_dir)
    ):
        return _load_finished(run_dir / MODEL)
    if latest is None:
        raise ValueError(
            f"The run {run_dir} has neither {MODEL} nor a checkpoint yet. Let it train"
            " on, or resume it with `unet-train fit ... --resume`."
        )
    model = load_architecture(run_dir)
    if read_config(run_dir)["task"].get("ema"):
        averages = [tf.Variable(weight.value) for weight in model.weights]
        state = checkpoints.restore_newest({"averages": averages}, _STATE)
        for weight, average in zip(model.weights, averages, strict=True):
            weight.assign(average)
    else:
        state = checkpoints.restore_newest({"model": model}, _STATE)
    assert state is not None  # There is one, or it raised.
    try:
        threshold = float(state["task"]["threshold"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"The checkpoint of step {state['step']} in {run_dir} does not tell the"
            f" threshold ({error!r}). Finish the run with `unet-train fit ..."
            f" --resume`, which writes {MODEL}."
        ) from error
    return Trained(full_size_only(model), threshold, state["step"])


def load_network(path: str | os.PathLike[str]) -> keras.Model:
    """The network of a run, of a folder with `model.keras`, or of a `.keras` file.

    Raises:
      OSError: A checkpoint cannot be read for now.
      ValueError: It is none of these, or has no weights yet, or they are damaged.
    """
    path = to_read(path)
    if (path / CONFIG).exists():
        return load_trained(path).model
    file = path / MODEL if path.is_dir() else path
    if file.suffix != ".keras" or not file.is_file():
        raise ValueError(
            f"{path} is neither the folder of a run, nor a folder with {MODEL}, nor a"
            " .keras file that is there. Give one of these."
        )
    return _load_keras(file)


def full_size_only(model: keras.Model) -> keras.Model:
    """The model without the further heads that deep supervision trains."""
    if len(model.outputs) == 1:
        return model
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


def load_architecture(run_dir: str | os.PathLike[str]) -> keras.Model:
    """The network of a run with weights of its own, not those it was trained to.

    Raises:
      ValueError: It cannot be read.
    """
    path = to_read(run_dir) / ARCHITECTURE
    try:
        return keras.models.model_from_json(path.read_text(encoding="utf-8"))
    except Exception as error:  # Keras raises whatever a changed file causes.
        raise ValueError(
            f"{path} cannot be read: {error}. It tells the network of the checkpoints"
            " beside it; `unet-train fit ... --resume` writes it anew."
        ) from error


def _load_keras(path: pathlib.Path) -> keras.Model:
    """Loads a model in safe mode: nothing in the file is run as code."""
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever a damaged file causes.
        raise ValueError(
            f"{path} cannot be loaded: {error}. If it is damaged, move it away: the"
            " last checkpoint of the run, if it is of one, is then used."
        ) from error


def _load_finished(path: pathlib.Path) -> Trained:
    """A model that was saved whole, with threshold and step beside its scores."""
    model, metrics = _load_keras(path), path.parent / METRICS
    try:
        scores = json.loads(metrics.read_text(encoding="utf-8"))
        if model.outputs[0].shape[-1] > 1:  # The most probable class counts.
            scores.setdefault("threshold", _NO_THRESHOLD)
        return Trained(model, float(scores["threshold"]), int(scores["step"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{metrics} does not tell the threshold and the step of the model"
            f" ({error!r}). Finish the run with `unet-train fit ... --resume`, which"
            " writes it anew; a published model needs that of its run."
        ) from error


def best_folder(run_dir: pathlib.Path) -> pathlib.Path:
    """The folder of the model that scored best."""
    scores = {}
    for path in (run_dir / BEST).glob(f"step_*/{METRICS}"):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            score = float(record[record["monitor"]])
            # Runs of version 0.1.0 knew only scores of which the largest is best.
            is_least = record.get("mode", "max") == "min"
            scores[path.parent] = -score if is_least else score
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} cannot be read ({error!r}). Delete its folder; the next best"
                " model is then used."
            ) from error
    if not scores:
        raise ValueError(
            f"The run {run_dir} has kept no best model. Train it with the callback"
            " unet_train.callbacks.BestModels, or use the last weights."
        )
    return max(scores, key=lambda path: (scores[path], path))


def _finished_step(run_dir: pathlib.Path) -> float:
    """The step that the finished model is from; before all if nothing tells."""
    try:
        return float(
            json.loads((run_dir / METRICS).read_text(encoding="utf-8"))["step"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return -math.inf
