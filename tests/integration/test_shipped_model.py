"""The model that ships, on scikit-image's photographs, which it has never seen."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest
import skimage.data

from make_sample.chelsea_outline import OUTLINE
from unet_train import Predictor

MODEL = pathlib.Path(__file__).parents[2] / "models" / "cats"
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def predictor():
    return Predictor.load(MODEL)


def cat_by_hand(photo):
    picture = PIL.Image.new("1", photo.shape[1::-1])
    PIL.ImageDraw.Draw(picture).polygon([tuple(point) for point in OUTLINE], fill=1)
    return np.asarray(picture)


def test_it_finds_the_cat(predictor):
    photo = skimage.data.chelsea()
    found, cat = predictor(photo), cat_by_hand(photo)
    # The whole photo taken for cat would be right in 74% of its pixels.
    assert (found & cat).sum() / found.sum() > 0.95
    assert (found & cat).sum() / cat.sum() > 0.75


@pytest.mark.parametrize("name", ["coffee", "rocket", "astronaut", "brick", "grass"])
def test_where_there_is_none_it_finds_next_to_nothing(predictor, name):
    photo = getattr(skimage.data, name)()
    photo = photo if photo.ndim == 3 else np.repeat(photo[..., np.newaxis], 3, -1)
    assert predictor(photo).mean() < 0.02


def test_the_command_of_the_readme(command, predictor, tmp_path):
    photo = skimage.data.chelsea()
    PIL.Image.fromarray(photo).save(tmp_path / "photo.png")
    arguments = [
        "--model",
        MODEL,
        tmp_path / "photo.png",
        "--output",
        tmp_path / "found",
    ]
    command("unet-train", "predict", *arguments)
    mask = np.asarray(PIL.Image.open(tmp_path / "found" / "photo_mask.png"))
    np.testing.assert_array_equal(mask == 255, predictor(photo))


LONELY = """
import sys
import keras
import numpy as np
model = keras.saving.load_model(sys.argv[1])
logits = model(np.full((1, 64, 96, 3), 127.0, "float32"))
assert logits.shape == (1, 64, 96, 1)
assert not {"unet_core", "unet_train"} & set(sys.modules)
"""


def test_it_is_small_and_loads_with_keras_alone():
    path = MODEL / "model.keras"
    assert path.stat().st_size < 20 * MEGABYTE
    subprocess.run([sys.executable, "-c", LONELY, path], check=True)


def test_it_tells_nothing_of_the_machine_that_made_it():
    for path in MODEL.iterdir():
        if path.suffix in (".md", ".json", ".yaml"):
            assert not re.findall(r"(?<![\w./:])/\w+/", path.read_text()), path
