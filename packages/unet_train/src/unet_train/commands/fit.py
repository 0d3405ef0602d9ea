"""`unet-train fit`."""

from __future__ import annotations

import os
from collections.abc import Sequence

import jsonargparse

from unet_train.commands.shared import (
    add_init_from,
    make_task_and_data,
    model_options,
    require_folder,
    training_parser,
)
from unet_train.runs.folder import is_address
from unet_train.training.callback import Callback

HELP = "train"

_CALLBACKS = [
    {"class_path": "unet_train.callbacks.Progress"},
    {"class_path": "unet_train.callbacks.TensorBoard"},
]


def parser(arguments: Sequence[str] = ()) -> jsonargparse.ArgumentParser:
    """Options of the run, the folder it goes to, callbacks."""
    fit = training_parser("Train, or go on training.")
    fit.add_argument(
        "--run_dir",
        type=str,
        required=True,
        help="folder for everything of this run; may be an address, such as gs://",
    )
    fit.add_argument(
        "--resume",
        action="store_true",
        help="go on from the last checkpoint in the run folder, if there is one",
    )
    add_init_from(fit)
    fit.add_argument(
        "--callbacks",
        type=list[Callback],
        default=_CALLBACKS,
        help="by class path; these two unless you name others",
    )
    return fit


def run(options: jsonargparse.Namespace) -> int:
    """Trains."""
    # Of several machines only the first writes.
    if "TF_CONFIG" not in os.environ and not is_address(options.run_dir):
        require_folder("--run_dir", options.run_dir)
    parts = parser().instantiate(options)
    from unet_train import Trainer

    trainer = Trainer(
        options.run_dir, callbacks=parts.callbacks, **options.trainer.as_dict()
    )
    with trainer.scope():
        task, data = make_task_and_data(options)
    config = {key: options.as_dict()[key] for key in ("network", "callbacks")}
    config = {"model": model_options(options, data), **config}
    trainer.fit(
        task, data, resume=options.resume, init_from=options.init_from, config=config
    )
    return 0
