"""What a run can be told. No TensorFlow here, so that `unet-train --help` is quick.

Every class is a group of options on the command line (`--data.batch_size 8`) and of
keys in a config file; the descriptions in it are what `--help` prints.
"""

from unet_train.options.data import DataOptions, FurtherData
from unet_train.options.run import (
    AnyPrecision,
    Device,
    Part,
    Precision,
    Reduction,
    Strategy,
    TaskOptions,
    TrainerOptions,
)

__all__ = [
    "AnyPrecision",
    "DataOptions",
    "Device",
    "FurtherData",
    "Part",
    "Precision",
    "Reduction",
    "Strategy",
    "TaskOptions",
    "TrainerOptions",
]
