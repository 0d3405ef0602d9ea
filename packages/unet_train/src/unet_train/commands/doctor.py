"""`unet-train doctor`."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jsonargparse

from unet_train.commands.shared import (
    add_run_arguments,
    make_task_and_data,
    run_dir_in,
    training_parser,
)
from unet_train.options import TrainerOptions
from unet_train.runs.folder import local

if TYPE_CHECKING:
    from unet_train.doctor import Finding

HELP = "find out why masks are bad, before training or after"


def parser(arguments: Sequence[str] = ()) -> jsonargparse.ArgumentParser:
    """Options of training, which are those of the run where one is named."""
    doctor = training_parser(
        "Examine data, machine and network before training; with the --run_dir of a"
        " run, also what it has learned. Exit status 1 if there is a fault."
    )
    add_run_arguments(doctor, required=False)
    doctor.add_argument(
        "--images", type=int, default=100, help="how many of each split to look at"
    )
    doctor.add_argument(
        "--steps", type=int, default=100, help="to learn one batch by heart, at most"
    )
    doctor.add_argument(
        "--minutes", type=float, default=10.0, help="that learning it may take"
    )
    doctor.add_argument(
        "--output",
        type=str | None,
        default=None,
        help="folder for alignment.png and logits.png; if none is given, `doctor` in"
        " the run folder, or here",
    )
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    # They are part of a configuration for `fit`, and have nothing to do here.
    for name in ("--callbacks", "--resume", "--init_from"):
        doctor.add_argument(name, type=Any, default=None, help="left aside")
    doctor.set_defaults(_defaults_of_run(arguments))
    return doctor


def _defaults_of_run(arguments: Sequence[str]) -> dict[str, Any]:
    """The options of the run that the command line names, if it has any."""
    run_dir = run_dir_in(arguments, "doctor")
    if run_dir is None:
        return {}
    from unet_train.doctor.configuration import PARTS, is_run, options_of_run

    replaced = [
        part
        for part in PARTS
        if any(each.startswith(f"--task.{part}") for each in arguments)
    ]
    return options_of_run(run_dir, replaced) if is_run(run_dir) else {}


def run(options: jsonargparse.Namespace) -> int:
    """Examines, draws and tells."""
    from unet_train.doctor import Scope, check_folder, examine, settle, write_drawings
    from unet_train.doctor.configuration import network_of_run

    run_dir = _run_dir(options)
    scope = Scope(
        run_dir=run_dir,
        **{name: options[name] for name in ("weights", "threshold")},
        **{name: options[name] for name in ("images", "steps", "minutes")},
    )
    output = local(options.output or os.path.join(run_dir or ".", "doctor"))
    check_folder(output)
    trainer = TrainerOptions(**options.trainer.as_dict())
    settle(trainer)
    network = None
    if run_dir is not None and options.network is None:
        network = network_of_run(run_dir)
    task, data = make_task_and_data(options, network)
    found = examine(task, data, trainer, scope, tell=_tell)
    paths = write_drawings(output, found.drawings)
    if options.json:
        findings = [dataclasses.asdict(finding) for finding in found.findings]
        told = {"findings": findings, "conclusion": found.conclusion, "drawings": paths}
        print(json.dumps(told))
    else:
        _print_table(found.findings)
        for path in paths:
            print(f"Drawn: {path}")
        print(found.conclusion)
    return int(not found.is_healthy)


def _run_dir(options: jsonargparse.Namespace) -> str | None:
    """The run to examine; a configuration for `fit` may name one that is yet to be."""
    from unet_train.doctor.configuration import is_run
    from unet_train.runs.folder import read_config

    run_dir: str | None = options.run_dir
    if run_dir is None or is_run(run_dir):
        return run_dir
    if not options.config:
        read_config(run_dir)  # Names the fault.
    return None


def _print_table(findings: Sequence[Finding]) -> None:
    import rich.console
    import rich.table
    import rich.text

    colors = {"ok": "green", "warning": "yellow", "fault": "bold red"}
    table = rich.table.Table("check", "verdict", "what was seen", "cure")
    for finding in findings:
        verdict = rich.text.Text(finding.verdict, colors[finding.verdict])
        seen, cure = (rich.text.Text(each) for each in (finding.text, finding.cure))
        table.add_row(finding.check, verdict, seen, cure)
    rich.console.Console().print(table)


def _tell(what: str) -> None:
    print(f"unet-train: {what} ...", file=sys.stderr)
