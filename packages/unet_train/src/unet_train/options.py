"""What a run can be told. No TensorFlow here, so that `unet-train --help` is quick.

Every class is a group of options on the command line (`--data.batch_size 8`) and of
keys in a config file; the descriptions below are what `--help` prints.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args

Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]
Reduction = Literal["mean", "sum"]
Device = Literal["auto", "cpu", "gpu"]
Strategy = Literal["auto", "none", "mirrored", "multi_worker", "tpu"]

# A name that the field below it lists, or a part of somebody else's: its class path,
# "my_package.MyLoss", or {"class_path": "my_package.MyLoss", "init_args": {...}}.
Part = str | dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which data, and how it reaches the network.

    Attributes:
      name: TFDS name of the dataset, such as coco_cats or coco_cats/pets.
      data_dir: Folder that TFDS built it in; TFDS's own default if none is given.
      train_split: TFDS split to train on.
      holdout: Share of its images, the last of them, that are not trained on: the
        threshold is chosen on them.
      eval_split: TFDS split to validate on.
      image_feature: Name of the dataset's feature that holds the image.
      mask_feature: Name of the feature that holds the mask.
      foreground: Values of the mask that are to be found.
      background: Values of the mask that are not.
      ignored: Values of the mask that count in no loss and no score.
      image_size: Resize images so that their longer side has this many pixels;
        predictions are resized back. None keeps the resolution of the images.
      tile_size: Side in pixels of the square tile that the network sees in training.
      batch_size: Tiles a step, over all devices together.
      shuffle_buffer: Undecoded records held in memory, twice while they are shuffled.
        If there are more images, each run of so many is shuffled for itself.
      foreground_share: Share of the tiles that are cut so that they show a pixel drawn
        from all the foreground of their image, if it has any.
      mirror: Mirror half of the tiles left to right.
      flip: Turn half of the tiles upside down.
      scale_jitter: Scale each image by a random factor from 1/(1+x) to 1+x.
      aspect_jitter: Stretch its width over its height by a random factor of that range;
        the area stays.
      rotation: Rotate by up to this many degrees.
      elastic: Bend the image: standard deviation in pixels of the displacements on a
        grid of 3 x 3, with bicubic interpolation between them. The paper has 10.
      color_jitter: Vary brightness, contrast and saturation by up to this share.
      blur: Blur by a Gaussian of up to this standard deviation in pixels.
      cutout: Grey out, and ignore, a rectangle with sides of up to this share of the
        tile's.
      copy_paste: Share of the tiles that get the foreground of another image pasted in.
      border_weight: w0 of the paper's weight map, which makes the background between
        two objects count more; it has 10. 0 leaves the map out.
      border_sigma: How far from the borders that reaches, in pixels.
    """

    name: str = "coco_cats"
    data_dir: str | None = None
    train_split: str = "train"
    holdout: float = 0.05
    eval_split: str = "validation"
    image_feature: str = "image"
    mask_feature: str = "segmentation_mask"
    foreground: list[int] = dataclasses.field(default_factory=lambda: [1])
    background: list[int] = dataclasses.field(default_factory=lambda: [0])
    ignored: list[int] = dataclasses.field(default_factory=lambda: [255])
    image_size: int | None = None
    tile_size: int = 572
    batch_size: int = 1
    shuffle_buffer: int = 8192
    foreground_share: float = 0.0
    mirror: bool = True
    flip: bool = False
    scale_jitter: float = 0.0
    aspect_jitter: float = 0.0
    rotation: float = 0.0
    elastic: float = 0.0
    color_jitter: float = 0.0
    blur: float = 0.0
    cutout: float = 0.0
    copy_paste: float = 0.0
    border_weight: float = 0.0
    border_sigma: float = 5.0

    def __post_init__(self) -> None:
        _require_positive(self, "tile_size", "batch_size", "shuffle_buffer")
        _require_positive(self, "image_size", "border_sigma")
        _require_from(self, 0, "scale_jitter", "aspect_jitter", "elastic")
        _require_from(self, 0, "blur", "border_weight")
        _require_share(self, "holdout", "color_jitter", "cutout")
        for name in ("copy_paste", "foreground_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"`{name}` must lie between 0 and 1. Received:"
                    f" {getattr(self, name)}"
                )
        if not 0 <= self.rotation <= 180:
            raise ValueError(
                f"`rotation` must lie between 0 and 180. Received: {self.rotation}"
            )
        values = [*self.foreground, *self.background, *self.ignored]
        if not self.foreground or len(set(values)) != len(values):
            raise ValueError(
                "`foreground`, `background` and `ignored` must name different values"
                " of the mask, and `foreground` at least one. Received:"
                f" {self.foreground}, {self.background}, {self.ignored}"
            )
        if min(values) < 0 or max(values) > 255:
            raise ValueError(f"Values of a mask lie in 0..255. Received: {values}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """What is learned, and how.

    Attributes:
      loss: bce, dice, bce_dice, focal, tversky or lovasz, or a class path.
      reduction: Of the loss over what it counts (pixels, or images): "mean", or "sum"
        as in 2018.
      optimizer: adam (with a weight decay: AdamW), or a class path of a Keras
        optimizer.
      learning_rate: After the warm-up.
      schedule: "constant", or "cosine" to fall to zero by the end of the budget,
        whichever of max_steps, max_epochs and max_minutes ends it; or a class path of a
        Keras schedule, whose values replace `learning_rate`.
      warmup_steps: Steps in which the learning rate rises to its value.
      weight_decay: Share of each weight that every step takes off, times the learning
        rate (AdamW); biases and norms are left alone.
      clip_norm: Scale the gradients down to at most this norm, that of all together.
      ema: Share of its value that the moving average of the weights keeps at each
        step, such as 0.999; the average is what is validated, saved and used. 0 leaves
        it out.
      threshold: Probability from which a pixel counts as foreground; None takes the
        one with the highest IoU on the held-out training images (0.5 without any).
    """

    loss: Part = "bce"
    reduction: Reduction = "mean"
    optimizer: Part = "adam"
    learning_rate: float = 1e-3
    schedule: Part = "constant"
    warmup_steps: int = 0
    weight_decay: float = 0.0
    clip_norm: float | None = None
    ema: float = 0.0
    threshold: float | None = None

    def __post_init__(self) -> None:
        _require_positive(self, "learning_rate", "clip_norm")
        _require_choice(self, "reduction", get_args(Reduction))
        _require_from(self, 0, "warmup_steps", "weight_decay")
        _require_share(self, "ema")
        if self.weight_decay and self.optimizer != "adam":
            raise ValueError(
                "`weight_decay` is for `optimizer: adam`. Give it to another optimizer"
                f" among its init_args. Received: {self.optimizer!r}"
            )
        if self.threshold is not None and not 0 < self.threshold < 1:
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
      accumulate: Compute the gradients of a step's batch in this many parts, one after
        the other, which takes less memory.
      precision: Of the computation; weights are kept in float32 in any case.
      checkpoint_every_steps: Steps between checkpoints; one is written at the end
        in any case.
      keep_checkpoints: How many of the newest checkpoints to keep.
      eval_every_steps: Steps between validations; None validates only at the end.
      eval_every_epochs: The same in passes over the training images.
      limit_train: Train on this many images only, the first of the split.
      limit_eval: Validate on this many images while training; None takes all. The
        validation at the end takes all.
      overfit_batches: Train on the first so many batches over and over, as they are,
        to see whether the network can learn at all.
      fast_dev_run: Try everything once: three steps, two images of validation, in a
        folder of its own inside the run folder.
      seed: Of the weights, the order of the data and its augmentation.
      deterministic: Have TensorFlow use only operations that repeat to the bit.
      strategy: Of `tf.distribute`: "mirrored" for the GPUs of this machine,
        "multi_worker" for several machines (by TF_CONFIG), "tpu", "none"; "auto" finds
        out.
      device: "gpu" insists on one, "cpu" leaves it alone, "auto" uses one if there.
      log_device_placement: Have TensorFlow print the device of every operation.
      jit_compile: Compile the step with XLA; on several devices its gradients only.
    """

    max_steps: int | None = None
    max_epochs: float | None = None
    max_minutes: float | None = None
    steps_per_loop: int = 10
    accumulate: int = 1
    precision: Precision = "float32"
    checkpoint_every_steps: int = 500
    keep_checkpoints: int = 3
    eval_every_steps: int | None = None
    eval_every_epochs: float | None = None
    limit_train: int | None = None
    limit_eval: int | None = None
    overfit_batches: int | None = None
    fast_dev_run: bool = False
    seed: int = 0
    deterministic: bool = False
    strategy: Strategy = "auto"
    device: Device = "auto"
    log_device_placement: bool = False
    jit_compile: bool = False

    def __post_init__(self) -> None:
        _require_positive(
            self,
            *("max_steps", "max_epochs", "max_minutes", "steps_per_loop"),
            *("accumulate", "checkpoint_every_steps", "keep_checkpoints"),
            *("eval_every_steps", "eval_every_epochs"),
            *("limit_train", "limit_eval", "overfit_batches"),
        )
        if not 0 <= self.seed < 2**31:
            raise ValueError(
                f"`seed` must lie between 0 and {2**31 - 1}. Received: {self.seed}"
            )
        _require_choice(self, "precision", get_args(Precision))
        _require_choice(self, "device", get_args(Device))
        _require_choice(self, "strategy", get_args(Strategy))
        if self.deterministic and self.jit_compile:
            raise ValueError(
                "`deterministic` and `jit_compile` exclude each other: XLA has no"
                " deterministic gradient of max pooling. Leave one of them out."
            )
        if self.eval_every_steps is not None and self.eval_every_epochs is not None:
            raise ValueError(
                "Both `eval_every_steps` and `eval_every_epochs` are set. Leave one"
                " out."
            )
        if self.max_steps is self.max_epochs is self.max_minutes is None:
            raise ValueError(
                "Nothing says when to stop. Set `max_steps`, `max_epochs` or"
                " `max_minutes`; the first that is reached ends the run."
            )

    def shortened(self) -> TrainerOptions:
        """A fast dev run: three steps, and all that a run does between and after."""
        return dataclasses.replace(
            self,
            max_steps=3,
            max_epochs=None,
            max_minutes=None,
            steps_per_loop=1,
            checkpoint_every_steps=2,
            eval_every_steps=2,
            eval_every_epochs=None,
            limit_eval=2,
        )


def _require_positive(options: Any, *names: str) -> None:
    """Refuses values that are not above zero; None means "not set" and passes."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise ValueError(f"`{name}` must be above 0. Received: {value}")


def _require_from(options: Any, least: float, *names: str) -> None:
    for name in names:
        if not getattr(options, name) >= least:
            raise ValueError(
                f"`{name}` must be at least {least}. Received: {getattr(options, name)}"
            )


def _require_share(options: Any, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(options, name) < 1:
            raise ValueError(
                f"`{name}` must be at least 0 and below 1. Received:"
                f" {getattr(options, name)}"
            )


def _require_choice(options: Any, name: str, choices: tuple[str, ...]) -> None:
    value = getattr(options, name)
    if value not in choices:
        raise ValueError(
            f"`{name}` must be one of {list(choices)}. Received: {value!r}"
        )
