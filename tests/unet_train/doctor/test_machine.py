"""A device is judged by its own memory and its own piece of the batch."""

import json
import os
import subprocess
import sys

import keras
import pytest
import tensorflow as tf

from unet_train.data.share import ALL, Share
from unet_train.doctor import machine
from unet_train.options import TrainerOptions

CLUSTER = {
    "cluster": {"worker": ["a:1", "b:1", "c:1"]},
    "task": {"type": "worker", "index": 0},
}


def see(monkeypatch, **devices):
    """Has TensorFlow see so many devices of a kind."""
    monkeypatch.setattr(
        tf.config, "list_logical_devices", lambda kind: range(devices.get(kind, 0))
    )


def test_device_cpu_has_the_memory_of_the_cpu(monkeypatch, tmp_path):
    """A GPU that is there and hidden is not asked."""
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["gpu"])
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: [])
    path = tmp_path / "meminfo"
    path.write_text("MemAvailable:    7 kB\n")
    monkeypatch.setattr(machine, "_MEMORY", path)
    assert machine.available_bytes() == 7 * 1024


@pytest.mark.parametrize(
    ("strategy", "devices", "cluster", "share"),
    [
        ("none", {"GPU": 8, "CPU": 1}, {}, ALL),
        ("auto", {"CPU": 2}, {}, ALL),
        ("auto", {"GPU": 1, "CPU": 1}, {}, ALL),
        ("auto", {"GPU": 8, "CPU": 1}, {}, Share(replicas=8)),
        ("mirrored", {"GPU": 2, "CPU": 1}, {}, Share(replicas=2)),
        ("mirrored", {"CPU": 2}, {}, Share(replicas=2)),
        ("auto", {"CPU": 1}, CLUSTER, Share(workers=3)),
        ("multi_worker", {"GPU": 4}, CLUSTER, Share(workers=3, replicas=4)),
        ("multi_worker", {"CPU": 1}, {}, ALL),
        ("none", {"GPU": 4}, CLUSTER, ALL),
        ("tpu", {"TPU": 8}, {}, Share(replicas=8)),
    ],
)
def test_how_a_batch_goes_round(monkeypatch, strategy, devices, cluster, share):
    see(monkeypatch, **devices)
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    assert machine.share_of_run(strategy) == share


@pytest.mark.parametrize(
    ("share", "parts", "tiles"),
    [
        (ALL, 1, 64),
        (ALL, 4, 16),
        (Share(replicas=8), 1, 8),
        (Share(replicas=8), 2, 4),
        (Share(workers=2, replicas=4), 1, 8),
        # The largest piece of an uneven batch.
        (Share(replicas=3), 1, 22),
    ],
)
def test_tiles_at_once(share, parts, tiles):
    assert machine.tiles_at_once(share, 64, parts=parts) == tiles


def test_a_gpu_asked_for_in_vain_leaves_the_cpu(monkeypatch):
    asked = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(machine, "configure", asked.append)
    machine.settle(TrainerOptions(max_steps=1, device="gpu", strategy="mirrored"))
    machine.settle(TrainerOptions(max_steps=1))
    assert [(each.device, each.strategy) for each in asked] == [
        ("cpu", "none"), ("auto", "none"),
    ]  # fmt: skip


PROGRAM = """
import sys
import tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
from unet_train.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("accumulate", "tiles"), [(1, 2), (2, 1), (3, None)], ids=["whole", "halves", "3"]
)
def test_a_run_on_two_devices(data_dir, tmp_path, accumulate, tiles):
    arguments = [
        "doctor", f"--data.data_dir={data_dir}", "--data.name=discs",
        "--data.tile_size=30", "--data.batch_size=4", "--model.depth=1",
        "--model.base_filters=2", "--trainer.max_steps=1", "--steps=4", "--images=4",
        "--trainer.strategy=mirrored", f"--trainer.accumulate={accumulate}",
        f"--output={tmp_path}", "--json",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    if tiles is None:
        assert done.returncode == 2
        assert "which 2 devices cannot compute in 3 equal parts" in done.stderr
        return
    found = {each["check"]: each for each in json.loads(done.stdout)["findings"]}
    assert found["memory"]["text"].startswith(f"{tiles} tiles at once take about")
    assert "one batch, 4 steps" in found["learning"]["text"]


def test_layers_of_models_within_the_network_take_memory_too():
    """The same layers in blocks, of equal inner names, as without."""

    def convolutions(x, count):
        for number in range(count):
            name = f"conv_{number}"
            x = keras.layers.Conv2D(4, 3, padding="same", name=name)(x)
        return x

    def block(kind, name):
        image = keras.Input((None, None, 4))
        if kind == "functional":
            return keras.Model(image, convolutions(image, 2), name=name)
        layers = [keras.layers.Conv2D(4, 3, padding="same") for _ in range(2)]
        return keras.Sequential([image, *layers], name=name)

    image = keras.Input((None, None, 4))
    plain = keras.Model(image, convolutions(image, 4))
    expected = machine.training_bytes(plain, tile_size=20, batch_size=2)
    for kind in ("functional", "sequential"):
        image = keras.Input((None, None, 4))
        x = block(kind, "second")(block(kind, "first")(image))
        nested = keras.Model(image, x)
        found = machine.training_bytes(nested, tile_size=20, batch_size=2)
        assert found == expected
