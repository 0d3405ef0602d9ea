"""The forms of an export: how each is written, and how it is opened again.

A form added to `TABLE` is at once offered, checked for parity and put on the card.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import pathlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from unet_train.export.published import compress
from unet_train.export.signatures import LogitsModule, PhotoModule
from unet_train.export.web.page import MODEL, write_page
from unet_train.export.web.small import halve
from unet_train.export.whole_photo import Forward

# Where TensorFlow Serving looks for the first version of a model.
_VERSION = "1"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Format:
    """One form of an export.

    Attributes:
      file: Its name in the folder of the export.
      write: Writes it there.
      open: The network that lies there, from pixel values to logits; None for the one
        that takes the bytes of photos.
      needs: Packages that write or check it, beyond what is installed anyway.
      extra: Of `unet_train`, that installs these.
      loading: The lines that a reader loads and calls it with.
      language: Of these lines.
    """

    file: str
    write: Callable[[PhotoModule, pathlib.Path], None]
    open: Callable[[pathlib.Path], Forward] | None
    needs: tuple[str, ...] = ()
    extra: str = ""
    loading: str
    language: str = "python"


def check_installed(names: Sequence[str]) -> None:
    """Refuses forms whose converter is not there.

    Raises:
      ValueError: A form is unknown or its packages are missing; names the pip extra.
    """
    for name in names:
        if name not in TABLE:
            raise ValueError(
                f"There is no format {name!r}. Choose among {', '.join(TABLE)}."
            )
        kind = TABLE[name]
        missing = [each for each in kind.needs if not importlib.util.find_spec(each)]
        if missing:
            raise ValueError(
                f"The format {name!r} needs {' and '.join(missing)}, not installed"
                f" here. Install it with pip install 'unet_train[{kind.extra}]', or"
                " leave the format out."
            )


def _write_photo_model(module: PhotoModule, path: pathlib.Path) -> None:
    tf.saved_model.save(module, path / _VERSION, signatures=module.signatures())


def _write_logits(module: PhotoModule, path: pathlib.Path) -> None:
    bare = LogitsModule(module.predictor.model)
    tf.saved_model.save(bare, path / _VERSION, signatures=bare.signatures())


def _open_logits(path: pathlib.Path) -> Forward:
    loaded = tf.saved_model.load(path / _VERSION)
    return lambda tiles: loaded.signatures["serving_default"](image=tiles)["logits"]


def _write_keras(module: PhotoModule, path: pathlib.Path) -> None:
    model = module.predictor.model
    strangers = sorted(set(_modules(json.loads(model.to_json()))))
    if strangers:
        raise ValueError(
            f"The model has layers or functions of {', '.join(strangers)}, so that its"
            " .keras file would not load without them. Leave the format keras out, or"
            " build the network of stock Keras layers."
        )
    model.save(path)
    compress(path)


def _modules(config: Any) -> Iterator[str]:
    """The modules outside Keras that a saved configuration names."""
    if isinstance(config, dict):
        module = config.get("module")
        if isinstance(module, str) and module.split(".")[0] not in (
            "keras",
            "builtins",
        ):
            yield module
        config = list(config.values())
    if isinstance(config, list):
        for each in config:
            yield from _modules(each)


def _open_keras(path: pathlib.Path) -> Forward:
    model = keras.saving.load_model(path, compile=False)
    return lambda tiles: model(tiles, training=False)


class _Enlarge(keras.layers.Layer):
    """Enlarges an image, by an operation that every converter knows."""

    def __init__(self, layer: keras.layers.UpSampling2D) -> None:
        super().__init__(name=layer.name)
        self._factors, self._method = layer.size, layer.interpolation

    def call(self, image: tf.Tensor) -> tf.Tensor:
        """From [N, H, W, C]."""
        size = tf.shape(image)[1:3] * self._factors
        return tf.image.resize(image, size, self._method)


class _OneChannel(keras.layers.Layer):
    """Changes nothing in [N, H, W, 1]."""

    def call(self, logits: tf.Tensor) -> tf.Tensor:
        """Of one channel."""
        return tf.expand_dims(tf.squeeze(logits, 3), 3)


def _convertible(model: keras.Model) -> keras.Model:
    """The same network, of what converters make graphs that are right.

    Keras repeats pixels by `tf.repeat`, of which tf2onnx 1.17 makes a graph that is
    right or wrong by the order of a hash map, and LiteRT one that it cannot run. If the
    last node brings a single channel to the end, tf2onnx writes it as a reshape to
    [1, N, H, W, 1], and by the same order leaves out the squeeze after it.
    """

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.layers.UpSampling2D):
            return _Enlarge(layer)
        return layer.__class__.from_config(layer.get_config())

    network = keras.models.clone_model(model, clone_function=copy)
    network.set_weights(model.get_weights())
    if network.output.shape[-1] == 1:
        return keras.Model(network.inputs, _OneChannel()(network.output))
    return network


def _write_onnx(module: PhotoModule, path: pathlib.Path) -> None:
    import onnx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # Of Keras about numpy.
        model = _convertible(module.predictor.model)
        image = keras.InputSpec("float32", model.inputs[0].shape, name="image")
        model.export(path, format="onnx", verbose=False, input_signature=[image])
    found = onnx.load(path)
    graph = found.graph
    (output,) = graph.output
    for node in graph.node:
        node.output[:] = ["logits" if n == output.name else n for n in node.output]
        node.input[:] = ["logits" if n == output.name else n for n in node.input]
    output.name = "logits"
    for value, letters in ((graph.input[0], "NHW"), (output, "Nhw")):
        for side, letter in zip(
            value.type.tensor_type.shape.dim, letters, strict=False
        ):
            side.dim_param = letter
    onnx.checker.check_model(found)
    onnx.save(found, path)


def _open_onnx(path: pathlib.Path) -> Forward:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def forward(tiles: tf.Tensor) -> tf.Tensor:
        return tf.constant(session.run(["logits"], {"image": tiles.numpy()})[0])

    return forward


def _write_litert(module: PhotoModule, path: pathlib.Path) -> None:
    network = _convertible(module.predictor.model)
    network.export(path, format="litert", verbose=False)


def _open_litert(path: pathlib.Path) -> Forward:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    (image,) = interpreter.get_input_details()
    (logits,) = interpreter.get_output_details()

    def forward(tiles: tf.Tensor) -> tf.Tensor:
        interpreter.resize_tensor_input(image["index"], tuple(tiles.shape))
        interpreter.allocate_tensors()
        interpreter.set_tensor(image["index"], np.asarray(tiles))
        interpreter.invoke()
        return tf.constant(interpreter.get_tensor(logits["index"]))

    return forward


def write_web(module: PhotoModule, path: pathlib.Path, **options: Any) -> None:
    """Writes the page around an ONNX file; options as for `write_page`."""
    import onnx

    path.mkdir(exist_ok=True)
    _write_onnx(module, path / MODEL)
    model = onnx.load(path / MODEL)
    halve(model)
    onnx.save(model, path / MODEL)
    write_page(module, path, **options)


TABLE = {
    "saved_model": Format(
        file="saved_model",
        write=_write_photo_model,
        open=None,
        loading="""\
model = tf.saved_model.load("saved_model/1")
photo = tf.io.read_file("photo.jpg")
mask = model.signatures["serving_default"](photo=photo)["mask"]""",
    ),
    "logits": Format(
        file="logits",
        write=_write_logits,
        open=_open_logits,
        loading="""\
model = tf.saved_model.load("logits/1")
predict = model.signatures["serving_default"]
logits = predict(image=tf.constant(pixels))["logits"]""",
    ),
    "keras": Format(
        file="model.keras",
        write=_write_keras,
        open=_open_keras,
        loading="""\
model = keras.saving.load_model("model.keras", compile=False)
logits = model(pixels, training=False)""",
    ),
    "onnx": Format(
        file="model.onnx",
        write=_write_onnx,
        open=_open_onnx,
        needs=("tf2onnx", "onnx", "onnxruntime"),
        extra="onnx",
        loading="""\
session = onnxruntime.InferenceSession("model.onnx")
(logits,) = session.run(["logits"], {"image": pixels})""",
    ),
    "litert": Format(
        file="model.tflite",
        write=_write_litert,
        open=_open_litert,
        needs=("ai_edge_litert",),
        extra="litert",
        loading="""\
model = Interpreter("model.tflite")  # of ai_edge_litert.interpreter
logits = model.get_signature_runner()(image=pixels)["output_0"]""",
    ),
    "web": Format(
        file="web",
        write=write_web,
        open=lambda path: _open_onnx(path / MODEL),
        needs=("tf2onnx", "onnx", "onnxruntime"),
        extra="onnx",
        loading="python -m http.server --directory web  # http://localhost:8000",
        language="sh",
    ),
}
