"""TFDS's own checks of a builder: the plain one and one with every option."""

import contextlib
import io
import pathlib
import tempfile

import tensorflow_datasets as tfds

from coco_cats_tfds.coco_cats_dataset_builder import Builder, CocoCatsConfig
from coco_cats_tfds.sample import write_sample

FOLDER = pathlib.Path(tempfile.mkdtemp()) / "coco"
with contextlib.redirect_stdout(io.StringIO()):
    write_sample(FOLDER, train=5, validation=6)


class EveryOption(Builder):
    """A configuration that TFDS's test takes from the class."""

    name = "coco_cats_every_option"
    BUILDER_CONFIGS = [
        CocoCatsConfig(
            name="every",
            categories={"animal": ["animal"], "toy": ["teddy bear"]},
            attribution=True,
            instances=True,
            negatives=0.25,
            negatives_like=["dog"],
            licenses=[1],
            min_area=4,
            crowd="foreground",
            on_invalid="omit",
            workers=2,
        )
    ]


class CatsTest(tfds.testing.DatasetBuilderTestCase):
    """The default configuration."""

    DATASET_CLASS = Builder
    EXAMPLE_DIR = FOLDER
    BUILDER_CONFIG_NAMES_TO_TEST = ["cats"]
    SPLITS = {"train": 4, "validation": 5}


class EveryOptionTest(tfds.testing.DatasetBuilderTestCase):
    """All options at once."""

    DATASET_CLASS = EveryOption
    EXAMPLE_DIR = FOLDER
    BUILDER_CONFIG_NAMES_TO_TEST = ["every"]
    SPLITS = {"train": 5, "validation": 6}


del Builder, EveryOption
