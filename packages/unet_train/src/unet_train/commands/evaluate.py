"""`unet-train evaluate`."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jsonargparse

from unet_train.commands.shared import (
    add_flips_argument,
    add_run_arguments,
    option_in,
    run_dir_in,
    run_of,
)
from unet_train.options import DataOptions

if TYPE_CHECKING:
    from unet_train.data.source import SegmentationData
    from unet_train.inference.on_device import OnDevice
    from unet_train.scoring.evaluation import Evaluation

HELP = "score a run on a split"


def parser(arguments: Sequence[str] = ()) -> jsonargparse.ArgumentParser:
    """The run and its data, whose options are the defaults."""
    evaluate = jsonargparse.ArgumentParser(
        description=(
            "Score a run on whole images, every pixel. Writes metrics.json and"
            " report.html."
        )
    )
    add_run_arguments(evaluate)
    add_flips_argument(evaluate)
    evaluate.add_argument(
        "--split",
        type=str | None,
        default=None,
        help="TFDS split to score on; that of the run's validations if none is given",
    )
    evaluate.add_argument(
        "--output",
        type=str | None,
        default=None,
        help="folder to write to; `evaluation` in that of the run if none is given",
    )
    evaluate.add_argument("--json", action="store_true", help="print one JSON object")
    evaluate.add_class_arguments(DataOptions, "data")
    run_dir = run_dir_in(arguments, "evaluate", "--model")
    if run_dir is not None:
        from unet_train.runs.folder import read_config

        config = read_config(run_dir)["data"]
        name = option_in(arguments, "evaluate", "--data.name")
        config = dataclasses.asdict(DataOptions(**config).alone(name))
        evaluate.set_defaults({f"data.{key}": value for key, value in config.items()})
    return evaluate


def run(options: jsonargparse.Namespace) -> int:
    """Scores the run."""
    import tensorflow as tf

    from unet_train.data.source import SegmentationData
    from unet_train.inference.on_device import copy_of, on_each
    from unet_train.inference.predictor import Predictor, require_no_threshold
    from unet_train.runs.folder import CONFIG, METRICS, local, read_config
    from unet_train.runs.load import load_trained
    from unet_train.scoring import report
    from unet_train.training.devices import let_gpus_grow

    let_gpus_grow()
    devices = [gpu.name for gpu in tf.config.list_logical_devices("GPU")]
    run_dir = run_of(options)
    trained = load_trained(run_dir, options.weights)
    data = SegmentationData(**options.data.as_dict())
    names = data.options.class_names
    require_no_threshold(options.threshold, names)
    _require_names(DataOptions(**read_config(run_dir)["data"]).class_names, names)

    def make(number: int) -> Predictor:
        return Predictor(
            copy_of(trained.model) if number else trained.model,
            image_size=data.options.prediction_size,
            threshold=(
                trained.threshold if options.threshold is None else options.threshold
            ),
            flips=options.flips,
            class_names=names,
        )

    split = options.split or data.eval_split
    folder = local(options.output or _beside(run_dir))
    if (folder / CONFIG).exists():
        raise ValueError(
            f"--output {folder} is the folder of a run, whose {METRICS} would be lost."
            " Give another one."
        )
    predictors = on_each(devices, make)
    evaluation, by_dataset = _evaluate(predictors, data, options.split)
    if not evaluation.curve.foreground + evaluation.curve.background:
        raise ValueError(
            f"The split {split!r} has {len(evaluation.images)} images and no labelled"
            " pixel in them. Choose another --split, or correct --data.ignored."
        )
    about = {
        "run": run_dir,
        "weights": options.weights,
        "step": trained.step,
        "dataset": ", ".join(data.datasets),
        "split": split,
        **({"threshold_from": _threshold_from(options)} if len(names) == 1 else {}),
        "flips": options.flips,
        **({"datasets": by_dataset} if by_dataset else {}),
    }
    record = report.write_metrics(folder, evaluation, about)
    examples_at = functools.partial(data.examples_at, options.split)
    first = predictors[0].predictor
    page = report.write_report(folder, evaluation, record, first, examples_at)
    if options.json:
        print(json.dumps(record))
    else:
        _print_table(record, title=f"{run_dir} on {split}")
        print(f"{page}")
    return 0


def _beside(run_dir: str) -> str | os.PathLike[str]:
    """Where results go unless a folder is given; an address, which is then refused."""
    from unet_train.runs.folder import folder_of, is_address
    from unet_train.scoring.report import FOLDER

    return run_dir if is_address(run_dir) else folder_of(run_dir) / FOLDER


def _evaluate(
    predictors: Sequence[OnDevice], data: SegmentationData, split: str | None
) -> tuple[Evaluation, dict[str, dict[str, Any]]]:
    """The evaluation of all datasets together and, of several, the scores of each."""
    from unet_train.scoring.accumulator import predictions
    from unet_train.scoring.evaluation import Evaluation

    first = predictors[0].predictor
    total, by_dataset = Evaluation(first.threshold, first.class_names), {}
    for name, dataset in data.datasets.items():
        evaluation = Evaluation(first.threshold, first.class_names)
        for example, found in predictions(predictors, dataset.examples(split)):
            evaluation.add(example, found)
        if len(data.datasets) == 1:
            return evaluation, {}
        by_dataset[name] = evaluation.scores()
        total.merge(evaluation)
    return total, by_dataset


def _require_names(known: Sequence[str], names: Sequence[str]) -> None:
    """Refuses data whose classes are others than those the network tells apart."""
    if len(known) > 1 and tuple(known) != tuple(names):
        raise ValueError(
            f"The network tells {', '.join(known)}, and the data has the classes"
            f" {', '.join(names)}. Give --data.labels with those of the network, in its"
            " order, for values of this data's masks; what is left is --data.background"
            " or --data.ignored."
        )


def _threshold_from(options: jsonargparse.Namespace) -> str:
    """Where the threshold comes from, in words."""
    from unet_train.runs.folder import read_config

    if options.threshold is not None:
        return "given with --threshold"
    config = read_config(run_of(options))
    is_chosen = config["task"]["threshold"] is None and config["data"]["holdout"]
    return "chosen on held-out training images" if is_chosen else "set for the run"


def _print_table(record: Mapping[str, Any], title: str) -> None:
    import rich.console
    import rich.table

    from unet_train.scoring.report import rows_of, table_of_datasets
    from unet_train.scoring.report_classes import table_of_classes

    table = rich.table.Table("score", "value", "95% interval", title=title)
    for name, value, ends, _ in rows_of(record):
        table.add_row(name, value, ends)
    if "threshold" in record:
        table.add_row("threshold", f"{record['threshold']:.3g}", "")
    table.add_row("images", str(record["images"]), "")
    console = rich.console.Console()
    console.print(table)
    if record.get("classes"):
        head, *rows = table_of_classes(record)
        table = rich.table.Table(*head)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    if datasets := record.get("datasets"):
        head, *rows = table_of_datasets(datasets)
        table = rich.table.Table(*head)
        for row in rows:
            table.add_row(*row)
        console.print(table)
