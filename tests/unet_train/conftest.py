"""A small dataset that TFDS built, and runs on it."""

from __future__ import annotations

import functools
import json
import os
import pathlib
import runpy
import subprocess
import sys
from collections.abc import Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

PROGRAM = pathlib.Path(__file__).parent / "programs" / "train.py"

# So that training on two devices takes no process of its own, which imports all anew.
_halves = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], _halves
)

SIZES = [(40, 52), (64, 48), (30, 30), (52, 64), (70, 45), (48, 48), (33, 60)]


def draw(index: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright disc on dark noise; the image's red channel tells its index."""
    height, width = SIZES[index % len(SIZES)]
    rng = np.random.default_rng(index)
    rows, columns = np.mgrid[:height, :width]
    disc = (rows - height / 2) ** 2 + (columns - width / 3) ** 2 < 100
    image = rng.integers(0, 80, (height, width, 3)).astype(np.uint8)
    image[disc] += 150
    image[..., 0] = 10 * (index + 1)
    mask = disc.astype(np.uint8)
    mask[:3] = 255
    return image, mask[..., None]


class Discs(tfds.core.GeneratorBasedBuilder):
    """Discs to find, with an ignored stripe along the top."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(encoding_format="png"),
                    "segmentation_mask": tfds.features.Image(
                        shape=(None, None, 1), encoding_format="png"
                    ),
                    "image/id": tfds.features.Scalar(np.int64),
                }
            ),
        )

    def _split_generators(self, dl_manager: object) -> dict[str, object]:
        return {
            "train": self._generate_examples(range(7)),
            "validation": self._generate_examples(range(7, 10)),
        }

    def _generate_examples(self, indices: range) -> Iterator[tuple[int, dict]]:
        for index in indices:
            image, mask = draw(index)
            yield index, {"image": image, "segmentation_mask": mask, "image/id": index}


def draw_shapes(index: int) -> tuple[np.ndarray, np.ndarray]:
    """A red disc, a green square, in some a blue bar, on noise; labels 1, 2 and 3."""
    height, width = SIZES[index % len(SIZES)]
    rng = np.random.default_rng(index)
    rows, columns = np.mgrid[:height, :width]
    mask = np.zeros((height, width), np.uint8)
    mask[(rows - height / 3) ** 2 + (columns - width / 3) ** 2 < 60] = 1
    mask[height // 2 : height // 2 + 10, width // 2 : width // 2 + 10] = 2
    if index % 2:
        mask[-4:] = 3
    image = rng.integers(0, 80, (height, width, 3)).astype(np.uint8)
    for label in (1, 2, 3):
        image[mask == label, label - 1] += 150
    mask[:3] = 255
    return image, mask[..., None]


class Shapes(tfds.core.GeneratorBasedBuilder):
    """Three classes that the dataset names."""

    VERSION = tfds.core.Version("1.0.0")
    NAMES = ("background", "disc", "square", "bar")

    def _info(self) -> tfds.core.DatasetInfo:
        mask = tfds.features.LabeledImage(
            labels=list(self.NAMES), shape=(None, None, 1), encoding_format="png"
        )
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(encoding_format="png"),
                    "segmentation_mask": mask,
                }
            ),
        )

    def _split_generators(self, dl_manager: object) -> dict[str, object]:
        return {
            "train": self._generate_examples(range(6)),
            "validation": self._generate_examples(range(6, 9)),
        }

    def _generate_examples(self, indices: range) -> Iterator[tuple[int, dict]]:
        for index in indices:
            image, mask = draw_shapes(index)
            yield index, {"image": image, "segmentation_mask": mask}


class Shards(tfds.core.GeneratorBasedBuilder):
    """Small images in twenty files a split, of which TFDS reads some in turns."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        image = tfds.features.Image(shape=(24, 24, 3), encoding_format="png")
        mask = tfds.features.Image(shape=(24, 24, 1), encoding_format="png")
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": image,
                    "segmentation_mask": mask,
                    "image/filename": tfds.features.Text(),
                }
            ),
        )

    def _split_generators(self, dl_manager: object) -> dict[str, object]:
        return {
            "train": self._generate_examples(range(700)),
            "validation": self._generate_examples(range(700, 740)),
        }

    def _generate_examples(self, indices: range) -> Iterator[tuple[int, dict]]:
        for index in indices:
            image = np.full((24, 24, 3), [index // 256, index % 256, 0], np.uint8)
            mask = np.zeros((24, 24, 1), np.uint8)
            mask[: 1 + index % 20, :5] = 1
            image[mask[..., 0] == 1, 2] = 200
            name = f"photo_{index}.jpg"
            yield (
                index,
                {"image": image, "segmentation_mask": mask, "image/filename": name},
            )


@pytest.fixture(scope="session")
def shards_dir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("shards")
    Shards(data_dir=folder).download_and_prepare(
        download_config=tfds.download.DownloadConfig(num_shards=20)
    )
    return folder


@pytest.fixture(scope="session")
def shapes_dir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("shapes")
    Shapes(data_dir=folder).download_and_prepare()
    return folder


@pytest.fixture(scope="session")
def classes_run(tmp_path_factory: pytest.TempPathFactory, shapes_dir) -> pathlib.Path:
    """A run on `Shapes`, of which the number of logits follows from the dataset."""
    from unet_train.cli import main

    folder = tmp_path_factory.mktemp("classes") / "run"
    options = [
        "--data.name=shapes", f"--data.data_dir={shapes_dir}", "--data.holdout=0",
        "--data.tile_size=46", "--data.batch_size=4", "--model.depth=1",
        "--model.base_filters=8", "--model.norm_momentum=0.5",
        "--task.learning_rate=0.02", "--trainer.max_steps=50",
        "--callbacks=[{class_path: unet_train.callbacks.TensorBoard}]",
    ]  # fmt: skip
    assert main(["fit", f"--run_dir={folder}", *options]) == 0
    return folder


@pytest.fixture
def make_shapes(shapes_dir):
    return functools.partial(_small_data, "shapes", shapes_dir)


@pytest.fixture
def make_shards(shards_dir):
    from unet_train import SegmentationData

    def make(**options):
        defaults = {"tile_size": 20, "batch_size": 4, "data_dir": str(shards_dir)}
        return SegmentationData("shards", **{**defaults, **options})

    return make


@pytest.fixture
def make_both(make_data, shards_dir):
    """Discs, and beside them shards, whose red channel is below 10."""

    def make(share=0.3, further=None, **options):
        also = {"name": "shards", "share": share, "data_dir": str(shards_dir)}
        return make_data(also=[{**also, **(further or {})}], **options)

    return make


@pytest.fixture
def parsed(monkeypatch):
    """One entry for each record that TFDS has read and parsed."""
    import tensorflow as tf

    seen = []
    as_dataset = tfds.core.DatasetBuilder.as_dataset

    def note(number):
        seen.append(int(number))
        return number

    def counted(self, *args, **kwargs):
        return (
            as_dataset(self, *args, **kwargs)
            .enumerate()
            .map(lambda i, record: (tf.numpy_function(note, [i], tf.int64), record))
            .map(lambda _, record: record)
        )

    monkeypatch.setattr(tfds.core.DatasetBuilder, "as_dataset", counted)
    return seen


def pytest_collection_modifyitems(items):
    """The longest files first: no process shall wait for another one at the end."""
    items.sort(key=lambda item: item.path.parent.name != "training")


@pytest.fixture(autouse=True)
def no_determinism_of_another_test():
    """A deterministic run sets it for the process, with no public way back."""
    from tensorflow.python.framework import config

    config.disable_op_determinism()


@pytest.fixture(autouse=True)
def float32_unless_asked(monkeypatch):
    """The same on processors with bfloat16, and no time is spent on measuring."""
    from unet_train.training import precision

    monkeypatch.setattr(precision, "_seconds_a_pass", lambda *_: 1.0)


@pytest.fixture(scope="session")
def draw_disc():
    return draw


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("tfds")
    Discs(data_dir=folder).download_and_prepare()
    return folder


def _small_data(name, folder, **options):
    from unet_train import SegmentationData

    defaults = {"tile_size": 30, "batch_size": 2, "holdout": 0}
    return SegmentationData(name, **{**defaults, "data_dir": str(folder), **options})


@pytest.fixture
def make_data(data_dir):
    return functools.partial(_small_data, "discs", data_dir)


# With it, and without a norm, a graph is made in half the time that others take.
SGD = {"class_path": "keras.optimizers.SGD", "init_args": {"momentum": 0.9}}


@pytest.fixture
def make_task():
    """A task on a small net that is quick to trace, where a test asks for no other."""
    from unet_core import UNetConfig, build_unet
    from unet_train import SegmentationTask

    def make(model=None, **options):
        config = {"depth": 1, "base_filters": 4, "norm": "none", **(model or {})}
        if config["norm"] != "none":
            config = {"norm_momentum": 0.5, **config}
        model = build_unet(UNetConfig(**config))
        return SegmentationTask(model, **{"optimizer": SGD, **options})

    return make


@pytest.fixture
def records_of(data_dir, tmp_path):
    """What `programs/train.py` would print for a run, which takes place here."""

    def records_of(run_dir, **options):
        records = []
        train = runpy.run_path(str(PROGRAM))["train"]
        groups = {"model": {}, "task": {}, "data": {}, "trainer": {}, **options}
        place = {"run_dir": tmp_path / run_dir, "data_dir": str(data_dir)}
        seeds = train(**place, tell=records.append, **groups)
        return [*records, {"seeds": seeds}]

    return records_of


@pytest.fixture
def start(data_dir, tmp_path):
    """Starts `programs/train.py`; what is left of its processes ends with the test."""
    processes = []

    def place_of(run_dir):
        scheme, separator, name = run_dir.rpartition("://")
        return f"{scheme}{separator}{tmp_path / name}"

    def start(run_dir, *, environment=None, resume=False, **options):
        arguments = [f"--{name}={json.dumps(value)}" for name, value in options.items()]
        arguments += ["--resume"] * resume
        process = subprocess.Popen(
            [sys.executable, PROGRAM, f"--data_dir={data_dir}",
             f"--run_dir={place_of(run_dir)}", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()
