"""What is learned, how, how long and on what."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args

from unet_train.options.checks import (
    require_choice,
    require_from,
    require_positive,
    require_share,
)

Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]
AnyPrecision = Literal[Precision, "auto"]
Reduction = Literal["mean", "sum"]
Device = Literal["auto", "cpu", "gpu"]
Strategy = Literal["auto", "none", "mirrored", "multi_worker", "tpu"]

# A name that the field below it lists, or a part of somebody else's: its class path,
# "my_package.MyLoss", or {"class_path": "my_package.MyLoss", "init_args": {...}}.
Part = str | dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """What is learned, and how.

    ```python
    from unet_train.options import TaskOptions

    options = TaskOptions(loss="bce_dice", schedule="cosine", ema=0.99)
    SegmentationTask(build_unet("blog_2018"), **vars(options))
    ```

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
      freeze_encoder: Leave the encoder (`model.encoder`) as it is, the statistics of
        its norms included: quicker, and nothing of what it knows is lost.
      encoder_rate: Of the learning rate, what the encoder's weights get.
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
    freeze_encoder: bool = False
    encoder_rate: float = 1.0

    def __post_init__(self) -> None:
        require_positive(self, "learning_rate", "clip_norm", "encoder_rate")
        require_choice(self, "reduction", get_args(Reduction))
        require_from(self, 0, "warmup_steps", "weight_decay")
        require_share(self, "ema")
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

    ```python
    from unet_train.options import TrainerOptions

    options = TrainerOptions(max_minutes=20, steps_per_loop=50)
    Trainer("runs/new", **vars(options))
    ```

    Attributes:
      max_steps: Stop after this many steps.
      max_epochs: Stop after this many passes over the training images.
      max_minutes: Stop after this many minutes of training, resumed time included.
      steps_per_loop: Steps between two visits to Python. More costs less overhead;
        the log has every step either way.
      accumulate: Compute the gradients of a step's batch in this many parts, one after
        the other, which takes less memory.
      precision: Of the computation; weights are kept in float32 in any case. "auto"
        takes what is quickest on this machine: by the capability of a GPU; on a CPU
        that has bfloat16, by a measurement. The run keeps what was chosen.
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
        "auto" does on one GPU, as `model.fit`, unless `deterministic` forbids it.
    """

    max_steps: int | None = None
    max_epochs: float | None = None
    max_minutes: float | None = None
    steps_per_loop: int = 10
    accumulate: int = 1
    precision: AnyPrecision = "auto"
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
    jit_compile: bool | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        require_positive(
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
        require_choice(self, "precision", get_args(AnyPrecision))
        require_choice(self, "device", get_args(Device))
        require_choice(self, "strategy", get_args(Strategy))
        if type(self.jit_compile) is not bool and self.jit_compile != "auto":
            raise ValueError(
                "`jit_compile` must be true, false or auto. Received:"
                f" {self.jit_compile!r}"
            )
        if self.deterministic and self.compiles:
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

    @property
    def compiles(self) -> bool:
        """Whether XLA is asked for; "auto" asks for nothing until it is settled."""
        return self.jit_compile is True

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
