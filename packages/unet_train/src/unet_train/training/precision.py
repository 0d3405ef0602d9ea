"""What a network computes in: what was asked for, or what is quickest on this machine.

```python
choice = choose_precision("auto", model, tile_size=572, tiles=4, on_cpu=True)
task.set_precision(choice.precision)
```

Without the instructions a CPU takes 16-bit numbers apart and computes in 32 bits, which
takes longer than 32 bits from the start.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import pathlib
import time
from collections.abc import Set
from typing import TYPE_CHECKING, get_args

import keras
import tensorflow as tf

from unet_core.encoders.class_prior import without_class_prior
from unet_train.flops import matrix_product_gflops
from unet_train.options import AnyPrecision, Precision, TrainerOptions
from unet_train.runs.folder import precision_of
from unet_train.task.layers import set_precision
from unet_train.training.devices import Place

if TYPE_CHECKING:
    from unet_train.data.source import SegmentationData
    from unet_train.task.segmentation import SegmentationTask

_LOG = logging.getLogger("unet_train")
_PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_CPUINFO = pathlib.Path("/proc/cpuinfo")
# As Linux names them: "flags" on x86, "Features" on Arm. Any one of these sets will do.
_INSTRUCTIONS: dict[Precision, list[set[str]]] = {
    "mixed_bfloat16": [{"avx512_bf16"}, {"amx_bf16"}, {"bf16"}],
    "mixed_float16": [{"avx512_fp16"}, {"amx_fp16"}, {"fphp", "asimdhp"}],
}
# From so much of float32's time on bfloat16 is not worth its rounding; and a choice
# that one measurement makes is not made otherwise by the next.
_QUICKER = 0.8
# So many are computed at once where it is timed, or one tile: seconds, not minutes.
_PIXELS = 400_000
# Compute capabilities from which a GPU has units for products of such numbers.
_CAPABILITIES: list[tuple[tuple[int, int], Precision]] = [
    ((8, 0), "mixed_bfloat16"),
    ((7, 0), "mixed_float16"),
]


@dataclasses.dataclass(frozen=True)
class PrecisionChoice:
    """What a run computes in.

    Attributes:
      precision: That.
      reason: Why, in words; empty if it was asked for.
    """

    precision: Precision
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.precision} ({self.reason})" if self.reason else self.precision


def choose_precision(
    asked: AnyPrecision,
    model: keras.Model,
    *,
    tile_size: int,
    tiles: int,
    on_cpu: bool,
) -> PrecisionChoice:
    """Takes what was asked for; with "auto" what suits the machine.

    On a GPU its compute capability decides: bfloat16 from 8.0 on, float16 from 7.0 on,
    else float32. A TPU computes in bfloat16. On a CPU with instructions for bfloat16
    the network's own forward and backward pass is timed in both, as it trains: on the
    tiles of a step, or as many as take seconds.

    Args:
      asked: Of the options.
      model: The network, its layers as they train; it is left in the precision that was
        chosen.
      tile_size: Side of its input in pixels.
      tiles: That a device computes at once.
      on_cpu: Whether it is computed on one.
    """
    if asked != "auto":
        return PrecisionChoice(asked)
    if not on_cpu:
        return _of_accelerator()
    flags = processor_flags()
    if not flags or emulated("mixed_bfloat16", flags):
        return PrecisionChoice("float32", "no instructions for bfloat16 here")
    trained = without_class_prior(model)
    shape = (
        max(1, min(tiles, _PIXELS // tile_size**2)),
        *(tile_size, tile_size, trained.input_shape[-1]),
    )
    seconds = {
        each: _seconds_a_pass(trained, each, shape)
        for each in ("float32", "mixed_bfloat16")
    }
    ratio = seconds["mixed_bfloat16"] / seconds["float32"]
    chosen: Precision = "mixed_bfloat16" if ratio <= _QUICKER else "float32"
    set_precision(model, chosen)
    return PrecisionChoice(chosen, f"bfloat16 takes {ratio:.2f} of float32's time here")


def settle_precision(
    options: TrainerOptions,
    task: SegmentationTask,
    data: SegmentationData,
    *,
    place: Place,
    run_dir: str | os.PathLike[str],
) -> PrecisionChoice:
    """Sets what a run computes in: the same on all machines, and when it goes on.

    Warns if a CPU emulates what was asked for.

    Args:
      options: What was asked for. "auto" leaves a run that goes on as it is.
      task: Gets the precision.
      data: What it learns from.
      place: Where it is computed.
      run_dir: Of the run.
    """
    asked, kept = options.precision, precision_of(run_dir)
    if asked == "auto" and kept in _PRECISIONS:
        asked = kept
    start, end = place.share.of_batch(data.options.batch_size)
    choice = choose_precision(
        asked,
        task.model,
        tile_size=data.options.tile_size,
        tiles=(end - start) // (place.share.replicas * options.accumulate),
        on_cpu=place.is_cpu,
    )
    first = _PRECISIONS[round(place.of_first(_PRECISIONS.index(choice.precision)))]
    if first != choice.precision:
        choice = PrecisionChoice(first, "as on the first machine")
    flags = processor_flags() if place.is_cpu and place.is_chief else set()
    if warning := emulation_warning(choice.precision, flags):
        _LOG.warning("%s", warning)
    task.set_precision(choice.precision)
    return choice


def emulation_warning(precision: Precision, flags: Set[str]) -> str:
    """Both speeds and the cure, if a CPU with these flags emulates it; else empty."""
    lacking = emulated(precision, flags)
    if not lacking:
        return ""
    number = precision.removeprefix("mixed_")
    slow, quick = (matrix_product_gflops(each) for each in (precision, "float32"))
    return (
        f"this processor emulates {number} ({slow:.3g} GFLOP/s in a matrix product,"
        f" {quick:.3g} in float32): it has no {lacking}. Set --trainer.precision auto"
        " or float32."
    )


def processor_flags() -> set[str]:
    """The instructions that all processors here have; none where nothing tells."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    pairs = (line.partition(":") for line in lines)
    found = [
        set(flags.split())
        for name, _, flags in pairs
        if name.strip() in ("flags", "Features")
    ]
    return set.intersection(*found) if found else set()


def emulated(precision: Precision, flags: Set[str]) -> str:
    """The instructions that a CPU lacks; empty if it has some, or nothing tells."""
    ways = _INSTRUCTIONS.get(precision, [])
    if not flags or not ways or any(way <= flags for way in ways):
        return ""
    return ", ".join(" and ".join(sorted(way)) for way in ways)


def _of_accelerator() -> PrecisionChoice:
    gpus = tf.config.get_visible_devices("GPU")
    if not gpus:
        return PrecisionChoice("mixed_bfloat16", "a TPU's own")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    least = min(tuple(each.get("compute_capability", (0, 0))) for each in details)
    reason = f"compute capability {least[0]}.{least[1]}"
    for capability, precision in _CAPABILITIES:
        if least >= capability:
            return PrecisionChoice(precision, reason)
    return PrecisionChoice("float32", reason)


def _seconds_a_pass(
    model: keras.Model, precision: Precision, shape: tuple[int, ...]
) -> float:
    """Of one batch a device forward and back, the quickest of three after a first one.

    Statistics that move, and what dropout draws next, are then as before.
    """
    set_precision(model, precision)
    image = tf.random.stateless_uniform(shape, (0, 0), 0, 255)
    strategy = tf.distribute.get_strategy()

    def gradients() -> list[tf.Tensor]:
        weights = [weight.value for weight in model.trainable_variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            outputs = tf.nest.flatten(model(image, training=True))
            total = tf.add_n([tf.reduce_sum(each) for each in outputs])
        return tape.gradient(total, weights)

    # Devices have their own values of a weight, and only within `run` one is meant.
    on_all = tf.function(lambda: strategy.run(gradients), autograph=False)
    moving = [(each, each.numpy()) for each in model.non_trainable_variables]
    fastest = math.inf
    for run in range(4):
        start = time.perf_counter()
        for each in strategy.experimental_local_results(on_all()[0]):
            each.numpy()
        if run:
            fastest = min(fastest, time.perf_counter() - start)
    for variable, value in moving:
        variable.assign(value)
    return fastest
