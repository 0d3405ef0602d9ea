"""What two logical CPUs do, as a process of its own: `two_devices.py EXPERIMENT`.

Prints what the function of that name returns, as a line of JSON. Where TF_CONFIG names
machines, it is one of them.
"""

import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import tensorflow as tf

from unet_train import SegmentationTask
from unet_train.options import TrainerOptions
from unet_train.task.replicas import draw_apart
from unet_train.training import precision as precision_room
from unet_train.training.devices import configure
from unet_train.training.loop import make_train_loop
from unet_train.training.precision import choose_precision


def averages(place):
    """Moving averages, a list a device, after a step that leaves the weights alone.

    Before it the bias of the first device is 1, that of the second 2, the averages 0.
    """
    task = SegmentationTask(make_model(), ema=0.5)
    task.build_optimizer()
    bias, average = task.model.weights[-1], task.averages[-1]
    average.assign([0.0])
    for value, here in zip((1.0, 2.0), local(bias.value), strict=True):
        here.assign([value])
    loop = make_train_loop(
        total, ("loss",), strategy=place.strategy, after_step=task.after_step
    )
    loop(place.iterate(ones), tf.constant(1))
    return [each.numpy().tolist() for each in local(average)]


def draws(place):
    """How many different draws four tiles get, two on each device, in two parts."""
    dropout = keras.layers.Dropout(0.5, seed=1)
    task = SegmentationTask(make_model(dropout))
    task.accumulate = 2
    task.build_optimizer()
    draw_apart(task.tracked()["seeds"])
    seen, count = tf.Variable(tf.zeros((2, 6, 6, 3))), tf.Variable(0)

    def noting(inputs, training=None, call=dropout.call):
        outputs = call(inputs, training=training)
        seen.assign(tf.tensor_scatter_nd_update(seen, [[count]], outputs))
        count.assign_add(1)
        return outputs

    dropout.call = noting
    tiles = tf.ones((2, 6, 6, 3), tf.uint8), tf.ones((2, 6, 6, 1), tf.uint8)
    tf.function(lambda: place.strategy.run(task.train_step, (tiles,)))()
    return len({part.tobytes() for each in local(seen) for part in each.numpy()})


def asks_for_input(place):
    """Operations of a step by which devices, or machines, ask whether all have a batch.

    There are none in a step that only adds up its batch.
    """
    loop = make_train_loop(total, ("loss",), strategy=place.strategy)
    traced = loop.get_concrete_function(place.iterate(ones), tf.constant(1))
    functions = traced.graph.as_graph_def().library.function
    kinds = {node.op for function in functions for node in function.node_def}
    assert "IteratorGetNext" in kinds or "MultiDeviceIteratorGetNextFromShard" in kinds
    return sorted(kind for kind in kinds if kind.startswith(("Collective", "Optional")))


def precision(place):
    """What is chosen on a processor with bfloat16: both are timed on all devices."""
    precision_room.processor_flags = lambda: {"avx512_bf16"}
    norm = keras.layers.BatchNormalization(synchronized=True)
    model = make_model(norm, keras.layers.Conv2D(4, 3))
    size = {"tile_size": 20, "tiles": 2}
    return str(choose_precision("auto", model, **size, on_cpu=place.is_cpu))


def ones(share):
    """Endless, as far as one can see, and of a size that one cannot see."""
    batches = tf.data.Dataset.from_tensors(tf.ones(8)).repeat()
    return share.batch(batches.unbatch().filter(lambda one: one > 0), 3)


def total(batch):
    return {"loss": tf.reduce_sum(batch)}


def make_model(*layers):
    model = keras.Sequential([keras.Input((None, None, 3)), *layers])
    model.add(keras.layers.Conv2D(1, 1))
    return model


def local(variable):
    return tf.distribute.get_strategy().experimental_local_results(variable)


if __name__ == "__main__":
    cpu = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, logical)
    strategy = "multi_worker" if "TF_CONFIG" in os.environ else "mirrored"
    place = configure(TrainerOptions(max_steps=1, strategy=strategy))
    with place.strategy.scope():
        print(json.dumps(globals()[sys.argv[1]](place)))
