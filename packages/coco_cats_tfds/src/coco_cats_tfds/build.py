"""The command `coco-cats build`: `tfds build coco_cats` without TFDS's command line.

It has the same options, needs neither Beam nor mlcroissant to be there, does not mind a
folder `coco_cats` in the working directory, and tells errors as text.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from coco_cats_tfds.errors import CocoDataError

if TYPE_CHECKING:
    from coco_cats_tfds.coco_cats_dataset_builder import Builder

_MEAN_BYTES = 163_000
"""Of COCO's JPEGs, in train2017 and val2017 alike."""

_TOO_MANY = 20_000

_WRITTEN_TO = ("gs",)
"""Addresses that both TFDS and TensorFlow know."""

FORMATS = ("tfrecord", "array_record", "riegeli", "parquet")


def add_build_options(command: argparse.ArgumentParser) -> None:
    """Adds the options of `tfds build` that say something here."""
    add = command.add_argument
    add(
        "--data_dir",
        metavar="OUT",
        help="where datasets lie; default: TFDS_DATA_DIR, or ~/tensorflow_datasets",
    )
    add(
        "--manual_dir", metavar="COCO", help="COCO's folder or zips; else it is fetched"
    )
    add("--download_dir", metavar="DIR", help="default: OUT/downloads")
    add(
        "--config",
        "-c",
        metavar="NAME|JSON",
        help='e.g. \'{"name": "pets", "categories": ["cat", "dog"]}\'; default: cats',
    )
    add("--overwrite", action="store_true", help="build anew what is there")
    add("--fail_if_exists", action="store_true", help="end if it is there")
    add(
        "--max_examples_per_split",
        type=int,
        nargs="?",
        const=1,
        metavar="N",
        help="a trial: the first N images of each split (1)",
    )
    add("--file_format", choices=FORMATS, help="default: tfrecord")
    add("--num_shards", type=int, metavar="N", help="files a split")
    add(
        "--max_shard_size_mb", type=int, metavar="MB", help="of one file; default: 1024"
    )
    add(
        "--beam_pipeline_options",
        metavar="OPTIONS",
        help="with `beam` in the configuration: comma-separated, without the dashes",
    )

    add(
        "--dry_run",
        action="store_true",
        help="only say how many images the choice takes, and what is to be fetched",
    )
    add("--download_only", action="store_true", help="fetch, and build nothing")


def build(options: argparse.Namespace) -> int:
    """Runs the command.

    Raises:
      CocoDataError: The choice or the data cannot be used.
    """
    import tensorflow_datasets as tfds

    from coco_cats_tfds.coco_cats_dataset_builder import Builder

    scheme, is_address, _ = str(options.data_dir or "").partition("://")
    if is_address and scheme not in _WRITTEN_TO:
        raise CocoDataError(
            f"--data_dir {options.data_dir}: TFDS does not write to {scheme}://. Build"
            " into a folder, and copy that there; `unet-train` reads it there."
        )
    builder = Builder(
        data_dir=options.data_dir,
        config=_config(options.config),
        file_format=options.file_format,
    )
    if options.dry_run or options.download_only:
        return _plan(builder, options)
    is_there = builder.is_prepared()
    if is_there and options.fail_if_exists:
        raise CocoDataError(
            f"{builder.data_path} is there already, and --fail_if_exists was given."
        )
    modes = tfds.download.GenerateMode
    builder.download_and_prepare(
        download_dir=options.download_dir,
        download_config=tfds.download.DownloadConfig(
            manual_dir=options.manual_dir,
            download_mode=modes.REUSE_CACHE_IF_EXISTS
            if options.overwrite
            else modes.REUSE_DATASET_IF_EXISTS,
            max_examples_per_split=options.max_examples_per_split,
            num_shards=options.num_shards,
            max_shard_size=(options.max_shard_size_mb or 1024) << 20,
            beam_options=_beam_options(options.beam_pipeline_options),
        ),
    )
    if is_there and not options.overwrite:
        print(f"{builder.data_path} is there, with this choice.")
    name = f"coco_cats/{builder.builder_config.name}"
    root = str(builder.data_dir_root)
    print(f"Read it with tfds.load({name!r}, data_dir={root!r}).")
    return 0


def _plan(builder: Builder, options: argparse.Namespace) -> int:
    from coco_cats_tfds.download import COCO_URL, CocoDownload
    from coco_cats_tfds.inputs import ANNOTATIONS_ZIP

    plan = builder.plan(
        manual_dir=options.manual_dir, download_dir=options.download_dir
    )
    for split, coco, selection in plan:
        images = [record.image for record in selection.records]
        print(f"{split}: {len(images):,} images")
        if not isinstance(coco, CocoDownload):
            continue
        missing = sum(not coco.is_fetched(split, image) for image in images)
        size = missing * _MEAN_BYTES
        print(f"  to be fetched: {missing:,} images, about {size / 1e9:.2g} GB")
        if missing > _TOO_MANY:
            print(
                f"  Sooner had from COCO's zip, {COCO_URL}/zips/{split}.zip: put it"
                f" into a folder with {ANNOTATIONS_ZIP}, and name that with"
                " --manual_dir."
            )
        if not options.dry_run:
            coco.source(split, images)
    return 0


def _config(text: str | None) -> str | dict[str, Any] | None:
    """A configuration's name as it is, or the fields of a JSON object."""
    if text is None or not text.lstrip().startswith("{"):
        return text
    try:
        return dict(json.loads(text, object_pairs_hook=_without_doubles))
    except CocoDataError:
        raise
    except ValueError as error:
        raise CocoDataError(
            f"--config is no JSON object: {error}. An example:"
            ' {"name": "pets", "categories": ["cat", "dog"]}. Received: ' + text
        ) from error


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, in which a name stands once; of two, json takes the last."""
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise CocoDataError(
                f"--config has {name!r} twice in one object. Put what belongs to it"
                " together, or give each a name of its own."
            )
    return dict(pairs)


def _beam_options(text: str | None) -> Any:
    if not text:
        return None
    from apache_beam.options.pipeline_options import PipelineOptions

    return PipelineOptions(flags=[f"--{option}" for option in text.split(",")])
