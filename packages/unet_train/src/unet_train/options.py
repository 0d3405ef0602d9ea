"""What a run can be told. No TensorFlow here, so that `unet-train --help` is quick.

Every class is a group of options on the command line (`--data.batch_size 8`) and of
keys in a config file; the descriptions below are what `--help` prints.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args

Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]
Schedule = Literal["constant", "cosine"]
Reduction = Literal["mean", "sum"]
Device = Literal["auto", "cpu", "gpu"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which data, and how it reaches the network.

    Attributes:
      name: TFDS name of the dataset, such as coco_cats or coco_cats/pets.
      data_dir: Folder that TFDS built it in; TFDS's own default if none is given.
      train_split: TFDS split to train on.
      eval_split: TFDS split to validate on.
      image_size: Resize images so that their longer side has this many pixels;
        predictions are resized back. None keeps the resolution of the images.
      tile_size: Side in pixels of the square tile that the network sees in training.
      batch_size: Tiles a step.
      mirror: Mirror half of the tiles left to right.
      scale_jitter: Scale each image by a random factor from 1/(1+x) to 1+x.
      color_jitter: Vary brightness, contrast and saturation by up to this share.
      shuffle_buffer: Undecoded records held in memory, twice while they are shuffled.
        If there are more images, each run of so many is shuffled for itself.
    """

    name: str = "coco_cats"
    data_dir: str | None = None
    train_split: str = "train"
    eval_split: str = "validation"
    image_size: int | None = None
    tile_size: int = 572
    batch_size: int = 1
    mirror: bool = True
    scale_jitter: float = 0.0
    color_jitter: float = 0.0
    shuffle_buffer: int = 8192

    def __post_init__(self) -> None:
        _require_positive(self, "tile_size", "batch_size", "shuffle_buffer")
        _require_positive(self, "image_size")
        if self.scale_jitter < 0:
            raise ValueError(
                f"`scale_jitter` must be at least 0. Received: {self.scale_jitter}"
            )
        if not 0 <= self.color_jitter < 1:
            raise ValueError(
                "`color_jitter` must be at least 0 and below 1. Received:"
                f" {self.color_jitter}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """What is learned, and how.

    Attributes:
      learning_rate: Of Adam, after the warm-up.
      schedule: "constant", or "cosine" to fall to zero by the end of the budget,
        whichever of max_steps, max_epochs and max_minutes ends it.
      warmup_steps: Steps in which the learning rate rises to its value.
      reduction: Of the cross-entropy over pixels: "mean", or "sum" as in 2018.
      threshold: Probability from which a pixel counts as foreground.
    """

    learning_rate: float = 1e-3
    schedule: Schedule = "constant"
    warmup_steps: int = 0
    reduction: Reduction = "mean"
    threshold: float = 0.5

    def __post_init__(self) -> None:
        _require_positive(self, "learning_rate")
        _require_choice(self, "schedule", get_args(Schedule))
        _require_choice(self, "reduction", get_args(Reduction))
        if self.warmup_steps < 0:
            raise ValueError(
                f"`warmup_steps` must be at least 0. Received: {self.warmup_steps}"
            )
        if not 0 < self.threshold < 1:
            raise ValueError(
                f"`threshold` must lie between 0 and 1. Received: {self.threshold}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainerOptions:
    """How long and on what to train, and what to keep.

    Attributes:
      max_steps: Stop after this many steps.
      max_epochs: Stop after this many passes over the training images.
      max_minutes: Stop after this many minutes of training, resumed time included.
      steps_per_loop: Steps between two visits to Python. More costs less overhead;
        the log has every step either way.
      precision: Of the computation; weights are kept in float32 in any case.
      checkpoint_every_steps: Steps between checkpoints; one is written at the end
        in any case.
      keep_checkpoints: How many of the newest checkpoints to keep.
      eval_every_steps: Steps between validations; None validates only at the end.
      eval_images: Validate on this many images while training; None takes all. The
        validation at the end takes all.
      seed: Of the weights, the order of the data and its augmentation.
      deterministic: Have TensorFlow use only operations that repeat to the bit.
      device: "gpu" insists on one, "cpu" leaves it alone, "auto" uses one if there.
      log_device_placement: Have TensorFlow print the device of every operation.
      jit_compile: Compile the step with XLA.
    """

    max_steps: int | None = None
    max_epochs: float | None = None
    max_minutes: float | None = None
    steps_per_loop: int = 10
    precision: Precision = "float32"
    checkpoint_every_steps: int = 500
    keep_checkpoints: int = 3
    eval_every_steps: int | None = None
    eval_images: int | None = None
    seed: int = 0
    deterministic: bool = False
    device: Device = "auto"
    log_device_placement: bool = False
    jit_compile: bool = False

    def __post_init__(self) -> None:
        _require_positive(
            self,
            "max_steps",
            "max_epochs",
            "max_minutes",
            "steps_per_loop",
            "checkpoint_every_steps",
            "keep_checkpoints",
            "eval_every_steps",
            "eval_images",
        )
        if not 0 <= self.seed < 2**31:
            raise ValueError(
                f"`seed` must lie between 0 and {2**31 - 1}. Received: {self.seed}"
            )
        _require_choice(self, "precision", get_args(Precision))
        _require_choice(self, "device", get_args(Device))
        if self.deterministic and self.jit_compile:
            raise ValueError(
                "`deterministic` and `jit_compile` exclude each other: XLA has no"
                " deterministic gradient of max pooling. Leave one of them out."
            )
        if self.max_steps is self.max_epochs is self.max_minutes is None:
            raise ValueError(
                "Nothing says when to stop. Set `max_steps`, `max_epochs` or"
                " `max_minutes`; the first that is reached ends the run."
            )


def _require_positive(options: Any, *names: str) -> None:
    """Refuses values that are not above zero; None means "not set" and passes."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise ValueError(f"`{name}` must be above 0. Received: {value}")


def _require_choice(options: Any, name: str, choices: tuple[str, ...]) -> None:
    value = getattr(options, name)
    if value not in choices:
        raise ValueError(
            f"`{name}` must be one of {list(choices)}. Received: {value!r}"
        )
