"""`unet-train find-lr`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import jsonargparse

from unet_train.commands.shared import (
    add_init_from,
    make_task_and_data,
    training_parser,
)
from unet_train.options import TrainerOptions

HELP = "try learning rates before training"


def parser(arguments: Sequence[str] = ()) -> jsonargparse.ArgumentParser:
    """Options of training, and the range."""
    find_lr = training_parser(
        "Train some steps at rising learning rates, and propose one. Saves nothing."
    )
    find_lr.add_argument("--lowest", type=float, default=1e-6, help="first rate")
    find_lr.add_argument("--highest", type=float, default=1.0, help="last rate")
    find_lr.add_argument("--steps", type=int, default=100, help="from first to last")
    find_lr.add_argument("--json", action="store_true", help="print one JSON object")
    add_init_from(find_lr)
    # They are part of a configuration for `fit`, and have nothing to do here.
    for name in ("--run_dir", "--callbacks", "--resume"):
        find_lr.add_argument(name, type=Any, default=None, help="left aside")
    return find_lr


def run(options: jsonargparse.Namespace) -> int:
    """Proposes a learning rate."""
    from unet_train.task.layers import speed_up
    from unet_train.task.warm_start import start_from
    from unet_train.training.devices import configure
    from unet_train.training.find_lr import find_learning_rate
    from unet_train.training.precision import choose_precision

    trainer_options = TrainerOptions(**options.trainer.as_dict())
    place = configure(dataclasses.replace(trainer_options, strategy="none"))
    task, data = make_task_and_data(options)
    if options.init_from is not None:
        start_from(task, options.init_from)
    speed_up(task.model, on_cpu=place.is_cpu)
    choice = choose_precision(
        *(trainer_options.precision, task.model),
        tile_size=data.options.tile_size,
        tiles=data.options.batch_size // trainer_options.accumulate,
        on_cpu=place.is_cpu,
    )
    task.set_precision(choice.precision)
    found = find_learning_rate(
        task,
        data,
        lowest=options.lowest,
        highest=options.highest,
        steps=options.steps,
        seed=trainer_options.seed,
        accumulate=trainer_options.accumulate,
    )
    if options.json:
        print(json.dumps(dataclasses.asdict(found)))
    else:
        print(found)
    return 0
