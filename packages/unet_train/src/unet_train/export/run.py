"""Exports a run: writes each form, compares it, describes it."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from unet_train.export import DEFAULT_FORMATS
from unet_train.export.card import Facts, make_card
from unet_train.export.decode import decode_photo
from unet_train.export.formats import TABLE, Format, check_installed, write_web
from unet_train.export.parity import (
    Parity,
    compare,
    synthetic_photos,
    validation_photos,
)
from unet_train.export.published import publish, round_weights
from unet_train.export.signatures import PhotoModule
from unet_train.export.web.page import check_examples
from unet_train.export.web.runtime import read_runtime
from unet_train.inference.photos import read_photo
from unet_train.inference.predictor import Predictor, require_no_threshold
from unet_train.options import DataOptions
from unet_train.runs import folder as run_folder
from unet_train.runs import load

CARD = "README.md"


def export(
    run_dir: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    weights: load.Weights = "last",
    threshold: float | None = None,
    formats: Sequence[str] = DEFAULT_FORMATS,
    photos: Sequence[str | os.PathLike[str]] = (),
    name: str | None = None,
    tile_size: int | None = None,
    compact: bool = False,
    web_runtime: str | os.PathLike[str] | None = None,
    web_examples: Sequence[str | os.PathLike[str]] = (),
) -> dict[str, Parity]:
    """Writes a folder with a network in several forms and a card.

    The folder appears whole, once every form has been compared with `Predictor`, or not
    at all.

    ```python
    from unet_train.export.run import export

    export("runs/cats", "exported", formats=["keras"])
    ```

    Args:
      run_dir: The folder that `fit` wrote, or a published model, as for `Predictor`.
      output: The folder to write; may exist if it is empty.
      weights: "last" or "best".
      threshold: Probability from which a pixel is foreground, in place of the run's.
      formats: Among `unet_train.export.FORMATS`.
      photos: To compare on; none for ten validation images of the run's dataset, or for
        ten synthetic pictures where that is not at hand.
      name: What a network of one class finds, for class names and card; None for what
        its data calls it. Several classes have the names of the data.
      tile_size: Side of the tiles that large photos are cut into; None for what fits
        into 3 GiB of memory.
      compact: Round the weights to what float16 holds, for a smaller `model.keras`;
        the forms are compared with the network of the rounded weights.
      web_runtime: For the format web the archive or folder of `onnxruntime-web`, as for
        `read_runtime`; None to have npm fetch it.
      web_examples: Photos that its page offers, besides a drawn cat if `name` is "cat".

    Returns:
      How each form compares.

    Raises:
      ValueError: There is no run, no converter, no runtime or no such format, the
        folder is not empty, a photo cannot be read, or a form does not agree with the
        predictor.
    """
    output = pathlib.Path(os.path.abspath(run_folder.local(output)))
    check_installed(formats)
    kinds = {name: TABLE[name] for name in formats}
    _check_empty(output)
    config = run_folder.read_config(run_dir)
    trained = load.load_trained(run_dir, weights)
    if compact:
        round_weights(trained.model)
    data = DataOptions(**config["data"])
    require_no_threshold(threshold, data.class_names)
    if "web" in formats and len(data.class_names) > 1:
        raise ValueError(
            "The page of `--formats web` shows one class, and this network tells"
            f" {', '.join(data.class_names)}. Choose other formats."
        )
    if "web" in kinds:
        kinds["web"] = _web(web_runtime, [pathlib.Path(each) for each in web_examples])
    predictor = Predictor(
        trained.model,
        image_size=data.prediction_size,
        threshold=trained.threshold if threshold is None else threshold,
        class_names=_names(data.class_names, name),
    )
    names = ("background", *predictor.class_names)
    module = PhotoModule(predictor, names, tile_size=tile_size)
    output.parent.mkdir(parents=True, exist_ok=True)
    # Beside the output, so that it can be moved there in one go.
    with tempfile.TemporaryDirectory(prefix="partial.", dir=output.parent) as scratch:
        whole = pathlib.Path(scratch) / output.name
        whole.mkdir()
        compared_on, files = _photos(photos, config, pathlib.Path(scratch))
        parity = {
            kind: _write_and_compare(kind, made, whole, module, files)
            for kind, made in kinds.items()
        }
        facts = Facts(
            config=config,
            weights=weights,
            metrics=_metrics(run_dir, weights, trained.step),
            counts=_counts(config),
            compared_on=compared_on,
            parity=parity,
        )
        (whole / CARD).write_text(make_card(module, facts), encoding="utf-8")
        if "keras" in formats:
            # With these it is a published model, which `Predictor.load` takes.
            settings = {**predictor.settings, "step": trained.step}
            publish(whole, config, {**(facts.metrics or {}), **settings})
        whole.replace(output)
    return parity


def _names(names: Sequence[str], name: str | None) -> Sequence[str]:
    if name is None:
        return names
    if len(names) > 1:
        raise ValueError(
            f"`name` {name!r} is for networks of one class; this one has the names of"
            f" its data, {', '.join(names)}. Leave it out."
        )
    return [name]


def _check_empty(output: pathlib.Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(
            f"{output} exists and is not an empty folder. Give another --output, or"
            " move it away: an export never overwrites."
        )


def _web(
    runtime: str | os.PathLike[str] | None, examples: list[pathlib.Path]
) -> Format:
    """The page with what it needs, which is got before much has been converted."""
    check_examples(examples)
    write = functools.partial(
        write_web, runtime=read_runtime(runtime), examples=examples
    )
    return dataclasses.replace(TABLE["web"], write=write)


def _write_and_compare(
    name: str,
    kind: Format,
    folder: pathlib.Path,
    module: PhotoModule,
    files: list[pathlib.Path],
) -> Parity:
    path = folder / kind.file
    try:
        kind.write(module, path)
        return compare(kind, path, module, files)
    except (ValueError, OSError):
        raise
    except Exception as error:  # A converter or a runtime may fail with anything.
        raise RuntimeError(
            f"The network cannot be exported as {name}: {type(error).__name__}: {error}"
            "\nLeave that format out."
        ) from error


def _photos(
    given: Sequence[str | os.PathLike[str]],
    config: dict[str, dict[str, Any]],
    folder: pathlib.Path,
) -> tuple[str, list[pathlib.Path]]:
    """What to compare on, and a word on what it is."""
    if given:
        for path in given:
            _require_readable(path)  # Rather now than when much has been converted.
        return "photos given to the export", [pathlib.Path(path) for path in given]
    if found := validation_photos(config["data"], folder):
        return "validation images of its dataset, written as JPEG", found
    return (
        "synthetic pictures in all EXIF orientations, its dataset not being at hand",
        synthetic_photos(folder),
    )


def _require_readable(path: str | os.PathLike[str]) -> None:
    read_photo(path)
    try:
        decode_photo(tf.io.read_file(os.fspath(path)))
    except tf.errors.OpError as error:
        raise ValueError(
            f"{os.fspath(path)} is a photo that TensorFlow's operations cannot read, so"
            " that an export cannot be compared on it. Save it as JPEG or PNG."
        ) from error


def _metrics(
    run_dir: str | os.PathLike[str], weights: str, step: int
) -> dict[str, Any] | None:
    """The scores of these weights, if they have been validated."""
    folder = run_folder.folder_of(run_dir)
    folder = load.best_folder(folder) if weights == "best" else folder
    try:
        text = (folder / run_folder.METRICS).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    found = dict(json.loads(text))
    return found if found["step"] == step else None  # It was trained on since.


def _counts(config: dict[str, dict[str, Any]]) -> dict[str, int]:
    """Images by what the run used them for; none if the dataset is not here."""
    from unet_train.data.source import SegmentationData

    try:
        found = SegmentationData(**config["data"])
        limit = config.get("trainer", {}).get("limit_train")
        return {
            "training": sum(
                each.training_count(limit) for each in found.datasets.values()
            ),
            "held out": found.holdout_count(),
            "validation": found.count(),
        }
    except (ValueError, OSError):
        return {}
