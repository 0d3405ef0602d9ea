"""One training step against a U-Net written out in numpy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from unet_core import UNetConfig, build_unet
from unet_train import SegmentationTask

SIDE, OUTPUT = 22, 6


def convolve(x, kernel, bias):
    """Valid convolution, [H, W, C] with [kh, kw, C, F]."""
    rows, columns = kernel.shape[:2]
    height, width = x.shape[0] - rows + 1, x.shape[1] - columns + 1
    result = np.zeros((height, width, kernel.shape[3])) + bias
    for row in range(rows):
        for column in range(columns):
            part = x[row : row + height, column : column + width]
            result += part @ kernel[row, column]
    return result


def stage(x, weights):
    for kernel, bias in (weights[:2], weights[2:]):
        x = np.maximum(convolve(x, kernel, bias), 0)
    return x


def numpy_unet(image, weights):
    """The figure at depth 1 without norm, in float64; weights in the graph's order."""
    x = image / 127.5 - 1
    skip = stage(x, weights[0:4])
    height, width, channels = skip.shape
    pooled = skip.reshape(height // 2, 2, width // 2, 2, channels).max((1, 3))
    bottom = stage(pooled, weights[4:8])
    kernel, bias = weights[8:10]  # [2, 2, filters, channels]
    up = np.einsum("hwc,ijfc->hiwjf", bottom, kernel)
    up = up.reshape(2 * bottom.shape[0], 2 * bottom.shape[1], -1) + bias
    crop = (height - up.shape[0]) // 2
    merged = np.concatenate([skip[crop:-crop, crop:-crop], up], -1)
    return convolve(stage(merged, weights[10:14]), *weights[14:16])


def numpy_cost(image, mask, weights):
    logits = numpy_unet(image, weights)[mask != 255]
    labels = mask[mask != 255]
    return np.mean(np.logaddexp(0, logits) - labels * logits)


def numpy_gradient(image, mask, weights):
    """Central differences, one weight after the other."""
    gradients = []
    for weight in weights:
        gradient = np.zeros_like(weight)
        for index in np.ndindex(weight.shape):
            kept, costs = weight[index], []
            for shift in (1e-6, -1e-6):
                weight[index] = kept + shift
                costs.append(numpy_cost(image, mask, weights))
            weight[index] = kept
            gradient[index] = (costs[0] - costs[1]) / 2e-6
        gradients.append(gradient)
    return gradients


@pytest.fixture
def tiny():
    keras.utils.set_random_seed(5)
    model = build_unet(UNetConfig(depth=1, base_filters=2, norm="none"))
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        if "bias" in variable.path:  # Keeps the ReLUs alive and away from zero.
            variable.assign(rng.uniform(0.1, 0.3, variable.shape))
    image = rng.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    mask = rng.choice([0, 1, 255], (OUTPUT, OUTPUT, 1)).astype(np.uint8)
    return model, image, mask


def test_graph_equals_numpy(tiny):
    model, image, _ = tiny
    weights = [variable.numpy().astype(np.float64) for variable in model.weights]
    expected = numpy_unet(image, weights)
    assert expected.shape == (OUTPUT, OUTPUT, 1)
    np.testing.assert_allclose(model(image[None])[0], expected, rtol=1e-4, atol=1e-5)


def test_step_equals_adams_first_step_on_the_numerical_gradient(tiny):
    model, image, mask = tiny
    before = [variable.numpy().astype(np.float64) for variable in model.weights]
    gradients = numpy_gradient(image, mask, [weight.copy() for weight in before])
    assert sum(np.count_nonzero(np.abs(each) > 1e-4) for each in gradients) > 100

    task = SegmentationTask(model, learning_rate=1e-3)
    logs = task.train_step((tf.constant(image[None]), tf.constant(mask[None])))

    expected_cost = numpy_cost(image, mask, before)
    np.testing.assert_allclose(logs["cost"], expected_cost, rtol=1e-5)
    assert float(logs["learning_rate"]) == pytest.approx(1e-3)
    # Adam's first step: the bias-corrected moments are g and g squared.
    epsilon = task.optimizer.epsilon / np.sqrt(1 - task.optimizer.beta_2)
    for variable, weight, gradient in zip(
        model.weights, before, gradients, strict=True
    ):
        expected = weight - 1e-3 * gradient / (np.abs(gradient) + epsilon)
        clear = np.abs(gradient) > 1e-4
        np.testing.assert_allclose(
            variable.numpy()[clear], expected[clear], rtol=0, atol=2e-6
        )


def test_sum_is_the_mean_times_the_valid_pixels(tiny):
    model, image, mask = tiny
    batch = tf.constant(image[None]), tf.constant(mask[None])
    weights = model.get_weights()
    costs = {}
    for reduction in ("mean", "sum"):
        model.set_weights(weights)
        task = SegmentationTask(model, reduction=reduction)
        costs[reduction] = float(task.train_step(batch)["cost"])
    valid = np.count_nonzero(mask != 255)
    assert costs["sum"] == pytest.approx(valid * costs["mean"], rel=1e-5)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_float32_weights(make_task, precision):
    task = make_task(learning_rate=1e-2)
    task.set_precision(precision)
    task.optimizer.build(task.model.trainable_variables)
    rng = np.random.default_rng(0)
    images = tf.constant(rng.integers(0, 256, (2, 30, 30, 3)), tf.uint8)
    masks = tf.cast(images[:, 8:22, 8:22, :1] > 128, tf.uint8)
    costs = [float(task.train_step((images, masks))["cost"]) for _ in range(15)]
    assert costs[-1] < 0.9 * costs[0]
    assert all(weight.dtype == "float32" for weight in task.model.weights)
    conv = task.model.get_layer("encoder_0_conv_1")
    assert conv.compute_dtype == precision.removeprefix("mixed_")
    assert task.model.get_layer("logits").compute_dtype == "float32"


def test_more_than_one_class_is_refused():
    model = build_unet(UNetConfig(depth=1, base_filters=1, classes=2))
    with pytest.raises(ValueError, match="2 output channels.*`classes=1`"):
        SegmentationTask(model)


def test_tile_size_that_does_not_fit_names_the_nearest(make_task):
    with pytest.raises(ValueError, match="side 31. Nearest valid: 30 and 32"):
        make_task().check_tile_size(31)


def test_the_schedule_is_the_optimizers(make_task):
    steps = {}
    for warmup in (0, 10):
        task = make_task(warmup_steps=warmup)
        before = task.model.get_layer("logits").bias.numpy()
        images = tf.zeros((1, 30, 30, 3), tf.uint8)
        task.train_step((images, tf.ones((1, 14, 14, 1), tf.uint8)))
        steps[warmup] = task.model.get_layer("logits").bias.numpy() - before
    assert steps[0] == pytest.approx(1e-3, rel=1e-3)
    assert steps[10] == pytest.approx(1e-4, rel=1e-3)


def test_an_overflow_in_float16_halves_the_scale_and_skips_the_step(make_task):
    task = make_task(reduction="sum")
    task.set_precision("mixed_float16")
    task.set_precision("mixed_float16")  # A second time changes nothing.
    task.build_optimizer()
    assert isinstance(task.optimizer.inner_optimizer, keras.optimizers.Adam)
    before = task.model.get_weights()
    task.optimizer.dynamic_scale.assign(2.0**127)
    images = tf.zeros((1, 30, 30, 3), tf.uint8)
    task.train_step((images, tf.ones((1, 14, 14, 1), tf.uint8)))
    assert task.state_dict()["dynamic_scale"] == 2.0**126
    trainable = {id(weight) for weight in task.model.trainable_variables}
    for weight, old in zip(task.model.weights, before, strict=True):
        if id(weight) in trainable:
            np.testing.assert_array_equal(weight, old)
