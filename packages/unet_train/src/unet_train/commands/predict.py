"""`unet-train predict`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import jsonargparse

from unet_train.commands.shared import (
    add_flips_argument,
    add_run_arguments,
    require_folder,
    run_of,
)
from unet_train.runs.folder import local

if TYPE_CHECKING:
    from unet_train.inference.coco_format import CocoWriter
    from unet_train.inference.photos import Job
    from unet_train.inference.predictor import Predictor

HELP = "masks for photos"

Picture = Literal["mask", "overlay", "probability"]
Coco = Literal["rle", "polygons"]


def parser(arguments: Sequence[str] = ()) -> jsonargparse.ArgumentParser:
    """The run, the photos, and what to write."""
    predict = jsonargparse.ArgumentParser(
        description=(
            "Write <stem>_mask.png (0 and 255, of several classes their labels from 1"
            " with a palette; as large as the photo) and <stem>_overlay.png for each"
            " photo."
        )
    )
    add_run_arguments(predict)
    add_flips_argument(predict)
    predict.add_argument(
        "photos",
        type=str,
        nargs="+",
        help="files, folders with all in them, or patterns in quotes: 'more/**/*.jpg'",
    )
    predict.add_argument("--output", type=str, required=True, help="folder to write to")
    predict.add_argument(
        "--pictures",
        type=Picture,
        nargs="*",
        default=["mask", "overlay"],
        help="of each photo, none if nothing follows; a probability, that of any class,"
        " has 16 bits, 65535 being 1",
    )
    predict.add_argument(
        "--coco",
        type=Coco,
        nargs="+",
        default=[],
        help="rle: coco_results.json, with coco_images.json that tells the photos'"
        " numbers; polygons: coco_annotations.json, a data set of COCO's kind",
    )
    predict.add_argument(
        "--category",
        type=dict[str, Any],
        default={"id": 17, "name": "cat"},
        help="what COCO's formats call the foreground, of one class",
    )
    predict.add_argument(
        "--category_ids",
        type=dict[str, int] | None,
        default=None,
        help="of several classes, the numbers that COCO's formats have for them by"
        " name, such as {cat: 17, dog: 18}; their labels if none are given",
    )
    return predict


def run(options: jsonargparse.Namespace) -> int:
    """Writes what was asked for; leaves out what cannot be read, and says so."""
    import rich.console
    import rich.progress

    from unet_train.inference.coco_format import CocoWriter
    from unet_train.inference.photos import find_photos
    from unet_train.inference.predictor import Predictor
    from unet_train.training.devices import let_gpus_grow

    let_gpus_grow()
    folder = local(options.output)
    if not options.pictures and not options.coco:
        raise ValueError(
            f"Nothing is to be written. Give --pictures some of {get_args(Picture)}, or"
            f" --coco some of {get_args(Coco)}."
        )
    require_folder("--output", folder)
    jobs = find_photos(options.photos, folder, options.pictures)
    predictor = Predictor.load(
        run_of(options),
        options.weights,
        threshold=options.threshold,
        flips=options.flips,
    )
    categories = _categories(options, predictor)
    writer = CocoWriter(categories, options.coco, folder)
    folder.mkdir(parents=True, exist_ok=True)
    failures = []
    progress = rich.progress.Progress(
        *rich.progress.Progress.get_default_columns(),
        rich.progress.MofNCompleteColumn(),
        console=rich.console.Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
    with progress:
        for number, job in enumerate(progress.track(jobs, description="Photos"), 1):
            try:
                print(_predict(job, number, predictor, options.pictures, writer))
            except ValueError as error:
                failures.append(str(error))
    writer.write()
    for failure in failures:
        print(f"unet-train: left out: {failure}", file=sys.stderr)
    if failures:
        done = len(jobs) - len(failures)
        print(f"unet-train: {done} of {len(jobs)} photos done", file=sys.stderr)
    return 1 if failures else 0


def _categories(
    options: jsonargparse.Namespace, predictor: Predictor
) -> list[dict[str, Any]]:
    """What COCO's formats call the classes, in the order of their labels."""
    if predictor.is_binary:
        return [options.category]
    names = predictor.class_names
    ids = options.category_ids or {name: n for n, name in enumerate(names, 1)}
    if set(ids) != set(names) or len(set(ids.values())) != len(names):
        raise ValueError(
            "--category_ids must have a number of its own for each of the network's"
            f" classes {list(names)}. Received: {ids}"
        )
    return [{"id": ids[name], "name": name} for name in names]


def _predict(
    job: Job,
    number: int,
    predictor: Predictor,
    pictures: Sequence[Picture],
    writer: CocoWriter,
) -> str:
    """Predicts one photo; returns a line about it."""
    import numpy as np

    from unet_train.inference.photos import WRITER, read_photo
    from unet_train.inference.pictures import overlay_of, palette, write_png

    photo = read_photo(job.photo)
    job.make_room(pictures)
    probabilities = predictor.probabilities(photo)
    mask, names = predictor.decide(probabilities), predictor.class_names
    if "mask" in pictures and predictor.is_binary:
        write_png(job.output("mask"), mask.astype(np.uint8) * 255, writer=WRITER)
    elif "mask" in pictures:
        colours = palette(len(names) + 1)
        write_png(job.output("mask"), mask, writer=WRITER, colours=colours)
    if "overlay" in pictures:
        drawn = overlay_of(photo, mask, names)
        write_png(job.output("overlay"), drawn, writer=WRITER)
    if "probability" in pictures:
        any_class = probabilities
        if not predictor.is_binary:
            any_class = np.clip(1 - probabilities[..., 0], 0, 1)
        scaled = np.round(any_class * 65535).astype(np.uint16)
        write_png(job.output("probability"), scaled, writer=WRITER)
    if predictor.is_binary:
        probabilities = probabilities[..., np.newaxis]
        found = f"{mask.mean():.1%} foreground"
    else:
        probabilities = probabilities[..., 1:]
        shares = [(name, (mask == n).mean()) for n, name in enumerate(names, 1)]
        there = [f"{name} {share:.1%}" for name, share in shares if share]
        found = ", ".join(there) or "nothing found"
    writer.add(number, job.name, mask, probabilities)
    written = "".join(f", {job.output(kind)}" for kind in pictures[-1:])
    return f"{job.photo}: {found}{written}"
