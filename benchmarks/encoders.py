"""Pretrained encoders: photos a second forward and in training, frozen and free.

    python benchmarks/encoders.py [--size 320] [--encoders efficientnet_lite0 ...]

Prints one JSON line. Weights are random, which takes the same time. The encoders take
turns, and the medians are compared; "freezing" is how many times as fast a step is.
"""

import argparse
import functools
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from unet_core import UNetConfig, build_unet
from unet_train import SegmentationTask
from unet_train.options import Precision
from unet_train.task.layers import speed_up

Turn = Callable[[], object]
ENCODERS = [f"efficientnet_lite{number}" for number in range(3)]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--batch_size", type=int, default=12)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--encoders", nargs="+", default=ENCODERS)
    options = parser.parse_args()
    shape = (options.batch_size, options.size, options.size)
    turns = {
        (encoder, kind): turn
        for encoder in options.encoders
        for kind, turn in make_turns(encoder, shape, options.precision).items()
    }
    seconds: dict[tuple[str, str], list[float]] = {name: [] for name in turns}
    for number in range(options.turns + 1):
        for name, turn in turns.items():
            start = time.perf_counter()
            finish(turn())
            if number:  # The first one compiles.
                seconds[name].append(time.perf_counter() - start)
    speed = {
        name: options.batch_size / statistics.median(each)
        for name, each in seconds.items()
    }
    print(
        json.dumps(
            {
                **{name: getattr(options, name) for name in ("size", "batch_size")},
                "precision": options.precision,
                "photos_a_second": {
                    encoder: {
                        kind: round(speed[encoder, kind], 2)
                        for kind in ("forward", "free", "frozen")
                    }
                    for encoder in options.encoders
                },
                "freezing": {
                    each: round(speed[each, "frozen"] / speed[each, "free"], 2)
                    for each in options.encoders
                },
            }
        )
    )


def finish(result: object) -> None:
    """Waits for it: an operation may return before it is done."""
    for tensor in tf.nest.flatten(result):
        tensor.numpy()


def make_turns(
    encoder: str, shape: tuple[int, int, int], precision: Precision
) -> dict[str, Turn]:
    """A forward pass, and a step with the encoder free and frozen."""
    rng = np.random.default_rng(0)
    images = tf.constant(rng.integers(0, 256, (*shape, 3), np.uint8))
    batch = images, tf.constant(rng.integers(0, 2, (*shape, 1), np.uint8))
    turns: dict[str, Turn] = {}
    for kind in ("free", "frozen"):
        model = build_unet(UNetConfig(encoder=encoder))
        task = SegmentationTask(model, freeze_encoder=kind == "frozen")
        task.set_precision(precision)
        task.build_optimizer()
        speed_up(model, on_cpu=not tf.config.list_physical_devices("GPU"))
        turns[kind] = functools.partial(tf.function(task.train_step), batch)
    forward = functools.partial(tf.function(model), images, training=False)
    return {"forward": forward, **turns}


if __name__ == "__main__":
    main()
