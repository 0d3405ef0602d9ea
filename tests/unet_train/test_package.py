"""What the package offers, and what importing it costs."""

import doctest
import subprocess
import sys

import unet_train
from unet_train import registry
from unet_train.callbacks import tensorboard
from unet_train.data import border, share
from unet_train.scoring import confusion, counts


def test_public_names():
    assert unet_train.__all__ == [
        "Callback",
        "Predictor",
        "SegmentationData",
        "SegmentationTask",
        "Trainer",
    ]
    assert all(hasattr(unet_train, name) for name in unet_train.__all__)


def test_only_data_imports_tfds_and_nothing_the_dataset_package():
    program = (
        "import sys\n"
        "import unet_train.training.loop, unet_train.task.losses, unet_train.task\n"
        "import unet_train.inference.predictor, unet_train.data.scale\n"
        "import unet_train.callbacks\n"
        "assert 'tensorflow_datasets' not in sys.modules\n"
        "import unet_train.training.trainer\n"
        "assert 'coco_cats_tfds' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_parsing_and_comparing_need_no_tensorflow():
    program = (
        "import sys\n"
        "import unet_train.commands.fit, unet_train.callbacks\n"
        "import unet_train.scoring.compare\n"
        "slow = {'tensorflow', 'keras', 'scipy', 'matplotlib'}\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_examples_in_docstrings():
    for module in (border, confusion, counts, registry, share, tensorboard):
        results = doctest.testmod(module)
        assert results.attempted >= 1
        assert not results.failed
