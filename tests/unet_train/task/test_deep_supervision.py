"""Further heads below the top: what they add to the cost, and where they end."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from unet_train import Predictor, Trainer
from unet_train.losses import make_loss
from unet_train.runs.load import load_model

KINDS = [
    ({"padding": "valid"}, 108),
    ({"padding": "valid", "upsampling": "resize"}, 116),
    ({"padding": "same"}, 32),
]
each_kind = pytest.mark.parametrize(("model", "side"), KINDS)
each_count = pytest.mark.parametrize("heads", [1, 2])


def bilinear(length, factor):
    """Interpolation between pixel centres along one axis, as a matrix."""
    matrix = np.zeros((length * factor, length))
    for row in range(len(matrix)):
        place = np.clip((row + 0.5) / factor - 0.5, 0, length - 1)
        left = min(int(place), length - 2)
        matrix[row, left] = 1 - (place - left)
        matrix[row, left + 1] = place - left
    return matrix


def at_full_size(logits, factor, window):
    """Logits of a head enlarged, and their centre cut out."""
    matrix = bilinear(logits.shape[1], factor)
    larger = np.einsum("ih,jw,nhwc->nijc", matrix, matrix, np.float64(logits))
    rest = larger.shape[1] - window
    assert rest >= 0
    assert rest % 2 == 0
    inner = slice(rest // 2, rest // 2 + window)
    return larger[:, inner, inner]


@pytest.fixture
def make_supervised(make_task):
    def make(model, heads, **options):
        keras.utils.set_random_seed(1)
        config = {"depth": 3, "base_filters": 4, "norm": "none", **model}
        return make_task({**config, "deep_supervision": heads}, **options)

    return make


def draw(task, side):
    rng = np.random.default_rng(0)
    window = side - 2 * task.margin
    images = rng.integers(0, 256, (2, side, side, 3)).astype(np.uint8)
    masks = rng.choice([0, 1, 255], (2, window, window, 1), p=[0.5, 0.3, 0.2])
    return tf.constant(images), tf.constant(masks.astype(np.uint8))


@each_kind
@each_count
@pytest.mark.parametrize("loss", ["bce", "dice"])
def test_cost_is_the_weighted_mean_over_the_heads(
    make_supervised, model, side, heads, loss
):
    task = make_supervised(model, heads, loss=loss)
    images, masks = draw(task, side)
    outputs = task.model(images, training=True)
    window = masks.shape[1]
    assert outputs[0].shape == masks.shape
    costs = [
        float(make_loss(loss)(masks, at_full_size(logits, 2**level, window)))
        for level, logits in enumerate(outputs)
    ]
    assert len(set(costs)) == heads + 1
    logs = task.train_step((images, masks))
    expected = np.average(costs, weights=[1, 1 / 2, 1 / 4][: heads + 1])
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)


@each_kind
@each_count
def test_every_head_is_trained(make_supervised, model, side, heads):
    task = make_supervised(model, heads)
    names = ["logits", "logits_1", "logits_2"][: heads + 1]
    before = {name: task.model.get_layer(name).get_weights() for name in names}
    task.train_step(draw(task, side))
    for name in names:
        after = task.model.get_layer(name).get_weights()
        for old, new in zip(before[name], after, strict=True):
            assert np.abs(new - old).max() > 1e-5


@each_kind
def test_the_copy_for_validation_has_the_full_size_only(make_supervised, model, side):
    task = make_supervised({**model, "norm": "batch"}, 2, learning_rate=0.1)
    copy = task.evaluation_model()
    images, masks = draw(task, side)
    task.train_step((images, masks))
    task.copy_weights(copy)
    assert len(copy.outputs) == 1
    expected = task.model(images, training=False)[0]
    np.testing.assert_allclose(copy(images), expected, atol=1e-6)


def test_heads_stay_in_float32(make_supervised):
    task = make_supervised({}, 2)
    task.set_precision("mixed_bfloat16")
    dtypes = {layer.name: layer.compute_dtype for layer in task.model.layers}
    assert {dtypes[name] for name in ("logits", "logits_1", "logits_2")} == {"float32"}
    assert dtypes["decoder_1_conv_1"] == "bfloat16"


def test_a_run_leaves_a_model_with_one_output(make_supervised, make_data, tmp_path):
    task = make_supervised({"padding": "same"}, 2, learning_rate=0.1)
    trainer = Trainer(tmp_path, max_steps=3)
    trainer.fit(task, make_data(tile_size=32))
    finished = load_model(tmp_path)
    assert finished.output_shape == (None, None, None, 1)
    photo = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    expected = Predictor(task.model).probabilities(photo)
    found = Predictor(finished).probabilities(photo)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    # From the checkpoint of a run that is under way, the same.
    (tmp_path / "model.keras").unlink()
    found = Predictor.load(tmp_path).probabilities(photo)
    np.testing.assert_allclose(found, expected, atol=1e-6)
