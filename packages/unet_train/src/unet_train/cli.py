"""The command `unet-train`: fit, find-lr, evaluate, predict.

Parsing needs no TensorFlow, which is imported when a command starts its work.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import os
import pathlib
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import jsonargparse

from unet_core import UNetConfig
from unet_train.callbacks.base import Callback
from unet_train.options import DataOptions, TaskOptions, TrainerOptions

if TYPE_CHECKING:
    from unet_train import SegmentationData, SegmentationTask

_CALLBACKS = [
    {"class_path": "unet_train.callbacks.Progress"},
    {"class_path": "unet_train.callbacks.TensorBoard"},
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `unet-train`; returns the exit status.

    0 done, 1 in part, 2 bad input, 128 + n stopped by signal n.
    """
    arguments = _with_true(sys.argv[1:] if arguments is None else arguments)
    command = arguments[0] if arguments else ""
    commands = {
        "fit": _fit,
        "find-lr": _find_lr,
        "evaluate": _evaluate,
        "predict": _predict,
    }
    # TensorFlow's start-up notes would bury what the command itself has to say.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("absl").setLevel(logging.ERROR)
    try:
        options = _parser(arguments).parse_args(arguments)
        return commands[options.subcommand](options[options.subcommand])
    except (ValueError, OSError, RuntimeError, FloatingPointError) as error:
        print(f"unet-train: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        cure = "; --resume goes on from the last checkpoint" if command == "fit" else ""
        print(f"unet-train: {str(error) or f'interrupted{cure}'}", file=sys.stderr)
        return 128 + getattr(error, "signal", signal.SIGINT)
    except Exception as error:
        if type(error).__name__ != "ResourceExhaustedError":
            raise
        print(
            "unet-train: out of memory. Lower --data.batch_size or --data.tile_size, or"
            " use --trainer.precision mixed_bfloat16 or mixed_float16.",
            file=sys.stderr,
        )
        return 2


def _with_true(arguments: Sequence[str]) -> list[str]:
    """Lets a yes-or-no option stand alone: `--trainer.deterministic` means true."""
    flags = {
        f"--{group}.{field.name}"
        for group, options in (("data", DataOptions), ("trainer", TrainerOptions))
        for field in dataclasses.fields(options)
        if isinstance(field.default, bool)
    }
    return [
        f"{argument}=true"
        if argument in flags and (not following or following.startswith("-"))
        else argument
        for argument, following in itertools.zip_longest(
            arguments, arguments[1:], fillvalue=""
        )
    ]


def _parser(arguments: Sequence[str]) -> jsonargparse.ArgumentParser:
    parser = jsonargparse.ArgumentParser(
        prog="unet-train",
        description="Train a U-Net on a TFDS dataset of masks, and use it.",
    )
    commands = parser.add_subcommands()
    commands.add_subcommand("fit", _fit_parser(), help="train")
    commands.add_subcommand(
        "find-lr", _find_lr_parser(), help="try learning rates before training"
    )
    commands.add_subcommand(
        "evaluate", _evaluate_parser(arguments), help="score a run on a split"
    )
    commands.add_subcommand("predict", _predict_parser(), help="masks for photos")
    return parser


def _fit_parser() -> jsonargparse.ArgumentParser:
    parser = _training_parser("Train, or go on training.")
    parser.add_argument(
        "--run_dir", type=str, required=True, help="folder for everything of this run"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the last checkpoint in the run folder, if there is one",
    )
    parser.add_argument(
        "--callbacks",
        type=list[Callback],
        default=_CALLBACKS,
        help="by class path; these two unless you name others",
    )
    return parser


def _find_lr_parser() -> jsonargparse.ArgumentParser:
    parser = _training_parser(
        "Train some steps at rising learning rates, and propose one. Saves nothing."
    )
    parser.add_argument("--lowest", type=float, default=1e-6, help="first rate")
    parser.add_argument("--highest", type=float, default=1.0, help="last rate")
    parser.add_argument("--steps", type=int, default=100, help="from first to last")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    # They are part of a configuration for `fit`, and have nothing to do here.
    for name in ("--run_dir", "--callbacks", "--resume"):
        parser.add_argument(name, type=Any, default=None, help="left aside")
    return parser


def _training_parser(description: str) -> jsonargparse.ArgumentParser:
    """The options of everything that trains."""
    parser = jsonargparse.ArgumentParser(description=description)
    parser.add_argument(
        "--config", action="config", help="YAML file; options after it override it"
    )
    parser.add_class_arguments(DataOptions, "data")
    parser.add_class_arguments(UNetConfig, "model")
    parser.add_argument(
        "--network",
        type=dict[str, Any] | None,
        default=None,
        help="{class_path: ..., init_args: ...} of whatever returns a Keras model, in"
        " place of the U-Net that `model` describes",
    )
    parser.add_class_arguments(TaskOptions, "task")
    parser.add_class_arguments(TrainerOptions, "trainer")
    return parser


def _evaluate_parser(arguments: Sequence[str]) -> jsonargparse.ArgumentParser:
    parser = jsonargparse.ArgumentParser(
        description="Score a run on whole images, every pixel."
    )
    _add_run_arguments(parser)
    parser.add_argument(
        "--split",
        type=str | None,
        default=None,
        help="TFDS split to score on; that of the run's validations if none is given",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_class_arguments(DataOptions, "data")
    config = _config_of_run(arguments)
    if config is not None:
        parser.set_defaults({f"data.{key}": value for key, value in config.items()})
    return parser


def _predict_parser() -> jsonargparse.ArgumentParser:
    parser = jsonargparse.ArgumentParser(
        description=(
            "Write <stem>_mask.png (0 and 255, as large as the photo) and"
            " <stem>_overlay.png for each photo."
        )
    )
    _add_run_arguments(parser)
    parser.add_argument("photos", type=str, nargs="+", help="files")
    parser.add_argument("--output", type=str, required=True, help="folder to write to")
    return parser


def _add_run_arguments(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("--run_dir", type=str, required=True, help="folder of a run")
    parser.add_argument(
        "--weights",
        type=Literal["last", "best"],
        default="last",
        help="of the end, or of the best validation (callback BestModels)",
    )


def _config_of_run(arguments: Sequence[str]) -> dict[str, object] | None:
    """The data options of the run that the command line names, if it has any.

    They are the defaults of `evaluate`, so they are needed before it is parsed.
    """
    import argparse

    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--run_dir")
    run_dir = finder.parse_known_args(arguments)[0].run_dir
    if arguments[:1] != ["evaluate"] or run_dir is None:
        return None
    from unet_train.run_folder import read_config

    return dict(read_config(run_dir)["data"])


def _fit(options: jsonargparse.Namespace) -> int:
    parts = _fit_parser().instantiate(options)
    from unet_train import Trainer

    trainer = Trainer(
        options.run_dir, callbacks=parts.callbacks, **options.trainer.as_dict()
    )
    with trainer.scope():
        task, data = _make_task_and_data(options)
    config = {key: options.as_dict()[key] for key in ("model", "network", "callbacks")}
    trainer.fit(task, data, resume=options.resume, config=config)
    return 0


def _find_lr(options: jsonargparse.Namespace) -> int:
    from unet_train.devices import configure
    from unet_train.find_lr import find_learning_rate

    trainer_options = TrainerOptions(**options.trainer.as_dict())
    configure(dataclasses.replace(trainer_options, strategy="none"))
    task, data = _make_task_and_data(options)
    task.set_precision(trainer_options.precision)
    found = find_learning_rate(
        task,
        data,
        lowest=options.lowest,
        highest=options.highest,
        steps=options.steps,
        seed=trainer_options.seed,
    )
    if options.json:
        print(json.dumps(dataclasses.asdict(found)))
    else:
        print(found)
    return 0


def _make_task_and_data(
    options: jsonargparse.Namespace,
) -> tuple[SegmentationTask, SegmentationData]:
    from unet_core import build_unet
    from unet_train import SegmentationData, SegmentationTask
    from unet_train.parts import make_part

    data = SegmentationData(**options.data.as_dict())
    if options.network is None:
        model = build_unet(UNetConfig(**options.model.as_dict()))
    else:
        model = make_part(options.network, {})
    return SegmentationTask(model, **options.task.as_dict()), data


def _evaluate(options: jsonargparse.Namespace) -> int:
    from unet_train.data import SegmentationData
    from unet_train.devices import find_gpus
    from unet_train.evaluate import evaluate
    from unet_train.predict import Predictor
    from unet_train.run_folder import load_model, read_config

    find_gpus()
    threshold = read_config(options.run_dir)["task"]["threshold"]
    predictor = Predictor(
        load_model(options.run_dir, options.weights),
        image_size=options.data.image_size,
        threshold=threshold,
    )
    data = SegmentationData(**options.data.as_dict())
    split = options.split or data.options.eval_split
    scores = evaluate(predictor, data.examples(split))
    if options.json:
        print(json.dumps(scores))
    else:
        _print_table(scores, title=f"{options.run_dir} on {split}")
    return 0


def _print_table(scores: dict[str, float], title: str) -> None:
    import rich.console
    import rich.table

    table = rich.table.Table("score", "value", title=title)
    for name, value in scores.items():
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    rich.console.Console().print(table)


def _predict(options: jsonargparse.Namespace) -> int:
    import numpy as np

    from unet_train import photos
    from unet_train.devices import find_gpus
    from unet_train.predict import Predictor

    find_gpus()
    folder = pathlib.Path(options.output)
    targets = photos.output_paths([pathlib.Path(p) for p in options.photos], folder)
    predictor = Predictor.load(options.run_dir, options.weights)
    folder.mkdir(parents=True, exist_ok=True)
    failures = []
    for photo_path, (mask_path, overlay_path) in targets.items():
        try:
            photo = photos.read_photo(photo_path)
        except ValueError as error:
            failures.append(str(error))
            continue
        mask = predictor(photo)
        photos.write_png(mask_path, mask.astype(np.uint8) * 255)
        photos.write_png(overlay_path, photos.overlay(photo, mask))
        print(f"{photo_path}: {mask.mean():.1%} foreground, {overlay_path}")
    for failure in failures:
        print(f"unet-train: left out: {failure}", file=sys.stderr)
    return 1 if failures else 0
