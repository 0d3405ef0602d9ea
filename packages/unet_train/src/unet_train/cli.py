"""The command `unet-train` and its exit status.

Parsing needs no TensorFlow, which is imported when a command starts its work.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import logging
import signal
import sys
from collections.abc import Sequence

import jsonargparse

from unet_train.commands import compare, doctor, evaluate, export, find_lr, fit, predict
from unet_train.commands.startup import quiet_start
from unet_train.options import DataOptions, TrainerOptions

COMMANDS = {
    "fit": fit,
    "find-lr": find_lr,
    "doctor": doctor,
    "evaluate": evaluate,
    "compare": compare,
    "predict": predict,
    "export": export,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `unet-train`; returns the exit status.

    0 done, 1 in part, 2 bad input, 128 + n stopped by signal n.
    """
    arguments = with_true(sys.argv[1:] if arguments is None else arguments)
    command = arguments[0] if arguments else ""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that the terminal cannot show is no reason to stop.
        sys.stdout.reconfigure(errors="backslashreplace")
    for name in ("absl", "tensorflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        # The notes would bury what the command itself has to say.
        with quiet_start():
            options = _parser(arguments).parse_args(arguments)
            import tensorflow as tf

            tf.config.list_physical_devices()  # It says that there is no GPU.
        chosen = options.subcommand
        return COMMANDS[chosen].run(options[chosen])
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


def with_true(arguments: Sequence[str]) -> list[str]:
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
    for name, command in COMMANDS.items():
        commands.add_subcommand(name, command.parser(arguments), help=command.HELP)
    return parser
