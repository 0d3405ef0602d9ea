"""The command `unet-train` and its exit status.

Parsing needs no TensorFlow, which is imported when a command starts its work.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import difflib
import io
import itertools
import logging
import re
import signal
import sys
from collections.abc import Iterator, Sequence

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


@contextlib.contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Has our warnings begin as errors do, whatever others do to the root logger."""
    log = logging.getLogger("unet_train")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("unet-train: %(message)s"))
    log.addHandler(handler)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = True


@_warnings_as_lines()
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
            options = _parse(arguments)
            chosen = options.subcommand
            if COMMANDS[chosen] is not compare:
                import tensorflow as tf

                tf.config.list_physical_devices()  # It says that there is no GPU.
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
        if "bool" in str(field.type)
    }
    return [
        f"{argument}=true"
        if argument in flags and (not following or following.startswith("-"))
        else argument
        for argument, following in itertools.zip_longest(
            arguments, arguments[1:], fillvalue=""
        )
    ]


def _parse(arguments: Sequence[str]) -> jsonargparse.Namespace:
    """The options of the command.

    Raises:
      ValueError: They are none; the text has the nearest names, not all there are.
    """
    command = arguments[0] if arguments else ""
    if command not in {*COMMANDS, "-h", "--help"}:
        fault = f"There is no command {command!r}." if command else "No command given."
        raise ValueError(f"{fault} Give one of {', '.join(COMMANDS)}.")
    parser = jsonargparse.ArgumentParser(
        prog="unet-train",
        description="Train a U-Net on a TFDS dataset of masks, and use it.",
        exit_on_error=False,
    )
    commands = parser.add_subcommands()
    for name, module in COMMANDS.items():
        commands.add_subcommand(name, module.parser(arguments), help=module.HELP)
    try:
        return parser.parse_args(arguments)
    except argparse.ArgumentError as error:
        options = commands.choices[command]._option_string_actions
        text = _with_nearest(str(error), list(options))
        raise ValueError(f"{text} `unet-train {command} --help` lists them.") from error


def _with_nearest(fault: str, options: Sequence[str]) -> str:
    """What the parser said; where an option is misspelt, the nearest in its place."""
    if found := re.search(r"does not accept option '(.*)'", fault):
        unknown = [f"--{found[1]}"]
    else:
        _, _, rest = fault.partition("unrecognized arguments: ")
        unknown = re.findall(r"(?<!\S)--[\w.]+", rest)
    # The name alone too: who forgets the group, or has another, is near as well.
    names = {option.rpartition(".")[2].lstrip("-"): option for option in options}
    told = []
    for option in unknown:
        near = difflib.get_close_matches(option, options, n=2, cutoff=0.8)
        name = option.rpartition(".")[2].lstrip("-")
        near = near or [names[n] for n in difflib.get_close_matches(name, names, n=1)]
        cure = f" Did you mean {' or '.join(near)}?" if near else ""
        told.append(f"There is no option {option}.{cure}")
    return " ".join(told) or fault
