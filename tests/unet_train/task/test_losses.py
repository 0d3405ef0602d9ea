"""Every loss against numpy, of one logit and of several, whatever is ignored."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from unet_train.losses import (
    LOSSES,
    BceDice,
    BinaryCrossentropy,
    Crossentropy,
    Dice,
    Focal,
    Loss,
    Lovasz,
    PixelLoss,
    Tversky,
    make_loss,
)

CLASSES = 4
WEIGHTS = (0.5, 1.0, 3.0, 0.0)


def probabilities_of(logits):
    """Softmax; of one logit, of it against 0: float [..., classes]."""
    if logits.shape[-1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], -1)
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def mean_over_pixels(per_pixel):
    """A reference from the loss of one pixel: of its label and its probabilities."""

    def reference(masks, logits, weights):
        total, count = 0.0, 0
        for index in np.ndindex(*masks.shape[:3]):
            if masks[index][0] != 255:
                cost = per_pixel(int(masks[index][0]), probabilities_of(logits[index]))
                total += weights[index][0] * cost
                count += 1
        return total / count if count else 0.0

    return reference


def mean_over_images(per_image):
    """A reference from labels, logits and weights of one image's counting pixels."""

    def reference(masks, logits, weights):
        costs = []
        for mask, logit, weight in zip(masks, logits, weights, strict=True):
            counts = mask[..., 0] != 255
            if counts.any():
                labels, weight = mask[counts, 0], weight[counts, 0]
                costs.append(per_image(labels, logit[counts], weight))
        return float(np.mean(costs)) if costs else 0.0

    return reference


def crossentropy(smoothing=0.0, of_label=(1.0,) * CLASSES):
    def per_pixel(label, p):
        target = np.full(len(p), smoothing / len(p))
        target[label] += 1 - smoothing
        return -of_label[label] * (target * np.log(p)).sum()

    return mean_over_pixels(per_pixel)


def focal(gamma=2.0, alpha=None):
    def per_pixel(label, p):
        balance = 1.0 if alpha is None else (alpha if label else 1 - alpha)
        return -balance * (1 - p[label]) ** gamma * np.log(p[label])

    return mean_over_pixels(per_pixel)


def tversky(alpha, beta, smooth=1.0):
    def per_image(labels, logits, weights):
        costs = []
        for k, p in enumerate(probabilities_of(logits).T[1:], start=1):
            truth = labels == k
            tp = (weights * p * truth).sum()
            fp = (weights * p * ~truth).sum()
            fn = (weights * (1 - p) * truth).sum()
            costs.append(1 - (tp + smooth) / (tp + alpha * fp + beta * fn + smooth))
        return np.mean(costs)

    return mean_over_images(per_image)


def lovasz_extension(truth, errors):
    """The definition: errors from large to small, each times what IoU loses by it."""
    total, before, wrong = 0.0, 0.0, np.zeros(len(truth), bool)
    for pixel in np.argsort(-errors, kind="stable"):
        wrong[pixel] = True
        after = 1 - (truth & ~wrong).sum() / (truth | wrong).sum()
        total += max(errors[pixel], 0.0) * (after - before)
        before = after
    return total


def lovasz_of_image(labels, logits, weights):
    """Of one logit the hinge's errors; else the softmax's of each class there is."""
    if logits.shape[-1] == 1:
        return lovasz_extension(labels == 1, 1 - logits[:, 0] * (2.0 * labels - 1))
    p = probabilities_of(logits)
    found = np.unique(labels)
    return np.mean(
        [lovasz_extension(labels == k, abs((labels == k) - p[:, k])) for k in found]
    )


def added(*references):
    return lambda *arguments: sum(each(*arguments) for each in references)


def keras_loss(name):
    return make_loss({"class_path": f"keras.losses.{name}"})


BCE_DICE = added(crossentropy(), tversky(0.5, 0.5))
WEIGHTED = crossentropy(of_label=WEIGHTS)
WEIGHTED_DICE = added(WEIGHTED, tversky(0.5, 0.5))
ANY = {
    "bce": (make_loss("bce"), crossentropy()),
    "bce, weighted": (Crossentropy(3.0), crossentropy(of_label=(1.0, 3.0, 3.0, 3.0))),
    "bce, smoothed": (Crossentropy(label_smoothing=0.2), crossentropy(0.2)),
    "dice": (Dice(), tversky(0.5, 0.5)),
    "bce_dice": (BceDice(), BCE_DICE),
    "focal": (Focal(), focal()),
    "focal, balanced": (Focal(gamma=1.5, alpha=0.25), focal(1.5, 0.25)),
    "tversky": (Tversky(), tversky(0.3, 0.7)),
    "lovasz": (Lovasz(), mean_over_images(lovasz_of_image)),
}
OF_ONE = {
    "dice, smooth": (Dice(smooth=30.0), tversky(0.5, 0.5, 30.0)),
    "keras": (keras_loss("BinaryFocalCrossentropy"), focal()),
}
OF_SEVERAL = {
    "weighted": (Crossentropy(class_weights=WEIGHTS), WEIGHTED),
    "ce_dice, weighted": (BceDice(class_weights=WEIGHTS), WEIGHTED_DICE),
    "keras": (keras_loss("CategoricalCrossentropy"), crossentropy()),
}
TABLE = {
    (name, logits): case
    for logits, more in [(1, OF_ONE), (CLASSES, OF_SEVERAL)]
    for name, case in {**ANY, **more}.items()
}
every_loss = pytest.mark.parametrize(
    ("name", "count"), TABLE, ids=[f"{name} of {count}" for name, count in TABLE]
)


def draw(count, seed=0, images=3, side=5):
    """Masks with ignored pixels, one image without a class, logits and weights."""
    rng = np.random.default_rng(seed)
    last = max(count - 1, 1)
    labels = [*range(last + 1), 255]
    share = [0.5, *[0.3 / last] * last, 0.2]
    masks = rng.choice(labels, (images, side, side, 1), p=share)
    without = masks[images // 2]
    without[without == last] = 0
    logits = rng.normal(0, 2, (*masks.shape[:3], count))
    return masks.astype(np.uint8), logits, rng.uniform(0.5, 3, masks.shape)


def value(loss, masks, logits, *weights):
    arrays = (np.asarray(each, np.float32) for each in (logits, *weights))
    return float(loss(tf.constant(masks), *map(tf.constant, arrays)))


def test_every_named_loss_is_in_the_table():
    assert set(LOSSES) - {"ce", "ce_dice"} <= set(ANY)
    assert (LOSSES["ce"], LOSSES["ce_dice"]) == (LOSSES["bce"], LOSSES["bce_dice"])
    for name, made in LOSSES.items():
        assert type(make_loss(name)) is made


@every_loss
def test_value_is_that_of_the_definition(name, count):
    loss, reference = TABLE[name, count]
    for seed in range(3):
        masks, logits, weights = draw(count, seed)
        expected = reference(masks, logits, np.ones_like(weights))
        assert value(loss, masks, logits) == pytest.approx(expected, rel=2e-5)
        if name != "lovasz":
            expected = reference(masks, logits, weights)
            found = value(loss, masks, logits, weights)
            assert found == pytest.approx(expected, rel=2e-5)


@every_loss
def test_gradient_is_that_of_finite_differences(name, count):
    loss, reference = TABLE[name, count]
    masks, logits, weights = draw(count, side=3 if count == 1 else 2)
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
def test_parts_of_a_batch_add_up_to_the_whole(name, count):
    """Whatever each part ignores: this is what devices and accumulation rest on."""
    loss, _ = TABLE[name, count]
    masks, logits, _ = draw(count, images=4)
    masks[3] = 255
    logits = logits.astype(np.float32)
    parts = [slice(0, 1), slice(1, 4)]
    totals = sum(loss.total(masks[part], logits[part]) for part in parts)
    np.testing.assert_allclose(totals, loss.total(masks, logits), rtol=1e-5)
    weights = sum(loss.weight(masks[part]) for part in parts)
    np.testing.assert_allclose(weights, loss.weight(masks))


@every_loss
def test_what_is_ignored_does_not_matter(name, count):
    loss, _ = TABLE[name, count]
    masks, logits, _ = draw(count)
    changed = np.where(masks == 255, [1e4, 0, -1e4, 5][:count], logits)
    assert value(loss, masks, changed) == value(loss, masks, logits)


def certain(count, label):
    """Logits that leave no doubt; None: that know nothing."""
    if label is None:
        return np.zeros(count, np.float32)
    if count == 1:
        return np.float32([1e4 if label else -1e4])
    return np.where(np.arange(count) == label, 1e4, -1e4).astype(np.float32)


@every_loss
@pytest.mark.parametrize("label", ["background", "last", "ignored"])
@pytest.mark.parametrize("says", ["background", "last", None])
def test_extremes_are_well_defined(name, count, label, says):
    loss, _ = TABLE[name, count]
    # The last class but one: the weight of the last is 0.
    labels = {"background": 0, "last": max(count - 2, 1), "ignored": 255, None: None}
    masks = np.full((2, 4, 4, 1), labels[label], np.uint8)
    logits = tf.Variable(np.tile(certain(count, labels[says]), (2, 4, 4, 1)))
    with tf.GradientTape() as tape:
        cost = loss(masks, logits)
    assert np.isfinite(tape.gradient(cost, logits)).all()
    assert np.isfinite(cost)
    if label == "ignored":
        assert cost == 0
    elif label == says:
        # Smoothed labels are never met by a certain answer.
        assert float(cost) == pytest.approx(0, abs=1e-6) or name == "bce, smoothed"
    elif says:
        assert cost > 0.2


@every_loss
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_logits_of_low_precision_are_summed_in_float32(name, count, dtype):
    loss, _ = TABLE[name, count]
    rng = np.random.default_rng(0)
    # 80,000 pixels: their sum is beyond float16.
    masks = rng.integers(0, max(count, 2), (1, 200, 400, 1)).astype(np.uint8)
    logits = tf.cast(rng.normal(0, 3, (1, 200, 400, count)), dtype)
    cost = loss(masks, logits)
    assert cost.dtype == tf.float32
    expected = value(loss, masks, tf.cast(logits, tf.float32))
    assert float(cost) == pytest.approx(expected, rel=1e-4)


@every_loss
def test_compiles_with_xla(name, count):
    loss, _ = TABLE[name, count]
    masks, logits, _ = draw(count)
    logits = logits.astype(np.float32)
    compiled = tf.function(lambda m, x: loss(m, x), jit_compile=True)
    expected = value(loss, masks, logits)
    assert float(compiled(masks, logits)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["bce", "focal", "tversky"])
def test_of_two_logits_it_is_the_sigmoid_of_their_difference(name):
    """Dice and so on are of the foreground alone, and so the same too."""
    masks, logits, weights = draw(CLASSES)
    masks[(masks > 1) & (masks < 255)] = 0
    logits = logits[..., :2]
    one = value(make_loss(name), masks, logits[..., 1:] - logits[..., :1], weights)
    assert value(make_loss(name), masks, logits, weights) == pytest.approx(one, 1e-5)


def test_of_an_image_it_takes_probabilities():
    masks, logits, _ = draw(CLASSES, images=1)
    for loss in (Crossentropy(), Dice(), Lovasz()):
        found = probabilities_of(logits[0]).astype(np.float32)
        total, weight = loss.of_image(masks[0, ..., 0], found)
        expected = value(loss, masks, logits)
        assert total / weight == pytest.approx(expected, rel=1e-4)


class PixelHinge(PixelLoss):
    """Of one logit: of several it says something of each."""

    def per_pixel(self, labels, logits):
        return tf.nn.relu(1 - logits * (2 * labels - 1))


def test_a_loss_for_one_logit_is_refused():
    masks, logits, _ = draw(CLASSES)
    with pytest.raises(
        ValueError, match=r"`per_pixel` of PixelHinge gives.*one logit only"
    ):
        value(PixelHinge(), masks, logits)
    assert value(PixelHinge(), masks, logits[..., :1]) > 0


def test_class_weights_are_as_many_as_logits():
    with pytest.raises(ValueError, match=r"are 4, and the network has 3 logits"):
        BceDice(class_weights=WEIGHTS).check_logits(3)
    with pytest.raises(ValueError, match=r"for one logit there is `pos_weight`"):
        Crossentropy(class_weights=[1.0]).check_logits(1)
    with pytest.raises(ValueError, match=r"stand alone.*Received: \[1, 2\] and 2.0"):
        Crossentropy(2.0, class_weights=[1, 2])
    Crossentropy(class_weights=WEIGHTS).check_logits(4)


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
