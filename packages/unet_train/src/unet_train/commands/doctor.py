"""`unet-train doctor`."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jsonargparse

from unet_train.commands.shared import (
    add_run_arguments,
    make_task_and_data,
    run_dir_in,
    training_parser,
)
from unet_train.options import TrainerOptions

if TYPE_CHECKING:
    import keras
    import numpy as np
    import numpy.typing as npt

    from unet_train import SegmentationData, SegmentationTask
    from unet_train.doctor import Finding

    Drawings = dict[str, npt.NDArray[np.uint8]]

HELP = "find out why masks are bad, before training or after"

ALIGNMENT, LOGITS = "alignment.png", "logits.png"
_GROUPS = ("data", "model", "task", "trainer")
# Says whose a picture is: only these are overwritten.
_SOFTWARE = "unet-train doctor"
# Training tiles on which a network is looked at.
_TILES = 32
# Steps that tell how long one takes; the first compiles.
_TIMED = 5


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
        "--output",
        type=str | None,
        default=None,
        help=f"folder for {ALIGNMENT} and {LOGITS}; if none is given, `doctor` in the"
        " run folder, or here",
    )
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    # They are part of a configuration for `fit`, and have nothing to do here.
    for name in ("--callbacks", "--resume"):
        doctor.add_argument(name, type=Any, default=None, help="left aside")
    doctor.set_defaults(_defaults_of_run(arguments))
    return doctor


def _defaults_of_run(arguments: Sequence[str]) -> dict[str, Any]:
    """The options of the run that the command line names, if it has any."""
    run_dir = run_dir_in(arguments, "doctor")
    if run_dir is None or not _is_run(run_dir):
        return {}
    from unet_train.runs.folder import read_config

    config = read_config(run_dir)
    _refuse_foreign_parts(arguments, config, run_dir)
    return {
        f"{group}.{key}": value
        for group in _GROUPS
        for key, value in config.get(group, {}).items()
    }


def _refuse_foreign_parts(
    arguments: Sequence[str], config: dict[str, Any], run_dir: str
) -> None:
    """Calls nothing that a run folder names but losses, optimizers and schedules."""
    from unet_train.registry import find_object

    for option in ("loss", "optimizer", "schedule"):
        part = config["task"][option]
        is_named = any(each.startswith(f"--task.{option}") for each in arguments)
        if not isinstance(part, dict) or is_named:
            continue
        path = str(part.get("class_path"))
        if not _is_part(find_object(path)):
            raise ValueError(
                f"{run_dir} names {path} as its `task.{option}`, which is none. If you"
                f" trust it, give --task.{option} on the command line as well."
            )


def _is_part(found: object) -> bool:
    import keras

    from unet_train.task.loss import Loss

    schedule = keras.optimizers.schedules.LearningRateSchedule
    bases = (Loss, keras.losses.Loss, keras.Optimizer, schedule)
    return isinstance(found, type) and issubclass(found, bases)


def _network_of_run(
    options: jsonargparse.Namespace, has_run: bool
) -> keras.Model | None:
    """A run's own network, untrained; None where `model` describes it.

    It is made from what Keras saved, not by calling what the run folder names.
    """
    from unet_train.runs.folder import read_config
    from unet_train.runs.load import load_architecture

    if not has_run or options.network is not None:
        return None
    if read_config(options.run_dir).get("network") is None:
        return None
    return load_architecture(options.run_dir)


def _is_run(run_dir: str) -> bool:
    return (pathlib.Path(run_dir) / "config.yaml").exists()


def run(options: jsonargparse.Namespace) -> int:
    """Examines, draws and tells."""
    from unet_train.doctor import conclude
    from unet_train.runs.folder import read_config

    has_run = options.run_dir is not None and _is_run(options.run_dir)
    if options.run_dir is not None and not has_run and not options.config:
        read_config(options.run_dir)  # Names the fault.
    for name in ("images", "steps"):
        if options[name] < 2:
            raise ValueError(f"--{name} must be at least 2. Received: {options[name]}")
    output = _output(options, has_run)
    drawings: Drawings = {}
    findings = list(_examine(options, has_run, drawings))
    sentence = conclude(findings)
    paths = _draw(output, drawings)
    if options.json:
        found = {
            "findings": [dataclasses.asdict(finding) for finding in findings],
            "conclusion": sentence,
            "drawings": paths,
        }
        print(json.dumps(found))
    else:
        _print_table(findings)
        for path in paths:
            print(f"Drawn: {path}")
        print(sentence)
    return int(any(finding.verdict == "fault" for finding in findings))


def _examine(
    options: jsonargparse.Namespace, has_run: bool, drawings: Drawings
) -> Iterator[Finding]:
    """All findings in the order of causes.

    What can only show the consequences of a fault, or would break by it, is left out.
    """
    from unet_train import doctor
    from unet_train.doctor.alignment import draw_alignment
    from unet_train.runs.folder import METRICS
    from unet_train.training.devices import configure

    trainer = TrainerOptions(**options.trainer.as_dict())
    gpu = doctor.check_gpu(trainer.device)
    device = "cpu" if gpu.verdict == "fault" else trainer.device
    place = configure(dataclasses.replace(trainer, strategy="none", device=device))
    task, data = make_task_and_data(options, _network_of_run(options, has_run))
    task.set_precision(trainer.precision)
    task.check_tile_size(data.options.tile_size)

    _tell(f"looking at {options.images} images of each split")
    survey = doctor.look_at(data, options.images)
    if survey.examples:
        drawings[ALIGNMENT] = draw_alignment(survey.examples)
    readable = doctor.check_values(survey)
    yield from readable
    if any(finding.verdict == "fault" for finding in readable):
        yield gpu
        return
    yield doctor.check_foreground(survey)
    yield doctor.check_alignment(survey.boundary_maps)
    if not (has_run and (pathlib.Path(options.run_dir) / METRICS).exists()):
        yield from _examine_before(options, task, data, gpu, place.is_cpu)
    if has_run:
        yield from _examine_run(options, data, drawings)


def _examine_before(
    options: jsonargparse.Namespace,
    task: SegmentationTask,
    data: SegmentationData,
    gpu: Finding,
    is_cpu: bool,
) -> Iterator[Finding]:
    """What can be known before a network is trained."""
    from unet_train import doctor
    from unet_train.doctor.machine import available_bytes, training_bytes
    from unet_train.task.layers import speed_up

    trainer = TrainerOptions(**options.trainer.as_dict())
    tile_size, batch_size = data.options.tile_size, data.options.batch_size
    yield gpu
    part = -(-batch_size // trainer.accumulate)
    needed = training_bytes(task.model, tile_size=tile_size, batch_size=part)
    memory = doctor.check_memory(needed, available_bytes(), part)
    yield memory
    output = doctor.check_output_layer(task.model)
    if "fault" in (memory.verdict, output.verdict):
        yield output
        return
    speed_up(task.model, on_cpu=is_cpu)
    if batch_size % trainer.accumulate == 0:
        task.accumulate = trainer.accumulate
    _tell(f"learning one batch by heart, at most {options.steps} steps")
    overfit = doctor.overfit_one_batch(
        task, data, steps=options.steps, seed=trainer.seed
    )
    lowest = None if overfit.broke else float(overfit.logits.min())
    yield doctor.check_output_layer(task.model, lowest)
    yield doctor.check_learning(
        overfit, learning_rate=task.options.learning_rate, loss=task.options.loss
    )
    if len(overfit.losses) < _TIMED:
        return
    yield doctor.forecast_time(
        task.model,
        trainer,
        tile_size=tile_size,
        batch_size=batch_size,
        steps_per_epoch=data.steps_per_epoch(trainer.limit_train),
        seconds_a_step=overfit.seconds_a_step,
    )


def _examine_run(
    options: jsonargparse.Namespace, data: SegmentationData, drawings: Drawings
) -> Iterator[Finding]:
    """What a run has learned."""
    from unet_train import doctor
    from unet_train.doctor.network import tile_iou
    from unet_train.doctor.scores import draw_histogram
    from unet_train.inference.predictor import Predictor

    try:
        predictor = Predictor.load(
            options.run_dir, options.weights, threshold=options.threshold
        )
    except ValueError as error:
        cure = "Let it train on (`unet-train fit ... --resume`) and ask again."
        yield doctor.Finding("weights", "fault", str(error).rstrip("."), cure)
        return
    model = predictor.model
    weights = doctor.check_weights(model)
    yield weights
    if weights.verdict == "fault":
        return
    _tell(f"predicting {options.images} images of the validation split")
    scores = doctor.score(
        predictor, data.examples(data.options.eval_split, _limit(options, data))
    )
    drawings[LOGITS] = draw_histogram(scores)
    tiles, masks = _training_tiles(model, data, options.trainer.seed)
    yield doctor.check_output_layer(model, _finite(scores.lowest))
    yield doctor.check_dead_units(model, tiles)
    yield doctor.check_batch_norm(model, tiles, masks)
    yield doctor.check_logits(scores, training_iou=tile_iou(model, tiles, masks))
    yield doctor.check_threshold(scores, options.run_dir)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _limit(options: jsonargparse.Namespace, data: SegmentationData) -> int:
    return int(min(options.images, data.count(data.options.eval_split)))


def _training_tiles(
    model: keras.Model, data: SegmentationData, seed: int
) -> tuple[list[Any], list[Any]]:
    """Tiles and masks of the first batches of training."""
    from unet_core import read_geometry

    count = max(2, _TILES // data.options.batch_size)
    margin = read_geometry(model).margin
    batches = data.train_batches(margin=margin, seed=seed).take(count)
    tiles, masks = zip(*((b[0].numpy(), b[1].numpy()) for b in batches), strict=True)
    return list(tiles), list(masks)


def _output(options: jsonargparse.Namespace, has_run: bool) -> pathlib.Path:
    """The folder for drawings, in which nothing of anyone else would be overwritten."""
    import PIL.Image

    folder = pathlib.Path(options.run_dir if has_run else ".") / "doctor"
    folder = pathlib.Path(options.output) if options.output is not None else folder
    for name in (ALIGNMENT, LOGITS):
        path = folder / name
        if not path.exists():
            continue
        try:
            with PIL.Image.open(path) as picture:
                is_ours = picture.info.get("Software") == _SOFTWARE
        except OSError:
            is_ours = False
        if not is_ours:
            raise ValueError(
                f"{path} is there and was not drawn by `unet-train doctor`. Give"
                " another --output."
            )
    return folder


def _draw(folder: pathlib.Path, drawings: Drawings) -> list[str]:
    """Writes pictures; returns their paths."""
    import PIL.Image
    import PIL.PngImagePlugin

    info = PIL.PngImagePlugin.PngInfo()
    info.add_text("Software", _SOFTWARE)
    if drawings:
        folder.mkdir(parents=True, exist_ok=True)
    for name, pixels in drawings.items():
        partial = folder / f".{name}.partial"
        PIL.Image.fromarray(pixels).save(partial, format="PNG", pnginfo=info)
        partial.replace(folder / name)
    return [str(folder / name) for name in drawings]


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
