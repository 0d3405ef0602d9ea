"""The command `coco-cats`: what a dataset needs besides `tfds build`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `coco-cats`; returns the exit status (0 done, 2 bad input)."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (ValueError, OSError) as error:
        print(f"coco-cats: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="coco-cats",
        description="Tools for the TFDS dataset coco_cats.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    sample = commands.add_parser(
        "sample",
        help="write a small dataset in COCO's layout",
        description=(
            "Writes a small dataset in COCO's layout, made from scikit-image's CC0"
            " photograph of Chelsea the cat, for `tfds build coco_cats --manual_dir"
            " DIR`."
        ),
    )
    sample.add_argument("directory", metavar="DIR", help="a folder to create")
    sample.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    sample.add_argument(
        "--train", type=int, default=64, help="training images (%(default)s)"
    )
    sample.add_argument(
        "--validation", type=int, default=16, help="validation images (%(default)s)"
    )
    sample.set_defaults(run=_sample)
    return parser


def _sample(options: argparse.Namespace) -> int:
    from coco_cats_tfds.sample import write_sample

    write_sample(
        options.directory,
        seed=options.seed,
        train=options.train,
        validation=options.validation,
    )
    print(
        f"Wrote {options.train} training and {options.validation} validation images to"
        f" {options.directory}. Next:\n"
        f"  tfds build coco_cats --manual_dir {options.directory} --data_dir OUT"
    )
    return 0
