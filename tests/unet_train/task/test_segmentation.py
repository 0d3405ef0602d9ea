"""One training step against a U-Net written out in numpy, and what may be added."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from unet_core import UNetConfig, build_unet
from unet_train import SegmentationTask

SIDE, OUTPUT = 22, 6
SGD = {"class_path": "keras.optimizers.SGD"}


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
    np.testing.assert_allclose(logs["loss"], expected_cost, rtol=1e-5)
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
        costs[reduction] = float(task.train_step(batch)["loss"])
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
    costs = [float(task.train_step((images, masks))["loss"]) for _ in range(15)]
    assert costs[-1] < 0.9 * costs[0]
    assert all(weight.dtype == "float32" for weight in task.model.weights)
    conv = task.model.get_layer("encoder_0_conv_1")
    assert conv.compute_dtype == precision.removeprefix("mixed_")
    assert task.model.get_layer("logits").compute_dtype == "float32"


def test_more_than_one_class_is_refused():
    model = build_unet(UNetConfig(depth=1, base_filters=1, classes=2))
    with pytest.raises(ValueError, match="has 2 logits a pixel.*`model.classes` 1"):
        SegmentationTask(model)


def test_tile_size_that_does_not_fit_names_the_nearest(make_task):
    with pytest.raises(ValueError, match="size 31. Nearest valid: 30 and 32"):
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


@pytest.fixture
def batch():
    """Four tiles of side 30, the first two nearly all ignored, the third wholly."""
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (4, 30, 30, 3)).astype(np.uint8)
    masks = rng.integers(0, 2, (4, 14, 14, 1)).astype(np.uint8)
    masks[:2, 1:] = 255
    masks[2] = 255
    return tf.constant(images), tf.constant(masks)


def numpy_values(weights):
    return [np.array(weight) for weight in weights]


def mean_gradients(model, images, masks):
    """Of the mean cross-entropy of the pixels that count, by TensorFlow itself."""
    with tf.GradientTape() as tape:
        chosen = masks != 255
        logits = tf.boolean_mask(model(images, training=True), chosen)
        labels = tf.cast(tf.boolean_mask(masks, chosen), tf.float32)
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
        cost = tf.reduce_mean(losses)
    return numpy_values(tape.gradient(cost, model.trainable_variables))


def step_of_sgd(task, batch):
    """The logs of a step at rate 1, and by how much it moved the weights."""
    before = numpy_values(task.model.trainable_variables)
    task.build_optimizer()
    logs = tf.function(task.train_step)(batch)
    after = numpy_values(task.model.trainable_variables)
    moved = [old - new for old, new in zip(before, after, strict=True)]
    return {name: float(value) for name, value in logs.items()}, moved


def assert_alike(one, other, tolerance=1e-6):
    for first, second in zip(one, other, strict=True):
        np.testing.assert_allclose(first, second, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("precision", "tolerance"), [("float32", 1e-6), ("mixed_float16", 2e-3)]
)
@pytest.mark.parametrize("share", [None, 0.3, 3.0])
def test_gradients_are_clipped_and_their_norm_is_of_before(
    make_task, batch, precision, tolerance, share
):
    keras.utils.set_random_seed(0)
    model = make_task({"norm": "none"}).model
    gradients = mean_gradients(model, *batch)
    norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients))
    clip_norm = None if share is None else float(share * norm)
    task = SegmentationTask(
        model, optimizer=SGD, learning_rate=1.0, clip_norm=clip_norm
    )
    task.set_precision(precision)
    logs, moved = step_of_sgd(task, batch)
    assert logs["gradient_norm"] == pytest.approx(norm, rel=10 * tolerance)
    factor = 0.3 if share == 0.3 else 1.0
    expected = [factor * gradient for gradient in gradients]
    assert_alike(moved, expected, tolerance * max(1, norm))


def test_weight_decay_leaves_biases_and_norms_alone(make_task):
    """Where all is ignored there is no gradient, and only the decay is left."""
    task = make_task(weight_decay=0.1, learning_rate=0.01)
    assert isinstance(task.optimizer, keras.optimizers.AdamW)
    for weight in task.model.trainable_variables:
        weight.assign(tf.ones_like(weight))
    images = tf.zeros((1, 30, 30, 3), tf.uint8)
    task.build_optimizer()
    logs = task.train_step((images, tf.fill((1, 14, 14, 1), tf.constant(255, "uint8"))))
    assert (logs["loss"], logs["gradient_norm"]) == (0, 0)
    values = {
        name: [w for w in task.model.trainable_variables if w.path.endswith(name)]
        for name in ("kernel", "bias", "gamma", "beta")
    }
    assert sum(map(len, values.values())) == len(task.model.trainable_variables)
    for name, weights in values.items():
        assert weights
        expected = 1 - 0.1 * 0.01 if name == "kernel" else 1.0
        for weight in weights:
            np.testing.assert_allclose(weight, expected, rtol=1e-6)


def test_without_weight_decay_it_is_adam(make_task):
    assert type(make_task().optimizer) is keras.optimizers.Adam


def test_an_optimizer_by_class_path(make_task):
    spec = {
        "class_path": "keras.optimizers.AdamW",
        "init_args": {"weight_decay": 0.2, "beta_1": 0.8},
    }
    optimizer = make_task(optimizer=spec, learning_rate=0.5).optimizer
    assert isinstance(optimizer, keras.optimizers.AdamW)
    assert (optimizer.weight_decay, optimizer.beta_1) == (0.2, 0.8)
    assert float(optimizer.learning_rate) == 0.5


@pytest.mark.parametrize(
    ("optimizer", "fault"),
    [
        ("sgd", r"There is no 'sgd'. Give one of \['adam'\]"),
        ({"class_path": "builtins.dict"}, "gives a dict, which is no Keras optimizer"),
        ({"class_path": "keras.optimizers.Sgd"}, "Cannot import the class path"),
        ({"class_path": "fractions.Fraction"}, "Fraction does not take the arguments"),
    ],
)
def test_what_is_no_optimizer(make_task, optimizer, fault):
    with pytest.raises(ValueError, match=fault):
        make_task(optimizer=optimizer)


def test_weight_decay_is_not_for_every_optimizer(make_task):
    with pytest.raises(ValueError, match="`weight_decay` is for `optimizer: adam`"):
        make_task(optimizer=SGD, weight_decay=0.1)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"clip_norm": 0}, "`clip_norm` must be above 0. Received: 0"),
        ({"ema": 1.0}, "`ema` must be at least 0 and below 1. Received: 1.0"),
        ({"weight_decay": -1}, "`weight_decay` must be at least 0. Received: -1"),
    ],
)
def test_impossible_options(make_task, options, fault):
    with pytest.raises(ValueError, match=fault):
        make_task(**options)


def test_averages_follow_their_formula(make_task, batch):
    # With 0.27 the third step is the first one that the option decides.
    task = make_task({"dropout": 0.2}, ema=0.27, learning_rate=0.1)
    task.set_precision("mixed_bfloat16")
    task.build_optimizer()
    expected = numpy_values(task.model.weights)
    for step, keep in enumerate((2 / 11, 3 / 12, 0.27, 0.27), 1):
        task.train_step(batch)
        task.after_step()
        weights = numpy_values(task.model.weights)
        expected = [
            keep * old + (1 - keep) * new
            for old, new in zip(expected, weights, strict=True)
        ]
        assert int(task.optimizer.iterations) == step
        assert_alike(numpy_values(task.averages), expected)
    now = numpy_values(task.model.weights)
    assert max(np.abs(a - b).max() for a, b in zip(now, expected, strict=True)) > 1e-3

    copy = task.evaluation_model()
    task.copy_weights(copy)
    assert_alike(copy.get_weights(), expected)
    assert_alike(task.model.get_weights(), now, 0)
    assert {layer.compute_dtype for layer in copy.layers} == {"float32"}


def test_without_averages_the_weights_are_validated(make_task, batch):
    task = make_task(learning_rate=0.1)
    task.build_optimizer()
    copy = task.evaluation_model()
    task.train_step(batch)
    task.after_step()
    assert task.averages == []
    task.copy_weights(copy)
    assert_alike(copy.get_weights(), task.model.get_weights(), 0)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("loss", ["bce", "bce_dice"])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_in_parts_are_those_of_the_whole_batch(
    make_task, batch, loss, reduction, weighted
):
    if weighted:
        weights = np.random.default_rng(2).uniform(1, 5, (4, 14, 14, 1))
        batch = (*batch, tf.constant(weights, tf.float32))
    found = []
    for parts in (1, 2, 4):
        keras.utils.set_random_seed(0)
        task = make_task(
            {"norm": "none"},
            optimizer=SGD, learning_rate=1.0, loss=loss, reduction=reduction,
        )  # fmt: skip
        task.accumulate = parts
        found.append(step_of_sgd(task, batch))
    (whole, moved), *others = found
    scale = max(np.abs(each).max() for each in moved)
    assert scale > 1e-3
    for logs, moved_in_parts in others:
        assert logs == pytest.approx(whole, rel=1e-5)
        assert_alike(moved_in_parts, moved, 1e-5 * scale)


def test_weights_of_the_pixels_count(tiny):
    model, image, mask = tiny
    weights = np.random.default_rng(3).uniform(1, 9, mask.shape)
    logits = numpy_unet(image, [np.float64(weight) for weight in model.weights])
    losses = np.logaddexp(0, logits) - (mask == 1) * logits
    valid = mask != 255
    ones = np.ones_like(weights)
    for given, expected in (
        ([], losses[valid].mean()),
        ([ones], losses[valid].mean()),
        # The paper weighs the sum of the losses, not what it is divided by.
        ([weights], (weights * losses)[valid].sum() / valid.sum()),
    ):
        before = model.get_weights()
        parts = image, mask, *(np.float32(each) for each in given)
        logs = SegmentationTask(model).train_step(
            tuple(tf.constant(part[None]) for part in parts)
        )
        np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)
        model.set_weights(before)


@pytest.mark.parametrize("name", ["bce", "dice", "bce_dice", "focal", "lovasz"])
def test_loss_of_a_validation(name, make_task, make_data):
    """That of the logits of all whole images together, divided by all their weights."""
    task, data = make_task({"padding": "same"}, loss=name), make_data()
    predictor = task.make_predictor(image_size=None)
    task.copy_weights(predictor.model)
    scores, totals, weights = task.make_scores(), 0.0, 0.0
    for example in data.examples("validation"):
        scores.add(example, predictor.probabilities(example.image))
        odd = [(0, side % 2) for side in example.image.shape[:2]]
        padded = np.pad(example.image, [*odd, (0, 0)], mode="reflect")
        logits = predictor.model(padded[None], training=False)
        logits = logits[:, : example.mask.shape[0], : example.mask.shape[1]]
        masks = tf.constant(example.mask[None])
        totals += task.loss.total(masks, logits).numpy().astype(np.float64)
        weights += task.loss.weight(masks).numpy()
    expected = np.sum(totals / weights)
    assert scores.result()["loss"] == pytest.approx(expected, rel=1e-4)
