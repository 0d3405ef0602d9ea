"""`unet-train evaluate`."""

from __future__ import annotations

import json
from collections.abc import Sequence

import jsonargparse

from unet_train.commands.shared import add_run_arguments
from unet_train.options import DataOptions

HELP = "score a run on a split"


def parser(arguments: Sequence[str] = ()) -> jsonargparse.ArgumentParser:
    """The run and its data, whose options are the defaults."""
    evaluate = jsonargparse.ArgumentParser(
        description="Score a run on whole images, every pixel."
    )
    add_run_arguments(evaluate)
    evaluate.add_argument(
        "--split",
        type=str | None,
        default=None,
        help="TFDS split to score on; that of the run's validations if none is given",
    )
    evaluate.add_argument("--json", action="store_true", help="print one JSON object")
    evaluate.add_class_arguments(DataOptions, "data")
    config = _config_of_run(arguments)
    if config is not None:
        evaluate.set_defaults({f"data.{key}": value for key, value in config.items()})
    return evaluate


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


def run(options: jsonargparse.Namespace) -> int:
    """Scores the run."""
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
