"""Networks with models in them: precision, quicker layers, copies, checkpoints."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from unet_core import UNetConfig, build_unet, read_geometry
from unet_train import SegmentationTask, Trainer
from unet_train.runs.checkpoint import Checkpoints
from unet_train.runs.load import load_architecture, load_model
from unet_train.task import layers
from unet_train.task.layers import set_precision, speed_up

L = keras.layers


def block(name, rescales=False):
    """Four channels to four; its layers have the same names in every block."""
    inputs = keras.Input((None, None, 4))
    x = L.Rescaling(0.5, name="half")(inputs) if rescales else inputs
    x = L.Conv2D(4, 3, padding="same", name="conv")(x)
    x = L.BatchNormalization(name="norm", momentum=0.5)(x)
    return keras.Model(inputs, L.ReLU(name="relu")(x), name=name)


def head():
    layers = [L.Conv2D(4, 1, name="before"), L.Conv2D(1, 1, name="logits")]
    return keras.Sequential([keras.Input((None, None, 8)), *layers], name="head")


def unet(kind="two_blocks"):
    """A U-Net of depth 1 with padding "same" and models in it."""
    first, second = block("first", rescales=True), block("second")
    image = keras.Input((None, None, 3))
    x = L.Rescaling(1 / 127.5, -1.0, name="rescale", dtype="float32")(image)
    stem = L.Conv2D(4, 3, padding="same", name="stem")(x)
    skip = first(stem)
    if kind == "used_twice":
        skip = first(skip)
    if kind == "layer_of_a_block":
        skip = first.get_layer("conv")(skip)
    x = deep = second(L.MaxPooling2D(name="pool")(skip))
    x = L.Conv2DTranspose(4, 2, strides=2, name="up")(x)
    logits = head()(L.Concatenate(name="concat")([skip, x]))
    if kind == "supervised":
        return keras.Model(image, [logits, L.Conv2D(1, 1, name="logits_1")(deep)])
    model = keras.Model(image, logits)
    if kind == "whole":
        image = keras.Input((None, None, 3))
        return keras.Model(image, model(image))
    return model


KINDS = ["two_blocks", "supervised", "used_twice", "layer_of_a_block", "whole"]


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    return tf.constant(images), tf.cast(images[..., :1] > 128, tf.uint8)


def first_output(model, images):
    outputs = model(images, training=False)
    return np.asarray(outputs[0] if isinstance(outputs, list) else outputs)


@pytest.mark.parametrize("ema", [0.0, 0.2])
@pytest.mark.parametrize("kind", KINDS)
def test_the_copy_for_validation_predicts_as_the_model(batch, kind, ema):
    keras.utils.set_random_seed(0)
    task = SegmentationTask(unet(kind), learning_rate=0.1, ema=ema)
    task.build_optimizer()
    copy = task.evaluation_model()
    for _ in range(3):
        task.train_step(batch)
        task.after_step()
    task.copy_weights(copy)
    assert len(copy.outputs) == 1
    for weight, average in zip(task.model.weights, task.averages, strict=bool(ema)):
        weight.assign(average)
    expected = first_output(task.model, batch[0])
    assert expected.std() > 0.01
    np.testing.assert_allclose(first_output(copy, batch[0]), expected, atol=1e-5)


def dtypes_of(model):
    """By names from the outermost model to the layer, what each computes in."""
    found = {}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            inner = dtypes_of(layer).items()
            found |= {f"{layer.name}/{name}": dtype for name, dtype in inner}
        else:
            found[layer.name] = layer.compute_dtype
    return found


@pytest.mark.parametrize("kind", ["two_blocks", "supervised"])
def test_the_inside_of_a_model_computes_in_the_precision_too(kind):
    model = unet(kind)
    set_precision(model, "mixed_bfloat16")
    dtypes = dtypes_of(model)
    in_float32 = {name for name, dtype in dtypes.items() if dtype == "float32"}
    logits = {"head/logits"} | ({"logits_1"} if kind == "supervised" else set())
    assert in_float32 == {"rescale", "first/half"} | logits
    assert set(dtypes.values()) == {"float32", "bfloat16"}
    set_precision(model, "float32")
    assert set(dtypes_of(model).values()) == {"float32"}


def test_the_logits_may_lie_in_models_within_models():
    inner = unet()
    image = keras.Input((None, None, 3))
    model = keras.Model(image, inner(image))
    set_precision(model, "mixed_float16")
    dtypes = dtypes_of(model)
    assert dtypes[f"{inner.name}/head/logits"] == "float32"
    assert dtypes[f"{inner.name}/head/before"] == "float16"
    # What a model is given is not rounded before its own scaling of the input.
    assert inner.compute_dtype == "float32"


def test_layers_that_a_layer_of_ones_own_made():
    class Own(keras.layers.Layer):
        def __init__(self, filters, **options):
            super().__init__(**options)
            self.conv = L.Conv2D(filters, 3, padding="same")
            self.never_used = L.Conv2D(filters, 3)

        def call(self, inputs):
            return self.conv(inputs)

    image = keras.Input((None, None, 3))
    inside, last = Own(300), Own(1)
    model = keras.Model(image, last(inside(image)))
    set_precision(model, "mixed_bfloat16")
    speed_up(model, on_cpu=True)  # Some are not built: they have no kernel.
    assert inside.conv.compute_dtype == "bfloat16"
    assert last.conv.compute_dtype == "float32"


def test_low_precision_changes_the_outcome_by_rounding_only(batch):
    keras.utils.set_random_seed(0)
    model = unet()
    expected = first_output(model, batch[0])
    set_precision(model, "mixed_bfloat16")
    found = first_output(model, batch[0])
    assert 0 < np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def test_the_inside_of_a_model_trains_by_the_quicker_operations(batch, monkeypatch):
    monkeypatch.setattr(layers, "MANY_CHANNELS", 4)
    outcomes = []
    for is_fast in (False, True):
        keras.utils.set_random_seed(0)
        model = unet()
        if is_fast:
            speed_up(model, on_cpu=True)
            for name in ("first", "second"):
                assert "call" in vars(model.get_layer(name).get_layer("norm"))
                assert "convolution_op" in vars(model.get_layer(name).get_layer("conv"))
        task = SegmentationTask(model, optimizer={"class_path": "keras.optimizers.SGD"})
        task.build_optimizer()
        task.train_step(batch)
        outcomes.append([np.asarray(weight) for weight in model.weights])
    for one, other in zip(*outcomes, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("kind", ["two_blocks", "supervised", "used_twice", "whole"])
def test_a_checkpoint_has_the_inside_too(batch, tmp_path, kind):
    checkpoints = Checkpoints(tmp_path, keep=1)
    tasks = []
    for seed in (0, 1):
        keras.utils.set_random_seed(seed)
        task = SegmentationTask(unet(kind), learning_rate=0.1, ema=0.5)
        task.build_optimizer()
        tasks.append(task)
    task, other = tasks
    task.train_step(batch)
    task.after_step()
    path = checkpoints.save(1, task.tracked(), {})
    checkpoints.restore(path, other.tracked())
    for one, another in zip(
        [*task.model.variables, *task.optimizer.variables, *task.averages],
        [*other.model.variables, *other.optimizer.variables, *other.averages],
        strict=True,
    ):
        np.testing.assert_array_equal(one, another)


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_a_run_with_such_a_network(make_data, tmp_path, ema):
    assert read_geometry(unet()).padding == "same"
    data = make_data(tile_size=32)
    for steps in (2, 4):
        task = SegmentationTask(unet(), learning_rate=0.1, ema=ema)
        trainer = Trainer(tmp_path, max_steps=steps, precision="mixed_bfloat16")
        trainer.fit(task, data, resume=True)
    expected = task.averages or task.model.weights
    photo = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3))
    finished = first_output(load_model(tmp_path), photo)
    (tmp_path / "model.keras").unlink()
    from_checkpoint = load_model(tmp_path)
    for one, other in zip(expected, from_checkpoint.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(
        first_output(from_checkpoint, photo), finished, atol=1e-5
    )
    assert len(load_architecture(tmp_path).weights) == len(expected)


def test_a_copy_of_a_plain_network_is_as_before(batch):
    task = SegmentationTask(
        build_unet(UNetConfig(depth=1, base_filters=2, padding="same"))
    )
    task.build_optimizer()
    copy = task.evaluation_model()
    task.train_step(batch)
    task.copy_weights(copy)
    for one, other in zip(task.model.weights, copy.weights, strict=True):
        np.testing.assert_array_equal(one, other)
