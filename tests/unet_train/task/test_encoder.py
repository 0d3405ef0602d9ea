"""A pretrained encoder: left as it is, or trained more slowly."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from unet_core import UNetConfig, build_unet
from unet_train import SegmentationTask
from unet_train.flops import train_gflop
from unet_train.task.encoder import encoder_layers
from unet_train.task.layers import speed_up

SIZE = 64


@pytest.fixture
def make_task():
    def make(**options):
        keras.utils.set_random_seed(0)
        config = UNetConfig(
            encoder="efficientnet_lite0", decoder_filters=(8, 8), norm_momentum=0.5
        )
        task = SegmentationTask(build_unet(config), learning_rate=0.01, **options)
        task.build_optimizer()
        return task

    return make


def batch():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    return tf.constant(images), tf.constant(images[..., :1] // 128)


def values(layers):
    return [weight.numpy() for layer in layers for weight in layer.weights]


def moved(before, layers):
    pairs = zip(before, values(layers), strict=True)
    return [float(np.abs(old - new).max()) for old, new in pairs]


@pytest.mark.parametrize("quick", [False, True])
def test_a_frozen_encoder_keeps_weights_and_statistics(make_task, quick):
    task = make_task(freeze_encoder=True)
    if quick:
        speed_up(task.model, on_cpu=True)
    encoder = encoder_layers(task.model)
    assert len(encoder) == 18
    others = [
        each for each in task.model.layers if each.weights and each not in encoder
    ]
    before, of_others = values(encoder), values(others)
    tf.function(task.train_step)(batch())
    assert max(moved(before, encoder)) == 0
    assert min(moved(of_others, others)) > 0


def test_the_quick_step_of_a_frozen_encoder_is_that_of_kerass_layers(make_task):
    losses = []
    for quick in (False, True):
        task = make_task(freeze_encoder=True)
        if quick:
            speed_up(task.model, on_cpu=True)
        losses.append(float(task.train_step(batch())["loss"]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_no_gradient_of_a_frozen_encoder_is_computed(make_task):
    """Neither by the step nor in the count of its work."""
    free, frozen = make_task(), make_task(freeze_encoder=True)
    types = []
    for task in (free, frozen):
        step = tf.function(task.train_step).get_concrete_function(batch())
        types.append([each.type for each in step.graph.get_operations()])
    assert "DepthwiseConv2dNativeBackpropFilter" in types[0]
    assert not any("DepthwiseConv2dNativeBackprop" in each for each in types[1])
    decoder_only = train_gflop(frozen.model, SIZE)
    assert decoder_only < train_gflop(free.model, SIZE)


def test_a_rate_of_the_encoder_is_a_learning_rate_of_its_own(make_task):
    """A first step of Adam moves each weight by the learning rate."""
    steps = {}
    for rate in (1.0, 0.1):
        task = make_task(encoder_rate=rate)
        encoder = encoder_layers(task.model)
        kernels = [each for each in encoder if "conv" in each.name]
        head = [task.model.get_layer("logits")]
        before = values(kernels), values(head)
        tf.function(task.train_step)(batch())
        steps[rate] = max(moved(before[0], kernels)), max(moved(before[1], head))
    assert steps[0.1][0] == pytest.approx(0.1 * steps[1.0][0], rel=0.01)
    assert steps[0.1][1] == pytest.approx(steps[1.0][1], rel=1e-3)


def test_a_network_without_an_encoder():
    model = keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.Conv2D(1, 3, padding="same")]
    )
    for options in ({"freeze_encoder": True}, {"encoder_rate": 0.5}):
        with pytest.raises(ValueError, match="no layer of 'sequential.* begins with"):
            SegmentationTask(model, **options)
