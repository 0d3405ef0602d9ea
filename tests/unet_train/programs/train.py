"""Trains discs on some devices, as a process of its own: `train.py ARGUMENTS`.

Prints a line of JSON after each round, the steps' costs, one with the images that were
scored here, time and again, and one at the end, the seeds of each device.

`--devices N` gives N logical CPUs; `--announce N` prints a line in the midst of a
round, before step N; `--max_file_bytes N` lets no file grow larger; `--spoil N` has the
machine of this number fail when it validates; further arguments are JSON for model,
task, data and trainer.

`train` does the same within a process that has its devices.
"""

import argparse
import json
import os
import resource
import sys
import unittest.mock

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--run_dir", required=True)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--announce", type=int)
    parser.add_argument("--spoil", type=int)
    parser.add_argument("--max_file_bytes", type=int, default=resource.RLIM_INFINITY)
    parser.add_argument("--resume", action="store_true")
    for group in ("model", "task", "data", "trainer"):
        parser.add_argument(f"--{group}", type=json.loads, default={})
    options = vars(parser.parse_args())
    limits = options.pop("max_file_bytes"), resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * options.pop("devices")
    tf.config.set_logical_device_configuration(cpu, logical)

    try:
        seeds = train(
            tell=lambda record: print(json.dumps(record), flush=True), **options
        )
        print(json.dumps({"seeds": seeds}))
    except KeyboardInterrupt as interrupt:
        print(interrupt)
        sys.exit(3)


def train(
    run_dir,
    data_dir,
    *,
    tell,
    model,
    task,
    data,
    trainer,
    resume=False,
    announce=None,
    spoil=None,
):
    """Calls `tell` with each record; returns what each device draws from."""
    from unet_core import UNetConfig, build_unet
    from unet_train import Callback, SegmentationData, SegmentationTask, Trainer
    from unet_train.callbacks import BestModels, EarlyStopping
    from unet_train.scoring.accumulator import MaskScores

    class Report(Callback):
        def on_loop_end(self, run, logs):
            tell({"step": run.step, "loss": logs["loss"].tolist()})

        def on_eval_end(self, run, metrics):
            tell({"step": run.step, "iou": metrics["iou"]})

    callbacks = [Report(), BestModels(), EarlyStopping(patience=1000)]
    # The same on processors with bfloat16, and no time is spent on measuring.
    trainer = {"precision": "float32", **trainer}
    trainer = Trainer(run_dir, callbacks=callbacks, **trainer)
    with trainer.scope():
        config = {"depth": 1, "base_filters": 4, **model}
        task = SegmentationTask(build_unet(UNetConfig(**config)), **task)
    if announce is not None:
        task.train_step = announcing(task, announce)
    data = {"tile_size": 30, "batch_size": 4, **data}
    data = SegmentationData("discs", data_dir=data_dir, **data)
    scored, add = [], MaskScores.add

    def note(self, example, found):
        machine = json.loads(os.environ.get("TF_CONFIG", "{}")).get("task", {})
        if spoil is not None and machine["index"] == spoil:
            raise ValueError(f"{example.name} is spoilt")
        scored.append(example.name)
        add(self, example, found)

    with unittest.mock.patch.object(MaskScores, "add", note):
        trainer.fit(task, data, resume=resume)
    tell({"scored": scored})
    return seeds_of(task, trainer)


def seeds_of(task, trainer):
    """What each device of this machine draws from, a list for each layer."""
    import tensorflow as tf

    with trainer.scope():
        local = tf.distribute.get_strategy().experimental_local_results
        return [
            [state.numpy().tolist() for state in local(variable)]
            for variable in task.tracked().get("seeds", [])
        ]


def announcing(task, step):
    """The task's step, which says when it is the one of this number."""
    import tensorflow as tf

    train_step = task.train_step

    def announce(batch):
        tf.cond(
            task.optimizer.iterations.value == step - 1,
            lambda: tf.print("about to do step", step, output_stream=sys.stdout),
            tf.no_op,
        )
        return train_step(batch)

    return announce


if __name__ == "__main__":
    main()
