"""Our loop against `model.fit`, PyTorch and the machine, on the same tiles.

    pip install torch segmentation-models-pytorch
    python benchmarks/train_step.py [--tile_size 252] [--base_filters 16] ...
    python benchmarks/train_step.py --tile_size 572 --base_filters 64 --depth 4 \
        --batch_size 1 --steps 1 --precision mixed_bfloat16
    python benchmarks/train_step.py --encoder efficientnet_lite0 --freeze_encoder \
        --tile_size 320 --batch_size 12 --steps 4

Prints one JSON line. All train the same network at the same precision on the same
batch from memory; they take turns, so that a machine whose speed drifts is fair to all,
and the medians are compared. The peak is that of a large matrix product in the same
turns. Memory is the peak of a process of its own that does two steps: the host's, or
that of a GPU as TensorFlow counts it. With an encoder
PyTorch's network is segmentation_models.pytorch's, of the same encoder and as many
filters on the way up, and it is left out if that is not installed. `torch_compiled`
needs `pip uninstall triton` (2.14), the import of which beside TensorFlow ends the
process.
"""

import argparse
import functools
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from unet_core import Geometry, UNetConfig, build_unet
from unet_train import SegmentationTask
from unet_train.flops import matrix_product_gflops, train_gflop
from unet_train.task.layers import speed_up
from unet_train.training.devices import let_gpus_grow
from unet_train.training.loop import make_train_loop

Turn = Callable[[], object]


def parse() -> argparse.Namespace:
    """The setting to measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tile_size", type=int, default=252)
    parser.add_argument("--batch_size", type=int, default=2)
    parser.add_argument("--base_filters", type=int, default=16)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--padding", default="valid")
    parser.add_argument("--encoder", help="a preset's, instead of filters and depth")
    parser.add_argument("--freeze_encoder", action="store_true")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--steps", type=int, default=10, help="in one turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=MAKERS, default=[*MAKERS])
    parser.add_argument("--memory_of", help="do two steps of this one, print its peak")
    return parser.parse_args()


def main() -> None:
    """Measures and prints."""
    options = parse()
    let_gpus_grow()
    if options.memory_of:
        if (turn := MAKERS[options.memory_of](options, 1)) is not None:
            turn(), turn()
            print(peak_mib())
        return
    # First, while this process has nothing on the GPU.
    memory = {name: memory_of(name) for name in options.only}
    turns: dict[str, Turn] = {}
    for name in options.only:
        if (turn := MAKERS[name](options, options.steps)) is not None:
            turns[name] = turn
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    peaks = []
    for number in range(options.turns + 1):
        peaks.append(matrix_product_gflops(options.precision))
        for name, run in turns.items():
            start = time.perf_counter()
            run()
            if number:  # The first compiles.
                seconds[name].append(time.perf_counter() - start)
    images = options.steps * options.batch_size
    speed = {name: images / statistics.median(each) for name, each in seconds.items()}
    gflop = train_gflop(make_task(options).model, options.tile_size)
    record = {
        "benchmark": "train_step",
        **vars(options),
        "images_a_second": {name: round(value, 3) for name, value in speed.items()},
        "gflops": {name: round(value * gflop) for name, value in speed.items()},
        "peak_gflops": round(max(peaks)),
        "share_of_peak": round(speed["ours"] * gflop / max(peaks), 3),
        "times_as_fast_as": {
            name: round(speed["ours"] / value, 3)
            for name, value in speed.items()
            if name != "ours"
        },
        "memory_mib": {name: memory[name] for name in turns},
    }
    print(json.dumps(record))


def memory_of(name: str) -> int | None:
    """Peak of a process that does nothing else, MiB; None if it cannot be made."""
    command = [sys.executable, *sys.argv, f"--memory_of={name}"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(printed.splitlines()[-1]) if printed.strip() else None


def peak_mib() -> int:
    """Of this process until now, on the GPU if there is one."""
    if tf.config.list_logical_devices("GPU"):
        return int(tf.config.experimental.get_memory_info("GPU:0")["peak"]) >> 20
    # Not `getrusage`: its peak is inherited from the process that started this one.
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) // 1024


def make_config(options: argparse.Namespace, logits: int = 1) -> UNetConfig:
    """The same network for all."""
    if options.encoder:
        return UNetConfig(classes=logits, encoder=options.encoder)
    return UNetConfig(
        classes=logits,
        depth=options.depth,
        base_filters=options.base_filters,
        padding=options.padding,
    )


def make_task(options: argparse.Namespace, logits: int = 1) -> SegmentationTask:
    """The network with loss and optimizer, at the precision asked for."""
    model = build_unet(make_config(options, logits))
    task = SegmentationTask(model, freeze_encoder=options.freeze_encoder)
    task.set_precision(options.precision)
    return task


def make_batch(options: argparse.Namespace, labels: int = 2) -> tuple[Any, Any]:
    """Images uint8 [N, T, T, 3] and masks uint8 [N, W, W, 1] of so many labels."""
    config = make_config(options)
    window = Geometry(config.depth, config.padding).output_size(options.tile_size)
    count, side = options.batch_size, options.tile_size
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, side, side, 3), np.uint8)
    return images, rng.integers(0, labels, (count, window, window, 1), np.uint8)


def make_batches(options: argparse.Namespace, logits: int = 1) -> tf.data.Dataset:
    """The same batch over and over."""
    batch = make_batch(options, max(2, logits))
    return tf.data.Dataset.from_tensors(batch).repeat()


def ours(
    options: argparse.Namespace, steps: int, *, fast: bool = True, logits: int = 1
) -> Turn:
    """A turn of our loop, as the trainer runs it on this machine."""
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    task = make_task(options, logits)
    task.build_optimizer()
    if fast:
        speed_up(task.model, on_cpu=not on_gpu)
    loop = make_train_loop(task.train_step, task.log_names, jit_compile=on_gpu)
    iterator = iter(make_batches(options, logits))
    return lambda: loop(iterator, tf.constant(steps))[1]["loss"].numpy()


def keras_fit(
    options: argparse.Namespace, steps: int, *, jit_compile: bool | str = "auto"
) -> Turn:
    """A turn of `model.fit`; it has no ignored pixels, which is in its favour."""
    # By default with XLA on a GPU, without on a CPU.
    task, batches = make_task(options), make_batches(options)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    task.model.compile("adam", loss, jit_compile=jit_compile)
    return lambda: task.model.fit(batches, steps_per_epoch=steps, verbose=0)


def torch_loop(
    options: argparse.Namespace, steps: int, *, compiled: bool = False
) -> Turn | None:
    """A turn in PyTorch, channels last, autocast to bfloat16 if asked for."""
    try:
        import torch

        model = torch_encoder(options) if options.encoder else torch_unet(options)
    except ImportError:
        return None
    if options.precision == "mixed_float16":
        return None
    torch.set_num_threads(os.cpu_count() or 1)
    model = model.to(memory_format=torch.channels_last)
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.Adam(trained)
    images, masks = (
        torch.from_numpy(part.astype(np.float32)).permute(0, 3, 1, 2)
        for part in make_batch(options)
    )
    images = (images / 127.5 - 1).contiguous(memory_format=torch.channels_last)
    is_mixed = options.precision == "mixed_bfloat16"
    if compiled:
        model = torch.compile(model)

    def turn() -> object:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
                logits = model(images)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                logits.float(), masks
            )
            loss.backward()
            optimizer.step()
        return loss.item()

    return turn


def torch_encoder(options: argparse.Namespace) -> Any:
    """segmentation_models.pytorch's network that is most like ours."""
    import segmentation_models_pytorch as smp

    name = f"timm-tf_{options.encoder}"
    filters = make_config(options).decoder_filters
    model = smp.Unet(name, encoder_weights=None, decoder_channels=filters)
    if options.freeze_encoder:
        # In training mode its norms would go on to take the batch's statistics.
        model.encoder.requires_grad_(False).eval()
    return model


def torch_unet(options: argparse.Namespace) -> Any:
    """The same network as ours."""
    import torch
    from torch import nn

    pad = options.padding == "same"

    def stage(into: int, out: int) -> Any:
        return nn.Sequential(
            *(nn.Conv2d(into, out, 3, padding=int(pad)), nn.ReLU()),
            nn.BatchNorm2d(out),
            *(nn.Conv2d(out, out, 3, padding=int(pad)), nn.ReLU()),
            nn.BatchNorm2d(out),
        )

    class UNet(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            sides = [options.base_filters * 2**n for n in range(options.depth + 1)]
            self.down = nn.ModuleList(map(stage, [3, *sides[:-2]], sides[:-1]))
            self.bottom = stage(sides[-2], sides[-1])
            self.up = nn.ModuleList(
                nn.Sequential(
                    nn.ConvTranspose2d(2 * side, side, 2, 2), nn.BatchNorm2d(side)
                )
                for side in sides[:-1]
            )
            self.join = nn.ModuleList(stage(2 * side, side) for side in sides[:-1])
            self.head = nn.Conv2d(sides[0], 1, 1)

        def forward(self, x: Any) -> Any:
            skips = []
            for level in self.down:
                x = level(x)
                skips.append(x)
                x = nn.functional.max_pool2d(x, 2)
            x = self.bottom(x)
            for up, join in zip(self.up[::-1], self.join[::-1], strict=True):
                x, skip = up(x), skips.pop()
                crop = (skip.shape[-1] - x.shape[-1]) // 2
                end = skip.shape[-1] - crop
                x = join(torch.cat([skip[..., crop:end, crop:end], x], 1))
            return self.head(x)

    return UNet()


MAKERS: dict[str, Callable[..., Turn | None]] = {
    "ours": ours,
    "ours_plain_layers": functools.partial(ours, fast=False),
    "ours_three_classes": functools.partial(ours, logits=4),
    "model.fit": keras_fit,
    "model.fit_with_xla": functools.partial(keras_fit, jit_compile=True),
    "torch": torch_loop,
    "torch_compiled": functools.partial(torch_loop, compiled=True),
}


if __name__ == "__main__":
    main()
