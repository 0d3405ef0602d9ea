"""Tasks as they come: with Adam, on a net with batch norm."""

import pytest

from unet_core import UNetConfig, build_unet
from unet_train import SegmentationTask


@pytest.fixture
def make_task():
    def make(model=None, **options):
        config = {"depth": 1, "base_filters": 4, "norm_momentum": 0.5, **(model or {})}
        return SegmentationTask(build_unet(UNetConfig(**config)), **options)

    return make
