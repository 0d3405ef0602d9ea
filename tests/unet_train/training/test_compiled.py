"""What XLA compiles computes what TensorFlow computes, but for rounding."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from unet_train.task.layers import speed_up
from unet_train.training.loop import make_train_loop

# Adam would make gradients that are mostly rounding as large as the others.
SGD = {"class_path": "keras.optimizers.SGD"}

# In batch norm, TensorFlow's rounding may be enough to turn a ReLU the other way; that
# pixel is then a part of the gradient, or none. XLA is nearer to float64.
GROUP = {"norm": "group", "groups": 2}


@pytest.fixture
def one_step(make_task):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    masks = rng.choice([0, 1, 255], (4, 32, 32, 1)).astype(np.uint8)

    def one_step(model, *, jit_compile, accumulate=1, precision="float32", **task):
        keras.utils.set_random_seed(0)
        task = make_task(
            {"padding": "same", **model}, optimizer=SGD, learning_rate=1.0, **task
        )
        task.accumulate = accumulate
        task.set_precision(precision)
        task.build_optimizer()
        speed_up(task.model, on_cpu=True)
        before = [np.array(weight) for weight in task.model.trainable_variables]
        loop = make_train_loop(
            task.train_step,
            task.log_names,
            after_step=task.after_step,
            jit_compile=jit_compile,
        )
        batches = tf.data.Dataset.from_tensors((images, masks)).repeat()
        _, logs = loop(iter(batches), tf.constant(1))
        values = [*task.model.weights, *task.averages]
        after = [np.array(weight) for weight in task.model.trainable_variables]
        moved = max(np.abs(a - b).max() for a, b in zip(after, before, strict=True))
        return logs["loss"].numpy(), [np.array(value) for value in values], moved

    return one_step


@pytest.mark.parametrize(
    ("model", "options", "tolerance"),
    [
        ({}, {}, 0.05),
        ({"norm": "sync_batch"}, {"clip_norm": 0.1, "ema": 0.9}, 0.05),
        (GROUP, {"accumulate": 2}, 1e-4),
        ({**GROUP, "depth": 2, "deep_supervision": 1}, {"loss": "bce_dice"}, 1e-4),
        (
            {**GROUP, "depth": 2, "deep_supervision": 1},
            {"accumulate": 2, "ema": 0.9, "precision": "mixed_float16"},
            0.05,
        ),
    ],
)
def test_it_is_the_same_compiled(one_step, model, options, tolerance):
    plain, compiled = (
        one_step(model, jit_compile=jit_compile, **options)
        for jit_compile in (False, True)
    )
    np.testing.assert_allclose(compiled[0], plain[0], rtol=tolerance)
    assert plain[2] > 1e-3
    for one, other in zip(compiled[1], plain[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * plain[2])
