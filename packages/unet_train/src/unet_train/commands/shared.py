"""Options that several commands have."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import jsonargparse

from unet_core import UNetConfig
from unet_train.options import DataOptions, Part, TaskOptions, TrainerOptions
from unet_train.runs.folder import local

if TYPE_CHECKING:
    import keras

    from unet_train import SegmentationData, SegmentationTask


def training_parser(description: str) -> jsonargparse.ArgumentParser:
    """The options of everything that trains."""
    parser = jsonargparse.ArgumentParser(description=description)
    parser.add_argument(
        "--config", action="config", help="YAML file; options after it override it"
    )
    parser.add_class_arguments(DataOptions, "data")
    parser.add_class_arguments(UNetConfig, "model")
    parser.add_argument(
        "--network",
        type=Part | None,
        default=None,
        help="class path of whatever returns a Keras model, or {class_path: ...,"
        " init_args: ...}, in place of the U-Net that `model` describes",
    )
    parser.add_class_arguments(TaskOptions, "task")
    parser.add_class_arguments(TrainerOptions, "trainer")
    return parser


def add_init_from(parser: jsonargparse.ArgumentParser) -> None:
    """Whose weights training starts from."""
    parser.add_argument(
        "--init_from",
        type=str | None,
        default=None,
        help="run, folder with model.keras, or .keras file, of which every weight that"
        " fits is taken at the start",
    )


def make_task_and_data(
    options: jsonargparse.Namespace, model: keras.Model | None = None
) -> tuple[SegmentationTask, SegmentationData]:
    """What `training_parser` described; with another model if there is one.

    Raises:
      ValueError: An encoder that nobody trained is to be frozen, or an option is wrong.
    """
    from unet_core import build_unet
    from unet_train import SegmentationData, SegmentationTask
    from unet_train.registry import make_part

    data = SegmentationData(**options.data.as_dict())
    if model is None and options.network is not None:
        model = make_part(options.network, {})
    elif model is None:
        config = UNetConfig(**model_options(options, data))
        untrained = config.encoder_weights is None and not options.get("init_from")
        if options.task.freeze_encoder and untrained:
            raise ValueError(
                "`task.freeze_encoder` would leave the encoder as it was drawn at"
                f" random: `model.encoder` is {config.encoder!r} and"
                " `model.encoder_weights` None. Set encoder_weights to imagenet, start"
                " from trained weights (--init_from), or leave freeze_encoder out."
            )
        model = build_unet(config)
    task = SegmentationTask(model, **options.task.as_dict())
    task.name_classes(data.options.class_names)
    return task, data


def model_options(
    options: jsonargparse.Namespace, data: SegmentationData
) -> dict[str, Any]:
    """Those of the U-Net; its `classes`, unless given, follow from the data."""
    from unet_train.data.labels import logits_for

    model: dict[str, Any] = options.model.as_dict()
    if model["classes"] == UNetConfig().classes:
        model["classes"] = logits_for(data.options.class_names)
    return model


def add_run_arguments(
    parser: jsonargparse.ArgumentParser, *, required: bool = True
) -> None:
    """Which run, which of its weights, and from which probability on.

    Where one is required, a published model does too; `run_of` tells which it is.
    """
    if required:
        names = parser.add_mutually_exclusive_group()
        names.add_argument("--run_dir", type=str, help="folder of a run")
        names.add_argument(
            "--model",
            type=str,
            help="folder of a published model (model.keras, config.yaml, metrics.json)"
            " in place of a run",
        )
    else:
        parser.add_argument("--run_dir", type=str | None, help="folder of a run")
    parser.add_argument(
        "--weights",
        type=Literal["last", "best"],
        default="last",
        help="of the end, or of the best validation (callback BestModels)",
    )
    parser.add_argument(
        "--threshold",
        type=float | None,
        default=None,
        help="probability from which a pixel is foreground; that of the run if none is"
        " given",
    )


def run_of(options: jsonargparse.Namespace) -> str:
    """The run, or the published model, that `add_run_arguments` was told.

    Raises:
      ValueError: Neither.
    """
    if options.run_dir is None and options.model is None:
        raise ValueError(
            "No run and no model is named. Give --run_dir, the folder of a run, or"
            " --model, that of a published model."
        )
    return str(options.run_dir or options.model)


def add_flips_argument(parser: jsonargparse.ArgumentParser) -> None:
    """Whether the mirror image is predicted too."""
    parser.add_argument(
        "--flips",
        action="store_true",
        help="average the predictions of the photo and of its mirror image (left to"
        " right), at twice the cost",
    )


def require_folder(option: str, path: str | os.PathLike[str]) -> None:
    """Refuses what can be no folder to write to, before anything is computed.

    Args:
      option: That named it.
      path: Of the folder, which may be made later with those above it.

    Raises:
      ValueError: It is a file, or lies below one, may not be written to, or is an
        address.
    """
    nearest = local(path)
    while not os.path.exists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise ValueError(
            f"{option} {path} cannot be a folder: {nearest} is a file. Give another"
            f" {option}."
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(
            f"{option} {path} cannot be written: no permission to write in {nearest}."
            f" Give another {option}, or the permission."
        )


def run_dir_in(arguments: Sequence[str], command: str, *also: str) -> str | None:
    """The run that a command line of this command names.

    Its options are the command's defaults, so it is needed before the line is parsed.

    Args:
      arguments: The line.
      command: Of which it may be one.
      also: Other names of the option `--run_dir`.
    """
    return option_in(arguments, command, "--run_dir", *also)


def option_in(arguments: Sequence[str], command: str, *names: str) -> str | None:
    """What a command line of this command gives an option, before it is parsed."""
    if list(arguments[:1]) != [command]:
        return None
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument(*names, dest="found")
    found: str | None = finder.parse_known_args(arguments)[0].found
    return found
