"""Every named loss on several classes, against numpy: softmax in place of a sigmoid."""

import numpy as np
import pytest
import tensorflow as tf

from unet_train.losses import (
    LOSSES,
    BceDice,
    Crossentropy,
    Dice,
    Focal,
    Lovasz,
    PixelLoss,
    Tversky,
    make_loss,
)

CLASSES = 4
WEIGHTS = (0.5, 1.0, 3.0, 0.0)


def softmax(x):
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def mean_over_pixels(per_pixel):
    """A reference from the loss of one pixel: of its label and its probabilities."""

    def reference(masks, logits, weights):
        total, count = 0.0, 0
        for index in np.ndindex(*masks.shape[:3]):
            if masks[index][0] != 255:
                cost = per_pixel(int(masks[index][0]), softmax(logits[index]))
                total += weights[index][0] * cost
                count += 1
        return total / count if count else 0.0

    return reference


def mean_over_images(per_image):
    """A reference from the loss of one image's counting pixels."""

    def reference(masks, logits, weights):
        costs = []
        for mask, logit, weight in zip(masks, logits, weights, strict=True):
            counts = mask[..., 0] != 255
            if counts.any():
                found = softmax(logit[counts])
                costs.append(per_image(mask[counts, 0], found, weight[counts, 0]))
        return float(np.mean(costs)) if costs else 0.0

    return reference


def crossentropy(smoothing=0.0, of_label=(1.0,) * CLASSES):
    def per_pixel(label, p):
        target = np.full(CLASSES, smoothing / CLASSES)
        target[label] += 1 - smoothing
        return -of_label[label] * (target * np.log(p)).sum()

    return mean_over_pixels(per_pixel)


def focal(gamma=2.0, alpha=None):
    def per_pixel(label, p):
        balance = 1.0 if alpha is None else (alpha if label else 1 - alpha)
        return -balance * (1 - p[label]) ** gamma * np.log(p[label])

    return mean_over_pixels(per_pixel)


def tversky(alpha, beta, smooth=1.0):
    def per_image(labels, p, weights):
        costs = []
        for k in range(1, CLASSES):
            truth = labels == k
            tp = (weights * p[:, k] * truth).sum()
            fp = (weights * p[:, k] * ~truth).sum()
            fn = (weights * (1 - p[:, k]) * truth).sum()
            costs.append(1 - (tp + smooth) / (tp + alpha * fp + beta * fn + smooth))
        return np.mean(costs)

    return mean_over_images(per_image)


def lovasz_of_image(labels, p, weights):
    """Of each class that is there: errors from large to small, times the IoU lost."""
    costs = []
    for k in np.unique(labels):
        truth = labels == k
        errors = np.abs(truth - p[:, k])
        total, before, wrong = 0.0, 0.0, np.zeros(len(labels), bool)
        for pixel in np.argsort(-errors, kind="stable"):
            wrong[pixel] = True
            after = 1 - (truth & ~wrong).sum() / (truth | wrong).sum()
            total += errors[pixel] * (after - before)
            before = after
        costs.append(total)
    return np.mean(costs)


def added(*references):
    return lambda *arguments: sum(each(*arguments) for each in references)


WEIGHTED = crossentropy(of_label=WEIGHTS)
TABLE = {
    "bce": (make_loss("bce"), crossentropy()),
    "ce": (make_loss("ce"), crossentropy()),
    "smoothed": (Crossentropy(label_smoothing=0.2), crossentropy(0.2)),
    "foreground": (Crossentropy(3.0), crossentropy(of_label=(1.0, 3.0, 3.0, 3.0))),
    "weighted": (Crossentropy(class_weights=WEIGHTS), WEIGHTED),
    "dice": (Dice(), tversky(0.5, 0.5)),
    "bce_dice": (BceDice(), added(crossentropy(), tversky(0.5, 0.5))),
    "ce_dice": (
        BceDice(class_weights=WEIGHTS),
        added(WEIGHTED, tversky(0.5, 0.5)),
    ),
    "focal": (Focal(), focal()),
    "focal, balanced": (Focal(gamma=1.5, alpha=0.25), focal(1.5, 0.25)),
    "tversky": (Tversky(), tversky(0.3, 0.7)),
    "lovasz": (Lovasz(), mean_over_images(lovasz_of_image)),
    "keras": (
        make_loss({"class_path": "keras.losses.CategoricalCrossentropy"}),
        crossentropy(),
    ),
}
every_loss = pytest.mark.parametrize("name", TABLE)


def draw(seed=0, images=3, side=5):
    """Masks with ignored pixels, one image without a class, logits and weights."""
    rng = np.random.default_rng(seed)
    labels = [*range(CLASSES), 255]
    masks = rng.choice(labels, (images, side, side, 1), p=[0.4, 0.2, 0.1, 0.1, 0.2])
    masks[-1][masks[-1] == 2] = 0
    logits = rng.normal(0, 2, (*masks.shape[:3], CLASSES))
    return masks.astype(np.uint8), logits, rng.uniform(0.5, 3, masks.shape)


def value(loss, masks, logits, *weights):
    arrays = (np.asarray(each, np.float32) for each in (logits, *weights))
    return float(loss(tf.constant(masks), *map(tf.constant, arrays)))


def test_every_named_loss_is_in_the_table():
    assert set(LOSSES) <= set(TABLE)


@every_loss
def test_value_is_that_of_the_definition(name):
    loss, reference = TABLE[name]
    for seed in range(2):
        masks, logits, weights = draw(seed)
        expected = reference(masks, logits, np.ones_like(weights))
        assert value(loss, masks, logits) == pytest.approx(expected, rel=2e-5)
        if name != "lovasz":
            expected = reference(masks, logits, weights)
            found = value(loss, masks, logits, weights)
            assert found == pytest.approx(expected, rel=2e-5)


@every_loss
def test_gradient_is_that_of_finite_differences(name):
    loss, reference = TABLE[name]
    masks, logits, weights = draw(side=2)
    variable = tf.Variable(logits, dtype=tf.float32)
    with tf.GradientTape() as tape:
        cost = loss(masks, variable)
    found = tape.gradient(cost, variable).numpy()
    expected, step = np.zeros_like(logits), 1e-5
    for index in np.ndindex(*logits.shape):
        sides = []
        for sign in (1, -1):
            moved = logits.copy()
            moved[index] += sign * step
            sides.append(reference(masks, moved, np.ones_like(weights)))
        expected[index] = (sides[0] - sides[1]) / (2 * step)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert not found[masks[..., 0] == 255].any()
    assert np.abs(found).max() > 1e-3


@every_loss
def test_parts_add_up_and_what_is_ignored_does_not_matter(name):
    loss = TABLE[name][0]
    masks, logits, _ = draw(images=4)
    masks[3] = 255
    logits = logits.astype(np.float32)
    parts = [slice(0, 1), slice(1, 4)]
    totals = sum(loss.total(masks[part], logits[part]) for part in parts)
    np.testing.assert_allclose(totals, loss.total(masks, logits), rtol=1e-5)
    weights = sum(loss.weight(masks[part]) for part in parts)
    np.testing.assert_allclose(weights, loss.weight(masks))
    changed = np.where(masks == 255, np.float32([1e4, 0, -1e4, 5]), logits)
    assert value(loss, masks, changed) == value(loss, masks, logits)


@every_loss
@pytest.mark.parametrize("label", [0, 2, 255])
@pytest.mark.parametrize("says", [0, 2])
def test_extremes_are_well_defined(name, label, says):
    loss = TABLE[name][0]
    masks = np.full((2, 4, 4, 1), label, np.uint8)
    certain = np.where(np.arange(CLASSES) == says, 1e4, -1e4).astype(np.float32)
    logits = tf.Variable(np.tile(certain, (2, 4, 4, 1)))
    with tf.GradientTape() as tape:
        cost = loss(masks, logits)
    assert np.isfinite(tape.gradient(cost, logits)).all()
    assert np.isfinite(cost)
    if label == 255:
        assert cost == 0
    elif label == says:
        assert float(cost) == pytest.approx(0, abs=1e-6) or name == "smoothed"
    else:
        assert cost > 0.2


@every_loss
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_logits_of_low_precision_are_summed_in_float32(name, dtype):
    loss = TABLE[name][0]
    rng = np.random.default_rng(0)
    masks = rng.integers(0, CLASSES, (1, 200, 400, 1)).astype(np.uint8)
    logits = tf.cast(rng.normal(0, 3, (1, 200, 400, CLASSES)), dtype)
    cost = loss(masks, logits)
    assert cost.dtype == tf.float32
    expected = value(loss, masks, tf.cast(logits, tf.float32))
    assert float(cost) == pytest.approx(expected, rel=1e-4)


@every_loss
def test_compiles_with_xla(name):
    loss = TABLE[name][0]
    masks, logits, _ = draw()
    logits = logits.astype(np.float32)
    compiled = tf.function(lambda m, x: loss(m, x), jit_compile=True)
    expected = value(loss, masks, logits)
    assert float(compiled(masks, logits)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["bce", "focal", "tversky"])
def test_of_two_logits_it_is_the_sigmoid_of_their_difference(name):
    """Dice and so on are of the foreground alone, and so the same too."""
    masks, logits, weights = draw()
    masks[(masks > 1) & (masks < 255)] = 0
    logits = logits[..., :2]
    one = value(make_loss(name), masks, logits[..., 1:] - logits[..., :1], weights)
    assert value(make_loss(name), masks, logits, weights) == pytest.approx(one, 1e-5)


def test_of_an_image_it_takes_probabilities():
    masks, logits, _ = draw(images=1)
    for loss in (Crossentropy(), Dice(), Lovasz()):
        found = softmax(logits[0]).astype(np.float32)
        total, weight = loss.of_image(masks[0, ..., 0], found)
        expected = value(loss, masks, logits)
        assert total / weight == pytest.approx(expected, rel=1e-4)


class Hinge(PixelLoss):
    """Of one logit: of several it says something of each."""

    def per_pixel(self, labels, logits):
        return tf.nn.relu(1 - logits * (2 * labels - 1))


def test_a_loss_for_one_logit_is_refused():
    masks, logits, _ = draw()
    with pytest.raises(ValueError, match=r"`per_pixel` of Hinge gives.*one logit only"):
        value(Hinge(), masks, logits)
    assert value(Hinge(), masks, logits[..., :1]) > 0


def test_class_weights_are_as_many_as_logits():
    with pytest.raises(ValueError, match=r"are 4, and the network has 3 logits"):
        BceDice(class_weights=WEIGHTS).check_logits(3)
    with pytest.raises(ValueError, match=r"for one logit there is `pos_weight`"):
        Crossentropy(class_weights=[1.0]).check_logits(1)
    with pytest.raises(ValueError, match=r"stand alone.*Received: \[1, 2\] and 2.0"):
        Crossentropy(2.0, class_weights=[1, 2])
    Crossentropy(class_weights=WEIGHTS).check_logits(4)
