"""N steps in one graph equal N steps one by one."""

import threading
import time

import numpy as np
import tensorflow as tf

from unet_train.training.loop import INPUT_WAIT, make_train_loop


def counter():
    """A step that keeps a running total of what it was given."""
    total = tf.Variable(0.0)

    def step(batch):
        total.assign_add(tf.reduce_sum(batch))
        return {"total": total.read_value(), "first": batch[0]}

    return step


def dataset():
    return tf.data.Dataset.range(100).map(lambda x: tf.cast([x, 2 * x], tf.float32))


def test_logs_of_every_step():
    loop = make_train_loop(counter(), ("total", "first"))
    done, logs = loop(iter(dataset()), tf.constant(5))
    assert done == 5
    np.testing.assert_array_equal(logs["first"], [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(logs["total"], 3 * np.cumsum([0, 1, 2, 3, 4]))


def test_goes_on_where_it_stopped_and_traces_once():
    loop = make_train_loop(counter(), ("total", "first"))
    batches = iter(dataset())
    seen = [
        loop(batches, tf.constant(steps))[1]["first"].numpy() for steps in (1, 4, 2, 7)
    ]
    np.testing.assert_array_equal(np.concatenate(seen), np.arange(14))
    assert loop.experimental_get_tracing_count() == 1


def test_compiled_with_xla():
    loop = make_train_loop(counter(), ("total", "first"), jit_compile=True)
    _, logs = loop(iter(dataset()), tf.constant(3))
    np.testing.assert_array_equal(logs["total"], [0, 3, 9])


def test_says_how_long_each_step_waited_for_its_batch():
    def step(batch):
        product = tf.linalg.matmul(tf.ones((900, 900)), tf.ones((900, 900)) * batch[0])
        return {"value": product[0, 0]}

    def slow(x):
        time.sleep(0.2)
        return x

    quick = dataset().prefetch(50)
    late = dataset().map(
        lambda x: tf.ensure_shape(tf.py_function(slow, [x], x.dtype), [2])
    )
    waits = {}
    for name, batches in (("quick", quick), ("late", late)):
        loop = make_train_loop(step, ("value",))
        iterator = iter(batches)
        loop(iterator, tf.constant(2))
        waits[name] = loop(iterator, tf.constant(8))[1][INPUT_WAIT].numpy()
        time.sleep(1)  # Between two rounds nothing waits for a batch.
        assert loop(iterator, tf.constant(2))[1][INPUT_WAIT].numpy().max() < 0.7
    # Part of it falls into the step before.
    assert waits["late"].min() >= 0.05
    assert np.median(waits["quick"]) < 0.02


def test_the_next_batch_is_asked_for_while_a_step_is_computed():
    asked = [threading.Event() for _ in range(6)]

    def make(number):
        asked[number].set()
        return np.float32([number])

    def step(batch):
        def wait(batch):
            return np.float32(asked[int(batch[0]) + 1].wait(timeout=5))

        return {"overlaps": tf.numpy_function(wait, [batch], tf.float32)}

    batches = tf.data.Dataset.range(6).map(
        lambda n: tf.ensure_shape(tf.numpy_function(make, [n], tf.float32), [1])
    )
    # Else TensorFlow itself fetches one ahead.
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    loop = make_train_loop(step, ("overlaps",))
    _, logs = loop(iter(batches.with_options(options)), tf.constant(4))
    # Nobody asks for another batch than those of the steps.
    np.testing.assert_array_equal(logs["overlaps"], [1, 1, 1, 0])


def test_ends_after_the_step_in_which_another_thread_says_stop():
    stop = tf.Variable(False)
    started = threading.Event()

    def step(batch):
        def wait():
            started.set()
            time.sleep(0.01)
            return np.float32(0)

        return {"value": tf.numpy_function(wait, [], tf.float32)}

    def set_stop():
        started.wait()
        time.sleep(0.1)
        stop.assign(True)

    loop = make_train_loop(step, ("value",), stop=stop)
    batches = iter(dataset().repeat())
    loop(batches, tf.constant(1))
    started.clear()
    threading.Thread(target=set_stop).start()
    done, logs = loop(batches, tf.constant(100_000))
    assert 1 <= done < 1000
    assert len(logs["value"]) == done
    # A loop that is told to stop beforehand still does a step.
    assert loop(batches, tf.constant(5))[0] == 1


def test_something_may_follow_each_step():
    count = tf.Variable(0)
    loop = make_train_loop(
        counter(), ("total",), after_step=lambda: count.assign_add(1)
    )
    loop(iter(dataset()), tf.constant(6))
    assert count == 6
