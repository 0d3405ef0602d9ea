"""The command `coco-cats`: build a dataset, and what it needs besides."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from coco_cats_tfds.build import add_build_options, build

if TYPE_CHECKING:
    from coco_cats_tfds.built import BuiltDataset
    from coco_cats_tfds.inputs import CocoInputs

_SHOWN_FAULTS = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `coco-cats`.

    Returns:
      The exit status: 0 done, 1 a dataset is not what it should be, 2 bad input, 130
      stopped by Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        print("coco-cats: stopped; what was fetched is kept", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"coco-cats: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="coco-cats",
        description="Tools for the TFDS dataset coco_cats.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    make = commands.add_parser(
        "build",
        help="build the dataset, as `tfds build coco_cats` does",
        description=(
            "Builds the dataset as `tfds build coco_cats` does, without TFDS's command"
            " line and what that needs."
        ),
    )
    add_build_options(make)
    make.set_defaults(run=build)

    bring = commands.add_parser(
        "import",
        help="bring your own photos and labels into COCO's layout",
        description=(
            "Writes photos and what a labelling tool exported as a folder for"
            " `--manual_dir`. Photos are turned upright, their labels with them."
        ),
    )
    _add_import_options(bring)
    bring.set_defaults(run=_import)

    sample = commands.add_parser(
        "sample",
        help="write a small dataset in COCO's layout",
        description=(
            "Writes a small dataset in COCO's layout, drawn from a CC0 photograph of"
            " Chelsea the cat, for `tfds build coco_cats --manual_dir DIR`. Fewer"
            " images are the first of them."
        ),
    )
    sample.add_argument("directory", metavar="DIR", help="a folder to create")
    sample.add_argument(
        "--train", type=int, default=64, help="training images, 1 to %(default)s (all)"
    )
    sample.add_argument(
        "--validation",
        type=int,
        default=16,
        help="validation images, 1 to %(default)s (all)",
    )
    sample.add_argument(
        "--cups", action="store_true", help="show cups too: a second class"
    )
    sample.set_defaults(run=_sample)

    show = commands.add_parser(
        "show",
        help="draw a contact sheet of a built dataset",
        description=(
            "Draws images of a built dataset: the mask in red, or each class in its own"
            " colour, ignored pixels hatched in yellow."
        ),
    )
    _add_dataset(show)
    show.add_argument(
        "--output", required=True, metavar="PICTURE", help="e.g. grid.png; written anew"
    )
    show.add_argument("--split", default="train", help="default: %(default)s")
    show.add_argument(
        "--images", type=int, default=24, help="how many (%(default)s)", metavar="N"
    )
    show.set_defaults(run=_show)

    verify = commands.add_parser(
        "verify",
        help="prove a built dataset against COCO's annotations",
        description=(
            "Reads every record of a built dataset, draws its mask once more from the"
            " annotations and compares all pixels, and the image with its file."
        ),
    )
    _add_dataset(verify)
    verify.add_argument(
        "--manual_dir",
        metavar="COCO",
        help="the folder it was built from; else what was fetched is used",
    )
    verify.add_argument(
        "--download_dir", metavar="DIR", help="default: DATA_DIR/downloads"
    )
    verify.add_argument(
        "--base_url", metavar="URL", help="the address it was fetched from, if not COCO"
    )
    verify.set_defaults(run=_verify)
    return parser


def _add_dataset(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "data_dir",
        metavar="DATA_DIR",
        help="as given to `tfds build --data_dir`, or the folder of one dataset",
    )
    command.add_argument(
        "--config", metavar="NAME", help="a configuration; default: all that are there"
    )


def _add_import_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("photos", nargs="+", metavar="PHOTOS", help="files, and folders of photos")
    add(
        *("--annotations", "-a"),
        nargs="+",
        required=True,
        metavar="LABELS",
        help=(
            "files and folders: COCO, labelme or VIA JSON, YOLO segmentation text, mask"
            " PNGs"
        ),
    )
    add("--output", required=True, metavar="MINE", help="a folder to create")
    add("--categories", nargs="+", default=[], metavar="NAME", help="default: all")
    add(
        "--names",
        nargs="+",
        default=[],
        metavar="NAME",
        help="of YOLO's classes from 0, or of the masks' labels from 1",
    )
    add("--attribute", metavar="NAME", help="VIA's, whose value is the category")
    add(
        "--validation",
        type=float,
        metavar="SHARE",
        help=(
            "of the photos, by a hash of their names; default: labels in folders named"
            " train and val say so, else 0.2"
        ),
    )
    add(
        "--group_by",
        metavar="folder|PATTERN",
        help="photos that shall be on one side: of a folder, or alike in this part",
    )
    add(
        "--orientation",
        choices=("stored", "upright"),
        help="what was labelled where EXIF turns a photo and its size does not tell",
    )


def _import(options: argparse.Namespace) -> int:
    from coco_cats_tfds.imports import import_photos

    report = import_photos(
        options.photos,
        options.annotations,
        options.output,
        categories=options.categories,
        names=options.names,
        attribute=options.attribute,
        validation=options.validation,
        group_by=options.group_by,
        orientation=options.orientation,
    )
    chosen = {"name": "mine", "categories": list(report.objects), "labels": "each"}
    if len(report.objects) == 1:
        del chosen["labels"]
    config = json.dumps(chosen, ensure_ascii=False)
    others = "" if [*report.objects] == ["cat"] else f" --config {shlex.quote(config)}"
    print(
        f"{report}\nNext:\n"
        f"  coco-cats build --manual_dir {shlex.quote(options.output)} --data_dir"
        f" OUT{others}"
    )
    return 0


def _sample(options: argparse.Namespace) -> int:
    from coco_cats_tfds.sample import write_sample

    write_sample(
        options.directory,
        train=options.train,
        validation=options.validation,
        cups=options.cups,
    )
    classes = '{"name": "both", "categories": ["cat", "cup"], "labels": "each"}'
    config = f" --config '{classes}'" if options.cups else ""
    print(
        f"Wrote {options.train} training and {options.validation} validation images to"
        f" {options.directory}. Next:\n"
        f"  coco-cats build --manual_dir {options.directory} --data_dir OUT{config}"
    )
    return 0


def _show(options: argparse.Namespace) -> int:
    from coco_cats_tfds.built import find_built
    from coco_cats_tfds.contact_sheet import draw_sheet

    found = find_built(options.data_dir, options.config)
    if len(found) > 1:
        names = [each.path.parent.name for each in found]
        raise ValueError(f"{options.data_dir} holds {names}: choose one with --config.")
    (built,) = found
    if options.split not in built.splits:
        raise ValueError(
            f"{built.path} has no split {options.split!r}, only {list(built.splits)}."
        )
    examples = built.examples(options.split)
    draw_sheet(examples, options.images, built.class_names).save(options.output)
    print(f"{min(options.images, built.splits[options.split])} images of {built.path}:")
    print(built.counts[options.split].report(options.split))
    print(f"Drawn in {options.output}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from coco_cats_tfds.built import find_built
    from coco_cats_tfds.coco_cats_dataset_builder import SPLITS
    from coco_cats_tfds.verify import verify_split

    faulty = False
    for built in find_built(options.data_dir, options.config):
        print(built.path)
        coco = _inputs(options, built)
        for split, coco_split in SPLITS.items():
            verdict = verify_split(built, split, coco, coco_split)
            faulty = faulty or bool(verdict.faults)
            print(
                f"  {split}: of {built.splits[split]:,} records {verdict.masks:,} masks"
                f" and {verdict.images:,} images are proven, {len(verdict.faults):,}"
                " faults"
            )
            for fault in verdict.faults[:_SHOWN_FAULTS]:
                print(f"    {fault}")
            if len(verdict.faults) > _SHOWN_FAULTS:
                print(f"    and {len(verdict.faults) - _SHOWN_FAULTS:,} more")
    return int(faulty)


def _inputs(options: argparse.Namespace, built: BuiltDataset) -> CocoInputs:
    from coco_cats_tfds.download import COCO_URL, CocoDownload
    from coco_cats_tfds.inputs import CocoFolder

    if options.manual_dir:
        share = built.choice.validation
        return CocoFolder(options.manual_dir, validation=share)
    data_dir = built.path.parents[2]  # <data_dir>/coco_cats/<configuration>/<version>
    download_dir = options.download_dir or data_dir / "downloads"
    return CocoDownload(download_dir, options.base_url or COCO_URL)


if __name__ == "__main__":
    sys.exit(main())
