"""N steps in one graph equal N steps one by one."""

import numpy as np
import tensorflow as tf

from unet_train.loop import make_train_loop


def counter():
    """A step that keeps a running total of what it was given."""
    total = tf.Variable(0.0)

    def step(batch):
        total.assign_add(tf.reduce_sum(batch))
        return {"total": total.read_value(), "first": batch[0]}

    return step


def dataset():
    return tf.data.Dataset.range(100).map(lambda x: tf.cast([x, 2 * x], tf.float32))


def test_logs_of_every_step_and_the_last_batch():
    loop = make_train_loop(counter(), ("total", "first"))
    logs, last = loop(iter(dataset()), tf.constant(5))
    np.testing.assert_array_equal(logs["first"], [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(logs["total"], 3 * np.cumsum([0, 1, 2, 3, 4]))
    np.testing.assert_array_equal(last, [4, 8])


def test_goes_on_where_it_stopped_and_traces_once():
    loop = make_train_loop(counter(), ("total", "first"))
    batches = iter(dataset())
    seen = [
        loop(batches, tf.constant(steps))[0]["first"].numpy() for steps in (1, 4, 2, 7)
    ]
    np.testing.assert_array_equal(np.concatenate(seen), np.arange(14))
    assert loop.experimental_get_tracing_count() == 1


def test_compiled_with_xla():
    loop = make_train_loop(counter(), ("total", "first"), jit_compile=True)
    logs, _ = loop(iter(dataset()), tf.constant(3))
    np.testing.assert_array_equal(logs["total"], [0, 3, 9])
