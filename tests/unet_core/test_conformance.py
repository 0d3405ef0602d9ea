"""What every network of the table in conftest.py must do."""

import dataclasses
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from unet_core import Geometry, build_unet


def sides_of(config):
    geometry = Geometry.of(config)
    sides = [geometry.nearest_valid_sizes(side)[1] for side in (60, 72)]
    return sides, [geometry.output_size(side) for side in sides]


def images_for(config, count=2):
    sides, _ = sides_of(config)
    shape = (count, *sides, config.input_channels)
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)


def outputs_of(result):
    return list(result) if isinstance(result, (list, tuple)) else [result]


def test_shapes(light_config):
    geometry = Geometry.of(light_config)
    sides, _ = sides_of(light_config)
    outputs = outputs_of(build_unet(light_config)(images_for(light_config)))
    assert len(outputs) == 1 + light_config.deep_supervision
    for level, head in enumerate(outputs):
        inner = [geometry.head_size(side, level) for side in sides]
        assert head.shape == (2, *inner, light_config.classes)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        ("float32", 0),
        ("mixed_bfloat16", 0.1),
        ("mixed_float16", 0.02),
        ("bfloat16", 0.1),
        ("float16", 0.02),
    ],
)
def test_precisions(light_config, dtype, tolerance):
    reference = build_unet(light_config)
    exact = outputs_of(reference(images_for(light_config)))
    model = build_unet(light_config, dtype=dtype)
    # The same seed gives other numbers where they are drawn in half precision.
    model.set_weights(reference.get_weights())
    policy = keras.dtype_policies.get(dtype)
    inner = model.get_layer("decoder_0_conv_1")
    assert inner.compute_dtype == policy.compute_dtype
    assert inner.kernel.dtype == policy.variable_dtype
    logits = model.get_layer("logits")
    assert logits.kernel.dtype == logits.compute_dtype == "float32"
    for found, expected in zip(
        outputs_of(model(images_for(light_config))), exact, strict=True
    ):
        assert found.dtype == tf.float32
        error = np.abs(found - expected).mean() / np.std(expected)
        assert error <= tolerance


def test_xla(light_config):
    model, images = build_unet(light_config), images_for(light_config)
    compiled = tf.function(lambda x: model(x, training=False), jit_compile=True)
    for found, expected in zip(
        outputs_of(compiled(images)), outputs_of(model(images)), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-3, rtol=1e-3)


def test_layers_are_stock_and_named_by_stage(light_config):
    for layer in build_unet(light_config).layers:
        assert type(layer).__module__.startswith("keras.")
        stage = layer.name.split("_")[0]
        assert stage in {
            *("image", "rescale", "encoder", "bottleneck", "decoder", "logits")
        }


LOAD = """
import sys
sys.modules["unet_core"] = None  # Importing it would raise.
import keras, numpy as np
for name in sys.argv[1:]:
    model = keras.saving.load_model(f"{name}.keras")
    outputs = model(np.load(f"{name}.npy"))
    outputs = outputs if isinstance(outputs, list) else [outputs]
    np.savez(f"{name}.npz", *outputs)
"""


def test_keras_files_load_without_this_package(light_configs, tmp_path):
    expected = {}
    for name, config in light_configs.items():
        model, images = build_unet(config), images_for(config)
        expected[name] = [np.asarray(each) for each in outputs_of(model(images))]
        model.save(tmp_path / f"{name}.keras")
        np.save(tmp_path / f"{name}.npy", images)
    subprocess.run([sys.executable, "-c", LOAD, *expected], cwd=tmp_path, check=True)
    for name, outputs in expected.items():
        found = np.load(tmp_path / f"{name}.npz")
        assert len(found) == len(outputs)
        for one, other in zip(found.values(), outputs, strict=True):
            np.testing.assert_array_equal(one, other)


def test_weights_alone(light_config, tmp_path):
    model, images = build_unet(light_config), images_for(light_config)
    model.save_weights(tmp_path / "x.weights.h5")
    other = build_unet(light_config)
    before = outputs_of(other(images))[0].numpy()
    other.load_weights(tmp_path / "x.weights.h5")
    for found, expected in zip(
        outputs_of(other(images)), outputs_of(model(images)), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(before, outputs_of(other(images))[0])


def test_saved_model(light_config, tmp_path):
    model, images = build_unet(light_config), images_for(light_config)
    model.export(tmp_path / "saved")
    loaded = tf.saved_model.load(tmp_path / "saved")
    served = outputs_of(loaded.serve(images))
    for found, expected in zip(served, outputs_of(model(images)), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)


def test_gradient_reaches_every_weight(light_config):
    model = build_unet(light_config)
    with tf.GradientTape() as tape:
        outputs = outputs_of(model(images_for(light_config), training=True))
        loss = tf.add_n([tf.reduce_mean(tf.square(each)) for each in outputs])
    gradients = tape.gradient(loss, model.trainable_variables)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.path
        assert np.isfinite(gradient).all(), variable.path
        # A bias before a batch norm of its own batch has gradient 0, no other.
        assert np.any(gradient) or "bias" in variable.path, variable.path


def test_statistics_in_training_and_in_prediction(light_config):
    config = dataclasses.replace(light_config, norm_momentum=0.5)
    model, images = build_unet(config), images_for(config)
    moving = [each for each in model.weights if "moving" in each.path]
    assert bool(moving) == (config.norm in ("batch", "sync_batch"))
    alone = outputs_of(model(images[:1]))[0]
    together = outputs_of(model(images))[0]
    # What one image gives does not depend on its neighbours.
    np.testing.assert_allclose(alone[0], together[0], rtol=1e-3, atol=1e-4)
    before = [each.numpy() for each in moving]
    trained = outputs_of(model(images, training=True))[0]
    random = config.dropout or config.stochastic_depth
    assert np.allclose(trained, together) == (not moving and not random)
    for old, new in zip(before, moving, strict=True):
        assert not np.array_equal(old, new)


def test_determined_by_the_seed(light_config):
    first, second, other = (
        (keras.utils.set_random_seed(seed), build_unet(light_config))[1]
        for seed in (3, 3, 4)
    )
    for one, same, different in zip(
        first.trainable_weights,
        second.trainable_weights,
        other.trainable_weights,
        strict=True,
    ):
        np.testing.assert_array_equal(one, same)
        if "kernel" in one.path:
            assert not np.array_equal(one, different)


def test_stochastic_depth_leaves_stages_out_of_some_samples(light_configs):
    config = dataclasses.replace(
        light_configs["stochastic"], stochastic_depth=0.5, norm="none"
    )
    model = build_unet(config)
    stage = keras.Model(model.inputs, model.get_layer("encoder_0_drop_path").output)
    images = images_for(config, count=64)
    kept = np.asarray(stage(images, training=True)).any(axis=(1, 2, 3))
    assert 0.2 < kept.mean() < 0.8
    assert np.asarray(stage(images)).any(axis=(1, 2, 3)).all()


MIRRORED = """
import json, sys
import numpy as np, tensorflow as tf, keras
(cpu,) = tf.config.list_physical_devices("CPU")
halves = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, halves)
from unet_core import UNetConfig, build_unet

def outputs_of(result):
    return list(result) if isinstance(result, (list, tuple)) else [result]

def gradients(model, images, training):
    with tf.GradientTape() as tape:
        outputs = outputs_of(model(images, training=training))
        loss = tf.add_n([tf.reduce_mean(each**2, axis=(1, 2, 3)) for each in outputs])
        loss = tf.reduce_sum(loss) / 4
    return tape.gradient(loss, model.trainable_variables)

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
for name, (fields, shape, training) in json.loads(sys.stdin.read()).items():
    images = np.random.default_rng(0).integers(0, 256, (4, *shape)).astype("float32")
    keras.utils.set_random_seed(0)
    one = build_unet(UNetConfig(**fields))
    with strategy.scope():
        model = build_unet(UNetConfig(**fields))
    model.set_weights(one.get_weights())
    expected = gradients(one, tf.constant(images), training)

    @tf.function
    def step(batch):
        per_replica = strategy.run(gradients, (model, batch, training))
        return [strategy.reduce("SUM", each, axis=None) for each in per_replica]

    halves = iter(np.split(images, 2))
    batch = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(next(halves))
    )
    for variable, found, wanted in zip(one.trainable_variables, step(batch), expected):
        scale = np.abs(wanted).max() + 1e-3
        error = np.abs(found - wanted).max() / scale
        assert error < 1e-3, (name, variable.path, error)
"""


def test_two_devices_equal_one(light_configs):
    """Gradients of a batch of four on two logical devices and on one.

    Batch norm without "sync" has statistics of each device's own half, and dropout its
    own numbers: these are compared as they are outside of training.
    """
    cases = {}
    for name, config in light_configs.items():
        sides, _ = sides_of(config)
        random = config.dropout or config.stochastic_depth
        training = not random and config.norm != "batch"
        shape = (*sides, config.input_channels)
        cases[name] = (dataclasses.asdict(config), shape, training)
    assert cases["sync_batch"][2]
    done = subprocess.run(
        [sys.executable, "-c", MIRRORED],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
