"""The loss against numpy, with ignored pixels."""

import numpy as np
import pytest
import tensorflow as tf

from unet_train.losses import binary_crossentropy


def reference(masks, logits):
    """The definition in float64, valid pixels only."""
    valid = masks != 255
    labels, logits = (masks[valid] == 1), logits[valid].astype(np.float64)
    probability = 1 / (1 + np.exp(-logits))
    return -np.log(np.where(labels, probability, 1 - probability))


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    masks = rng.choice([0, 1, 255], (2, 9, 11, 1)).astype(np.uint8)
    return masks, rng.normal(scale=3, size=masks.shape).astype(np.float32)


@pytest.mark.parametrize(
    ("reduction", "function"), [("mean", np.mean), ("sum", np.sum)]
)
def test_against_numpy(batch, reduction, function):
    expected = function(reference(*batch))
    np.testing.assert_allclose(
        binary_crossentropy(*batch, reduction), expected, rtol=1e-5
    )


def test_ignored_pixels_have_no_gradient(batch):
    masks, logits = batch
    variable = tf.Variable(logits)
    with tf.GradientTape() as tape:
        loss = binary_crossentropy(masks, variable)
    gradient = tape.gradient(loss, variable).numpy()
    assert (gradient[masks == 255] == 0).all()
    assert (gradient[masks != 255] != 0).all()


def test_nothing_but_ignored_pixels_costs_nothing():
    masks = np.full((1, 4, 4, 1), 255, np.uint8)
    variable = tf.Variable(np.ones((1, 4, 4, 1), np.float32))
    with tf.GradientTape() as tape:
        loss = binary_crossentropy(masks, variable)
    assert loss == 0
    assert (tape.gradient(loss, variable).numpy() == 0).all()


def test_stable_for_logits_far_from_zero():
    masks = np.array([0, 1], np.uint8).reshape(1, 1, 2, 1)
    logits = np.array([500, -500], np.float32).reshape(1, 1, 2, 1)
    assert binary_crossentropy(masks, logits) == 500
