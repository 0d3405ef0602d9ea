"""Prediction at the photo's own resolution, with a network whose answer is known."""

import keras
import numpy as np
import pytest

from unet_core import UNetConfig, build_unet
from unet_train import Predictor


@pytest.fixture(scope="module")
def bright():
    """A U-Net whose logit is positive where the red channel is above the middle.

    Only the centre of the kernels along the topmost skip is not zero.
    """
    model = build_unet(UNetConfig(depth=1, base_filters=1, norm="none", padding="same"))
    for variable in model.variables:
        value = np.zeros(variable.shape, np.float32)
        if variable.path.split("/")[0] in (
            "encoder_0_conv_1", "encoder_0_conv_2",
            "decoder_0_conv_1", "decoder_0_conv_2", "logits",
        ) and "kernel" in variable.path:  # fmt: skip
            middle = value.shape[0] // 2
            value[middle, middle, 0, 0] = 50 if "logits" in variable.path else 1
        variable.assign(value)
    # ReLU keeps what is above the middle; a bias lets the rest fall below zero.
    model.get_layer("logits").bias.assign([-5.0])
    return model


@pytest.mark.parametrize("image_size", [None, 40, 200])
def test_every_pixel_stays_where_it_is(bright, image_size):
    photo = np.zeros((60, 100, 3), np.uint8)
    photo[:20, :30] = 255
    photo[40:, 50:60] = 255
    mask = Predictor(bright, image_size=image_size)(photo)
    assert mask.shape == (60, 100)
    expected = photo[..., 0] > 0
    # Scaling blurs the edge, by less than the 2.5 pixels that one small pixel covers.
    inner = np.zeros_like(mask)
    inner[:17, :27] = inner[43:, 53:57] = True
    outer = np.zeros_like(mask)
    outer[:23, :33] = outer[37:, 47:63] = True
    assert mask[inner].all()
    assert not mask[~outer].any()
    if image_size is None:
        np.testing.assert_array_equal(mask, expected)


def test_a_pixel_at_the_threshold_is_foreground(bright):
    photo = np.full((12, 12, 3), 160, np.uint8)
    probability = Predictor(bright).probabilities(photo)
    threshold = float(probability[6, 6])
    assert 0.5 < threshold < 1
    assert Predictor(bright, threshold=threshold)(photo)[6, 6]


@pytest.mark.parametrize("image_size", [None, 40])
def test_flips_average_with_the_photo_mirrored_left_to_right(image_size):
    keras.utils.set_random_seed(4)
    model = build_unet(UNetConfig(depth=1, base_filters=2, padding="same"))
    photo = np.random.default_rng(0).integers(0, 256, (40, 70, 3)).astype(np.uint8)
    plain = Predictor(model, image_size=image_size)
    mirrored = plain.probabilities(photo[:, ::-1])[:, ::-1]
    both = Predictor(model, image_size=image_size, flips=True)
    found, alone = both.probabilities(photo), plain.probabilities(photo)
    np.testing.assert_allclose(found, (alone + mirrored) / 2, atol=2e-3)
    assert np.abs(found - alone).max() > 1e-2
    np.testing.assert_allclose(
        both.probabilities(photo[:, ::-1])[:, ::-1], found, atol=2e-3
    )


def test_several_sizes_are_averaged():
    keras.utils.set_random_seed(4)
    model = build_unet(UNetConfig(depth=1, base_filters=2, padding="same"))
    photo = np.random.default_rng(0).integers(0, 256, (40, 70, 3)).astype(np.uint8)
    small, large, both = (
        Predictor(model, image_size=sizes).probabilities(photo)
        for sizes in (30, 110, [30, 110])
    )
    np.testing.assert_allclose(both, (small + large) / 2, atol=1e-6)
    assert np.abs(both - large).max() > 1e-2


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("image_size", [None, [30, 50]])
def test_several_photos_are_predicted_as_each_alone(image_size, classes):
    keras.utils.set_random_seed(4)
    model = build_unet(
        UNetConfig(depth=1, base_filters=2, padding="same", classes=classes)
    )
    rng = np.random.default_rng(0)
    sizes = [(40, 70), (70, 40), (40, 70), (1, 5), (40, 71), (80, 140)]
    photos = [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in sizes]
    predictor = Predictor(model, image_size=image_size, flips=True)
    found = predictor.many(photos)
    for photo, each in zip(photos, found, strict=True):
        expected = predictor.probabilities(photo)
        assert each.shape == expected.shape
        np.testing.assert_allclose(each, expected, atol=1e-6)


@pytest.mark.parametrize("sizes", [0, [], [64, 0], [64, 64]])
def test_a_size_that_is_none_is_named(bright, sizes):
    with pytest.raises(ValueError, match=r"`image_size` must be .*, or several"):
        Predictor(bright, image_size=sizes)


def test_threshold(bright):
    photo = np.full((20, 20, 3), 255, np.uint8)
    photo[:10] = 141  # A logit of about 0.3, a probability of about 0.57.
    assert Predictor(bright, threshold=0.5)(photo).all()
    assert not Predictor(bright, threshold=0.7)(photo)[:10].any()
