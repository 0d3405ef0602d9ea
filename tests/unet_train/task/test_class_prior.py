"""A class prior is for prediction: a step does without it, a validation has it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import unet_core.model
from unet_core import UNetConfig, build_unet
from unet_core.encoders import class_prior
from unet_train import SegmentationTask
from unet_train.flops import train_gflop

CATS = (281, 282, 283, 284, 285)
SGD = {"class_path": "keras.optimizers.SGD"}  # Quick to trace for 140 weights.


@pytest.fixture
def model(monkeypatch):
    """With a classifier drawn at random: to it nothing is a cat."""

    def load_encoder(model, config):
        kinds = class_prior.kinds_weights(config.class_prior)
        model.get_layer(class_prior.KINDS).set_weights(kinds)

    monkeypatch.setattr(unet_core.model, "load_encoder", load_encoder)
    keras.utils.set_random_seed(0)
    config = UNetConfig(
        encoder="efficientnet_lite0",
        encoder_weights="imagenet",
        decoder_filters=(8,) * 5,
        class_prior=(CATS,),
    )
    return build_unet(config)


def batch():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 64, 64, 3), np.uint8)
    return tf.constant(images), tf.constant(images[..., :1] // 128)


def test_steps_do_without_it_and_leave_it_alone(model):
    alone = keras.models.clone_model(class_prior.without_class_prior(model))
    for layer in alone.layers:
        layer.set_weights(model.get_layer(layer.name).get_weights())
    fixed = [
        weight
        for name in (class_prior.CLASSIFIER, class_prior.KINDS)
        for weight in model.get_layer(name).weights
    ]
    before = [weight.numpy() for weight in fixed]
    losses = []
    for each in (model, alone):
        task = SegmentationTask(each, optimizer=SGD, learning_rate=0.01)
        task.build_optimizer()
        step = tf.function(task.train_step)
        losses.append([float(step(batch())["loss"]) for _ in range(3)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0][2] < losses[0][0]
    for weight, old in zip(fixed, before, strict=True):
        np.testing.assert_array_equal(weight, old)
    assert train_gflop(model, 64) == train_gflop(alone, 64)


def test_a_validation_has_it(model):
    task = SegmentationTask(model, learning_rate=0.01)
    copy = task.evaluation_model()
    task.copy_weights(copy)
    images, _ = batch()
    without = np.asarray(task.trained(images))
    np.testing.assert_allclose(copy(images), model(images), atol=1e-5)
    lower = np.asarray(copy(images)) - without
    assert -6 <= lower.min() <= lower.max() < -4


def test_what_is_added_up_is_never_rounded(model):
    task = SegmentationTask(model)
    task.set_precision("mixed_bfloat16")
    dtypes = {layer.name: layer.compute_dtype for layer in model.layers}
    for name in ("logits", "encoder_prior", "logits_with_prior"):
        assert dtypes[name] == "float32"
    assert dtypes["decoder_0_conv_2"] == "bfloat16"
    images, _ = batch()
    assert model(images).dtype == task.trained(images).dtype == "float32"
