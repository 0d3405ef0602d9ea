"""Trains discs on some devices, as a process of its own: `train.py ARGUMENTS`.

Prints a line of JSON after each round, the steps' costs, and one at the end, the
seeds of each device. `--devices N` gives N logical
CPUs; `--announce N` prints a line in the midst of a round, before step N;
`--max_file_bytes N` lets no file grow larger; further arguments are JSON for model,
task, data and trainer.
"""

import argparse
import json
import os
import resource
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--run_dir", required=True)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--announce", type=int)
    parser.add_argument("--max_file_bytes", type=int, default=resource.RLIM_INFINITY)
    parser.add_argument("--resume", action="store_true")
    for group in ("model", "task", "data", "trainer"):
        parser.add_argument(f"--{group}", type=json.loads, default={})
    options = parser.parse_args()
    limits = options.max_file_bytes, resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * options.devices
    tf.config.set_logical_device_configuration(cpu, logical)

    from unet_core import UNetConfig, build_unet
    from unet_train import Callback, SegmentationData, SegmentationTask, Trainer
    from unet_train.callbacks import BestModels, EarlyStopping

    class Report(Callback):
        def on_loop_end(self, run, logs):
            print(json.dumps({"step": run.step, "loss": logs["loss"].tolist()}))
            sys.stdout.flush()

        def on_eval_end(self, run, metrics):
            print(json.dumps({"step": run.step, "iou": metrics["iou"]}), flush=True)

    callbacks = [Report(), BestModels(), EarlyStopping(patience=1000)]
    # The same on processors with bfloat16, and no time is spent on measuring.
    trainer = {"precision": "float32", **options.trainer}
    trainer = Trainer(options.run_dir, callbacks=callbacks, **trainer)
    with trainer.scope():
        config = {"depth": 1, "base_filters": 4, **options.model}
        task = SegmentationTask(build_unet(UNetConfig(**config)), **options.task)
    if options.announce is not None:
        task.train_step = announcing(task, options.announce)
    data = {"tile_size": 30, "batch_size": 4, **options.data}
    data = SegmentationData("discs", data_dir=options.data_dir, **data)
    try:
        trainer.fit(task, data, resume=options.resume)
        report_seeds(task, trainer)
    except KeyboardInterrupt as interrupt:
        print(interrupt)
        sys.exit(3)


def report_seeds(task, trainer):
    """Prints what each device of this machine draws from, a list for each layer."""
    import tensorflow as tf

    with trainer.scope():
        local = tf.distribute.get_strategy().experimental_local_results
        seeds = [
            [state.numpy().tolist() for state in local(variable)]
            for variable in task.tracked().get("seeds", [])
        ]
    print(json.dumps({"seeds": seeds}))


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
