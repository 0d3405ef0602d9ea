"""Is a GPU used, or why not; does it fit into memory; how long will it take?

A batch is shared by the devices of a run, so that one device is judged by its piece.
"""

from __future__ import annotations

import ctypes.util
import dataclasses
import importlib.util
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from unet_train.data.share import ALL, Share
from unet_train.doctor.finding import Finding
from unet_train.doctor.words import duration
from unet_train.flops import train_gflop
from unet_train.options import Device, Strategy, TrainerOptions
from unet_train.training.devices import configure

_DRIVER = pathlib.Path("/proc/driver/nvidia/version")
_DEVICES = pathlib.Path("/dev")
_MEMORY = pathlib.Path("/proc/meminfo")
_INSTALL = "Install it with `pip install 'unet_train[cuda]'`."
# Numbers kept for each weight: itself, its gradient, Adam's two moments.
_COPIES_OF_A_WEIGHT = 4
# The peak has gradients of outputs and work space besides. Measured on four networks on
# a CPU: 1.37 to 1.52 times what is counted.
_PEAK = 1.5


def settle(options: TrainerOptions) -> None:
    """Sets TensorFlow up for an examination, before anything is placed on a device.

    One device does it. Where a GPU is insisted on and there is none that is the CPU:
    `check_gpu` says so.

    ```python
    from unet_train.doctor import settle
    from unet_train.options import TrainerOptions

    settle(TrainerOptions(max_steps=1, device="cpu"))
    ```
    """
    device = "cpu" if check_gpu(options.device).verdict == "fault" else options.device
    configure(dataclasses.replace(options, strategy="none", device=device))


def check_gpu(device: Device) -> Finding:
    """Whether TensorFlow sees a GPU, or what is missing.

    Args:
      device: What the options ask for.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus and device != "cpu":
        details = tf.config.experimental.get_device_details(gpus[0])
        name = details.get("device_name", gpus[0].name)
        return Finding("gpu", "ok", f"{len(gpus)} seen, the first is {name}")
    if device == "cpu":
        return Finding("gpu", "ok", "left alone by --trainer.device cpu")
    has_driver = _DRIVER.exists()
    devices = sorted(path.name for path in _DEVICES.glob("nvidia[0-9]*"))
    reason, cure = why_no_gpu(
        os.environ,
        has_driver=has_driver,
        devices=devices,
        has_cuda=tf.test.is_built_with_cuda(),
        missing=missing_libraries(tf.sysconfig.get_build_info()),
    )
    if device == "gpu":
        return Finding("gpu", "fault", reason, cure, "Training cannot start")
    # A machine without one is no fault, one that lies idle is worth a word.
    return Finding("gpu", "warning" if has_driver or devices else "ok", reason, cure)


def why_no_gpu(
    environment: Mapping[str, str],
    *,
    has_driver: bool,
    devices: list[str],
    has_cuda: bool,
    missing: list[str],
) -> tuple[str, str]:
    """Why TensorFlow sees none, and the cure.

    Args:
      environment: Variables of the process.
      has_driver: Whether the kernel has loaded NVIDIA's driver.
      devices: Names of NVIDIA's device files.
      has_cuda: Whether TensorFlow was built with CUDA.
      missing: Libraries of CUDA that were not found.
    """
    hidden = environment.get("CUDA_VISIBLE_DEVICES")
    if not has_driver and not devices:
        return (
            "there is no GPU here: NVIDIA's driver is not loaded and there is no device"
            " file; training runs on the CPU",
            "On a machine with a GPU, install NVIDIA's driver.",
        )
    if not devices:
        return (
            "NVIDIA's driver is loaded, but there is no device file",
            "In a container, start it with the GPUs (`docker run --gpus all`); else"
            " load the module nvidia_uvm.",
        )
    if hidden is not None and (not hidden.strip() or hidden.strip().startswith("-1")):
        return (
            f"CUDA_VISIBLE_DEVICES={hidden!r} hides {', '.join(devices)}",
            "Unset that variable.",
        )
    if not has_cuda:
        return "this TensorFlow was built without CUDA", _INSTALL
    if missing:
        return f"CUDA's libraries are missing: {', '.join(missing)}", _INSTALL
    return (
        f"TensorFlow sees none, though there are {', '.join(devices)}",
        "Its own notes tell more: set TF_CPP_MIN_LOG_LEVEL=0. The driver may be too old"
        " for this CUDA.",
    )


def missing_libraries(build: Mapping[str, Any]) -> list[str]:
    """CUDA's libraries that neither pip nor the system has.

    Args:
      build: `tf.sysconfig.get_build_info()`.
    """
    if not build.get("is_cuda_build"):
        return []
    wanted = {"cudart": "cuda_runtime", "cublas": "cublas", "cudnn": "cudnn"}
    return [
        f"lib{library}"
        for library, package in wanted.items()
        if not ctypes.util.find_library(library) and not _has_package(package)
    ]


def _has_package(name: str) -> bool:
    """Whether pip has installed one of NVIDIA's packages."""
    try:
        return importlib.util.find_spec(f"nvidia.{name}") is not None
    except ModuleNotFoundError:
        return False


def share_of_run(strategy: Strategy) -> Share:
    """How a run's batches go round its devices, as `training.devices` will have it.

    It starts nothing: the other machines need not be there. They are taken to have as
    many devices as this one.
    """
    if strategy == "none":
        return ALL
    machines = 0
    if strategy in ("auto", "multi_worker"):
        cluster = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        tasks = cluster.cluster_spec().as_dict()
        machines = sum(len(tasks.get(kind, [])) for kind in ("chief", "worker"))
    kinds = {"tpu": ["TPU"], "mirrored": ["GPU", "CPU"], "auto": ["TPU", "GPU"]}
    counts = (
        len(tf.config.list_logical_devices(kind))
        for kind in kinds.get(strategy, ["GPU"])
    )
    replicas = next((count for count in counts if count), 1)
    return Share(workers=max(machines, 1), replicas=replicas)


def tiles_at_once(share: Share, batch_size: int, *, parts: int = 1) -> int:
    """How many tiles of a batch one device computes at once.

    Args:
      share: How the batch goes round the devices.
      batch_size: Over all devices and machines.
      parts: In which a device computes its piece, one after the other.
    """
    first, last = share.of_batch(batch_size)
    return -(-(last - first) // (share.replicas * parts))


def training_bytes(model: keras.Model, *, tile_size: int, batch_size: int) -> int:
    """About the most that a step holds: outputs of layers, weights, gradients, moments.

    Args:
      model: With its precision set.
      tile_size: Side of the input in pixels.
      batch_size: Tiles that one device computes at once.
    """
    channels = model.inputs[0].shape[-1]
    outputs = _output_bytes(model, (batch_size, tile_size, tile_size, channels))
    weights = sum(math.prod(weight.shape) for weight in model.weights)
    return int(_PEAK * (outputs + _COPIES_OF_A_WEIGHT * 4 * weights))


def _output_bytes(model: keras.Model, shape: tuple[int, ...]) -> int:
    """Bytes of the outputs of all layers, those of models within the model too."""
    graph = getattr(model, "_functional", model)  # A `Sequential` has one inside.
    nodes = [node for depth in graph._nodes_by_depth.values() for node in depth]
    nodes = [node for node in nodes if not node.is_input]
    tensors = [tensor for node in nodes for tensor in node.outputs]
    every = keras.Model(graph.inputs[0], tensors)
    shapes = dict(zip(map(id, tensors), every.compute_output_shape(shape), strict=True))
    shapes[id(graph.inputs[0])] = shape
    total = 0
    for node in nodes:
        if isinstance(node.operation, keras.Model):
            into = shapes[id(node.input_tensors[0])]
            total += _output_bytes(node.operation, into)
        else:
            size = tf.as_dtype(node.operation.compute_dtype).size
            total += size * sum(math.prod(shapes[id(each)]) for each in node.outputs)
    return total


def available_bytes() -> int | None:
    """Free memory of the device that is used, None if nothing tells."""
    # `--trainer.device cpu` hides the GPUs that are there.
    if tf.config.get_visible_devices("GPU"):
        from tensorflow.python.client import device_lib

        limits = [
            int(device.memory_limit)
            for device in device_lib.list_local_devices()
            if device.device_type == "GPU"
        ]
        return min(limits, default=None)
    try:
        lines = _MEMORY.read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return 1024 * int(found[0]) if found else None


def check_memory(needed: int, available: int | None, tiles: int) -> Finding:
    """Whether a training step fits.

    Args:
      needed: Bytes, of `training_bytes`.
      available: Bytes, of `available_bytes`.
      tiles: That a device computes at once.
    """
    text = f"{tiles} tiles at once take about {needed / 1e9:.1f} GB"
    if available is None:
        return Finding("memory", "ok", text)
    text += f" of {available / 1e9:.1f} GB"
    if needed <= 0.8 * available:
        return Finding("memory", "ok", text)
    cure = (
        "Lower --data.batch_size or --data.tile_size, raise --trainer.accumulate, or"
        " set --trainer.precision mixed_bfloat16."
    )
    if needed <= available:
        return Finding("memory", "warning", text, cure)
    return Finding("memory", "fault", text, cure, "Training would run out of memory")


def forecast_time(
    model: keras.Model,
    options: TrainerOptions,
    *,
    tile_size: int,
    batch_size: int,
    steps_per_epoch: float,
    seconds_a_step: float,
) -> Finding:
    """How long the run will take, validations and input left out.

    Args:
      model: What is trained.
      options: How long.
      tile_size: Side of the input in pixels.
      batch_size: Tiles a step on each device.
      steps_per_epoch: Batches in a pass over the training images.
      seconds_a_step: Measured on one device.
    """
    gflop = train_gflop(model, tile_size) * batch_size
    speed = (
        f"{seconds_a_step:.3g} s a step ({gflop:,.3g} GFLOP at"
        f" {gflop / seconds_a_step:,.0f} GFLOP/s)"
    )
    limits = {
        "steps": options.max_steps,
        "epochs": options.max_epochs and options.max_epochs * steps_per_epoch,
        "minutes": options.max_minutes and 60 * options.max_minutes / seconds_a_step,
    }
    steps = min(limit for limit in limits.values() if limit is not None)
    return Finding(
        "time",
        "ok",
        f"{speed}: {math.ceil(steps):,} steps, {steps / steps_per_epoch:,.1f} epochs,"
        f" in {duration(steps * seconds_a_step)}",
    )
