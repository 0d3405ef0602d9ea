"""Our loop against `model.fit`: images a second on the same tiles, as a ratio.

    python benchmarks/train_step.py [--tile_size 188] [--base_filters 16] ...

Prints one JSON line. Both train the same network at the same precision on the same
batch from memory; the two take turns, so that a machine whose speed drifts is fair to
both, and the medians are compared.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from unet_core import UNetConfig, build_unet
from unet_train import SegmentationTask
from unet_train.loop import make_train_loop


def parse() -> argparse.Namespace:
    """The setting to measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tile_size", type=int, default=252)
    parser.add_argument("--batch_size", type=int, default=2)
    parser.add_argument("--base_filters", type=int, default=16)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--steps", type=int, default=10, help="in one turn")
    parser.add_argument("--turns", type=int, default=5)
    return parser.parse_args()


def make_task(options: argparse.Namespace) -> SegmentationTask:
    """The same network for both, at the same precision."""
    config = UNetConfig(depth=options.depth, base_filters=options.base_filters)
    task = SegmentationTask(build_unet(config))
    task.set_precision(options.precision)
    return task


def ours(
    task: SegmentationTask, batches: tf.data.Dataset, steps: int
) -> Callable[[], object]:
    """A turn of our loop."""
    task.optimizer.build(task.model.trainable_variables)
    loop = make_train_loop(task.train_step, task.log_names)
    iterator = iter(batches)
    return lambda: loop(iterator, tf.constant(steps))[0]["cost"].numpy()


def keras_fit(
    task: SegmentationTask, batches: tf.data.Dataset, steps: int
) -> Callable[[], object]:
    """A turn of `model.fit`; it has no ignored pixels, which is in its favour."""
    # By default `model.fit` compiles with XLA, which on a CPU is slower.
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    task.model.compile("adam", loss, jit_compile=False)
    return lambda: task.model.fit(batches, steps_per_epoch=steps, verbose=0)


def main() -> None:
    """Measures and prints."""
    options = parse()
    task = make_task(options)
    side, window = options.tile_size, options.tile_size - 2 * task.margin
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (options.batch_size, side, side, 3), np.uint8)
    masks = rng.integers(0, 2, (options.batch_size, window, window, 1), np.uint8)
    batches = tf.data.Dataset.from_tensors((images, masks)).repeat()
    turns = {
        "ours": ours(task, batches, options.steps),
        "model.fit": keras_fit(make_task(options), batches, options.steps),
    }
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for turn in range(options.turns + 1):
        for name, run in turns.items():
            start = time.perf_counter()
            run()
            if turn:  # The first compiles.
                seconds[name].append(time.perf_counter() - start)
    speed = {
        name: options.steps * options.batch_size / statistics.median(each)
        for name, each in seconds.items()
    }
    record = {
        "benchmark": "train_step",
        **vars(options),
        "images_a_second": {name: round(value, 2) for name, value in speed.items()},
        "ratio": round(speed["ours"] / speed["model.fit"], 3),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
