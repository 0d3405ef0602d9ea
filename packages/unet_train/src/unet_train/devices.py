"""Where the computation takes place, and what it may use there."""

from __future__ import annotations

import keras
import tensorflow as tf

from unet_train.options import TrainerOptions


def configure(options: TrainerOptions) -> str:
    """Sets TensorFlow up before anything is placed on a device.

    Memory on a GPU grows as needed instead of being taken whole.

    Args:
      options: Device, seed, determinism and placement logging are read.

    Returns:
      One line that says where the run takes place.

    Raises:
      RuntimeError: A GPU was insisted on and TensorFlow sees none.
    """
    keras.utils.set_random_seed(options.seed)
    if options.deterministic:
        tf.config.experimental.enable_op_determinism()
    tf.debugging.set_log_device_placement(options.log_device_placement)

    gpus = find_gpus()
    if options.device == "gpu" and not gpus:
        raise RuntimeError(
            "`--trainer.device gpu`, but TensorFlow sees no GPU. Install the driver and"
            " `pip install 'unet_train[cuda]'`, or use `--trainer.device auto`."
        )
    if options.device == "cpu" and gpus:
        tf.config.set_visible_devices([], "GPU")
        gpus = []
    place = f"GPU: {_gpu_name(gpus[0])}" if gpus else "CPU"
    return f"Training on {place}, {options.precision}"


def find_gpus() -> list[tf.config.PhysicalDevice]:
    """The GPUs that TensorFlow may use, set to take memory only as they need it."""
    gpus = tf.config.get_visible_devices("GPU")
    for gpu in gpus:
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:
            # In use already, by code that ran before us in this process; its setting
            # stands.
            break
    return list(gpus)


def _gpu_name(gpu: tf.config.PhysicalDevice) -> str:
    details = tf.config.experimental.get_device_details(gpu)
    return str(details.get("device_name", gpu.name))
