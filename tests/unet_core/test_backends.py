"""Keras's other backends: files load, the graph builds and trains, logits agree.

Installed by `nox -s backends`; TensorFlow is needed beside them for what is compared.
"""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from unet_core import Geometry, build_unet

PROGRAM = """
import json, sys
import keras, numpy as np
from unet_core import UNetConfig, build_unet

assert keras.backend.backend() == sys.argv[1]
for name, fields in json.loads(sys.argv[2]).items():
    images = np.load(f"{name}.npy")
    loaded = keras.saving.load_model(f"{name}.keras")
    built = build_unet(UNetConfig(**fields))
    built.set_weights(loaded.get_weights())
    outputs = loaded(images)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    again = built(images)
    again = again if isinstance(again, list) else [again]
    for one, other in zip(outputs, again, strict=True):
        one, other = map(keras.ops.convert_to_numpy, (one, other))
        np.testing.assert_array_equal(one, other)
    np.savez(f"{name}.npz", *map(keras.ops.convert_to_numpy, outputs))

    before = built.get_weights()
    built.compile("sgd", [keras.losses.MeanSquaredError() for _ in outputs])
    targets = [np.zeros(each.shape, "float32") for each in outputs]
    built.train_on_batch(images, targets if len(targets) > 1 else targets[0])
    for old, new in zip(before, built.get_weights(), strict=True):
        assert np.isfinite(new).all()
    assert not np.array_equal(before[0], built.get_weights()[0])
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_logits_of_another_backend(backend, light_configs, tmp_path):
    if not importlib.util.find_spec(backend):
        pytest.skip(f"{backend} is not installed; `nox -s backends` has it")
    del light_configs["sync_batch"]  # Keras has it for TensorFlow only, and says so.
    expected = {}
    for name, config in light_configs.items():
        model = build_unet(config)
        side = Geometry.of(config).nearest_valid_sizes(60)[1]
        shape = (2, side, side, config.input_channels)
        images = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
        outputs = model(images)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        expected[name] = [np.asarray(each) for each in outputs]
        model.save(tmp_path / f"{name}.keras")
        np.save(tmp_path / f"{name}.npy", images)
    fields = json.dumps(
        {name: dataclasses.asdict(config) for name, config in light_configs.items()}
    )
    subprocess.run(
        [sys.executable, "-c", PROGRAM, backend, fields],
        cwd=tmp_path,
        check=True,
        env={**os.environ, "KERAS_BACKEND": backend},
    )
    for name, outputs in expected.items():
        found = np.load(tmp_path / f"{name}.npz")
        for one, other in zip(found.values(), outputs, strict=True):
            error = np.abs(one - other).max() / np.abs(other).max()
            assert error < 1e-4, name
