"""Every loss of a table against numpy, whatever is ignored, however it is split."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from unet_train.losses import (
    LOSSES,
    BceDice,
    BinaryCrossentropy,
    Dice,
    Focal,
    Loss,
    Lovasz,
    Tversky,
    make_loss,
)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def mean_over_pixels(per_pixel):
    """A reference of a pixel-wise loss, from that of one pixel."""

    def reference(masks, logits, weights):
        total, count = 0.0, 0
        for mask, logit, weight in zip(
            masks.ravel(), logits.ravel(), weights.ravel(), strict=True
        ):
            if mask != 255:
                total += weight * per_pixel(int(mask), logit)
                count += 1
        return total / count if count else 0.0

    return reference


def mean_over_images(per_image):
    """A reference of an image-wise loss, from that of one image's counting pixels."""

    def reference(masks, logits, weights):
        costs = []
        for mask, logit, weight in zip(masks, logits, weights, strict=True):
            counts = mask != 255
            if counts.any():
                costs.append(per_image(mask[counts], logit[counts], weight[counts]))
        return float(np.mean(costs)) if costs else 0.0

    return reference


def bce(pos_weight=1.0, smoothing=0.0):
    def per_pixel(label, logit):
        target = label * (1 - smoothing) + 0.5 * smoothing
        p = sigmoid(logit)
        return -pos_weight * target * np.log(p) - (1 - target) * np.log(1 - p)

    return mean_over_pixels(per_pixel)


def focal(gamma=2.0, alpha=None):
    def per_pixel(label, logit):
        p = sigmoid(logit) if label else 1 - sigmoid(logit)
        balance = 1.0 if alpha is None else (alpha if label else 1 - alpha)
        return -balance * (1 - p) ** gamma * np.log(p)

    return mean_over_pixels(per_pixel)


def tversky(alpha, beta, smooth=1.0):
    def per_image(labels, logits, weights):
        p = sigmoid(logits)
        tp = (weights * p * (labels == 1)).sum()
        fp = (weights * p * (labels == 0)).sum()
        fn = (weights * (1 - p) * (labels == 1)).sum()
        return 1 - (tp + smooth) / (tp + alpha * fp + beta * fn + smooth)

    return mean_over_images(per_image)


def lovasz_of_image(labels, logits, weights):
    """The definition: errors from large to small, each times what IoU loses by it."""
    errors = 1 - logits * (2.0 * (labels == 1) - 1)
    order = np.argsort(-errors, kind="stable")
    total, before, wrong = 0.0, 0.0, np.zeros(len(labels), bool)
    for pixel in order:
        wrong[pixel] = True
        truth = labels == 1
        intersection, union = (truth & ~wrong).sum(), (truth | wrong).sum()
        after = 1 - intersection / union
        total += max(errors[pixel], 0.0) * (after - before)
        before = after
    return total


def added(*references):
    return lambda *arguments: sum(each(*arguments) for each in references)


TABLE = {
    "bce": (BinaryCrossentropy(), bce()),
    "bce, weighted": (BinaryCrossentropy(pos_weight=3.0), bce(3.0)),
    "bce, smoothed": (BinaryCrossentropy(label_smoothing=0.2), bce(smoothing=0.2)),
    "dice": (Dice(), tversky(0.5, 0.5)),
    "dice, smooth": (Dice(smooth=30.0), tversky(0.5, 0.5, 30.0)),
    "bce_dice": (BceDice(), added(bce(), tversky(0.5, 0.5))),
    "focal": (Focal(), focal()),
    "focal, balanced": (Focal(gamma=1.5, alpha=0.25), focal(1.5, 0.25)),
    "tversky": (Tversky(), tversky(0.3, 0.7)),
    "lovasz": (Lovasz(), mean_over_images(lovasz_of_image)),
    "keras": (
        make_loss({"class_path": "keras.losses.BinaryFocalCrossentropy"}),
        focal(2.0),
    ),
}
every_loss = pytest.mark.parametrize("name", TABLE)


def draw(seed=0, images=3, side=5):
    """Masks with ignored pixels, one image without foreground, and logits."""
    rng = np.random.default_rng(seed)
    masks = rng.choice([0, 1, 255], (images, side, side, 1), p=[0.5, 0.3, 0.2])
    masks[1][masks[1] == 1] = 0
    logits = rng.normal(0, 2, masks.shape)
    weights = rng.uniform(0.5, 3, masks.shape)
    return masks.astype(np.uint8), logits, weights


def value(loss, masks, logits, *weights):
    arrays = (np.asarray(each, np.float32) for each in (logits, *weights))
    return float(loss(tf.constant(masks), *map(tf.constant, arrays)))


def test_every_named_loss_is_in_the_table():
    assert set(LOSSES) - {"ce", "ce_dice"} <= set(TABLE)
    assert (LOSSES["ce"], LOSSES["ce_dice"]) == (LOSSES["bce"], LOSSES["bce_dice"])
    for name, made in LOSSES.items():
        assert type(make_loss(name)) is made


@every_loss
def test_value_is_that_of_the_definition(name):
    loss, reference = TABLE[name]
    for seed in range(3):
        masks, logits, _ = draw(seed)
        expected = reference(masks, logits, np.ones_like(logits))
        assert value(loss, masks, logits) == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize("name", [name for name in TABLE if name != "lovasz"])
def test_value_with_weights_of_pixels(name):
    loss, reference = TABLE[name]
    masks, logits, weights = draw()
    expected = reference(masks, logits, weights)
    assert value(loss, masks, logits, weights) == pytest.approx(expected, rel=2e-5)


@every_loss
def test_gradient_is_that_of_finite_differences(name):
    loss, reference = TABLE[name]
    masks, logits, weights = draw(side=3)
    weights[:] = 1
    variable = tf.Variable(logits, dtype=tf.float32)
    with tf.GradientTape() as tape:
        cost = loss(masks, variable)
    found = tape.gradient(cost, variable).numpy()
    step = 1e-5
    expected = np.zeros_like(logits)
    for index in np.ndindex(*logits.shape):
        sides = []
        for sign in (1, -1):
            moved = logits.copy()
            moved[index] += sign * step
            sides.append(reference(masks, moved, weights))
        expected[index] = (sides[0] - sides[1]) / (2 * step)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert not found[masks == 255].any()
    assert np.abs(found).max() > 1e-3


@every_loss
def test_parts_of_a_batch_add_up_to_the_whole(name):
    """Whatever each part ignores: this is what devices and accumulation rest on."""
    loss = TABLE[name][0]
    masks, logits, _ = draw(images=4)
    masks[3] = 255
    logits = logits.astype(np.float32)
    whole = loss.total(masks, logits), loss.weight(masks)
    parts = [slice(0, 1), slice(1, 4)]
    totals = sum(loss.total(masks[part], logits[part]) for part in parts)
    weights = sum(loss.weight(masks[part]) for part in parts)
    np.testing.assert_allclose(totals, whole[0], rtol=1e-5)
    np.testing.assert_allclose(weights, whole[1])


@every_loss
def test_what_is_ignored_does_not_matter(name):
    loss = TABLE[name][0]
    masks, logits, _ = draw()
    changed = np.where(masks == 255, 1e4, logits)
    assert value(loss, masks, changed) == value(loss, masks, logits)


@every_loss
@pytest.mark.parametrize("label", [0, 1, 255])
@pytest.mark.parametrize("logit", [-1e4, 0.0, 1e4])
def test_extremes_are_well_defined(name, label, logit):
    loss = TABLE[name][0]
    masks = np.full((2, 4, 4, 1), label, np.uint8)
    logits = tf.Variable(np.full(masks.shape, logit, np.float32))
    with tf.GradientTape() as tape:
        cost = loss(masks, logits)
    assert np.isfinite(tape.gradient(cost, logits)).all()
    cost = float(cost)
    assert np.isfinite(cost)
    if label == 255:
        assert cost == 0
    elif logit == (1e4 if label else -1e4):
        # Smoothed labels are never met by a certain answer.
        assert cost == pytest.approx(0, abs=1e-6) or name == "bce, smoothed"
    elif logit:
        assert cost > 0.2


@every_loss
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_logits_of_low_precision_are_summed_in_float32(name, dtype):
    loss = TABLE[name][0]
    rng = np.random.default_rng(0)
    # 80,000 pixels: their sum is beyond float16.
    masks = rng.integers(0, 2, (1, 200, 400, 1)).astype(np.uint8)
    logits = tf.cast(rng.normal(0, 3, masks.shape), dtype)
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
    assert float(compiled(masks, logits)) == pytest.approx(
        value(loss, masks, logits), rel=1e-5
    )


class Hinge(Loss):
    """A loss of somebody else's."""

    def __init__(self, margin):
        self.margin = margin

    def total(self, masks, logits, pixel_weights=None):
        return tf.reduce_sum(tf.nn.relu(self.margin - logits))

    def weight(self, masks):
        return tf.constant(2.0)


def test_a_loss_by_class_path(monkeypatch):
    monkeypatch.setattr(keras.losses, "MyHinge", Hinge, raising=False)
    spec = {"class_path": "keras.losses.MyHinge", "init_args": {"margin": 3.0}}
    loss = make_loss(spec)
    assert float(loss(np.zeros((1, 1, 1, 1), np.uint8), tf.constant([1.0]))) == 1.0


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ("dise", r"no 'dise'. Give one of \['bce', 'bce_dice'"),
        ({"class_path": "unet_train.nothing.X"}, "Cannot import the class path"),
        ({"class_path": "X"}, "Cannot import the class path 'X'"),
        ({"class_path": "unet_train.task.losses.Dice", "args": {}}, "described by"),
        (
            {"class_path": "unet_train.task.losses.Dice", "init_args": {"a": 1}},
            "does not take the arguments",
        ),
        ({"class_path": "keras.losses.Dice"}, "Dice gives no value for each pixel"),
        ({"class_path": "fractions.Fraction"}, "gives a Fraction, which is no loss"),
    ],
)
def test_what_is_no_loss(spec, fault):
    with pytest.raises(ValueError, match=fault):
        make_loss(spec)


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (BinaryCrossentropy, {"pos_weight": 0}),
        (BinaryCrossentropy, {"label_smoothing": 1}),
        (Focal, {"gamma": -1}),
        (Tversky, {"smooth": 0}),
        (BceDice, {"dice_weight": 0}),
    ],
)
def test_impossible_arguments(make, arguments):
    with pytest.raises(ValueError, match=r"must be.*Received"):
        make(**arguments)
