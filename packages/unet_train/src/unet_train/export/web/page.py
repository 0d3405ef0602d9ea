"""Writes the page: a folder that any static host serves."""

from __future__ import annotations

import html
import json
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from unet_core import TiledPredictor
from unet_train.export.signatures import PhotoModule
from unet_train.export.web.runtime import PACKAGE, PROGRAMS, VERSION, read_runtime
from unet_train.inference.photos import read_photo

MODEL = "model.onnx"
PAGE = pathlib.Path(__file__).parent / "page"

# What a browser gives a page is at most 4 GiB for everything.
_MEMORY_BUDGET = 1024**3
_DRAWN = "drawn_cat.svg"
# Of a browser, besides what makes up the page.
_SHOWN = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".avif"}


def write_page(
    module: PhotoModule,
    folder: pathlib.Path,
    *,
    runtime: Mapping[str, bytes] | None = None,
    examples: Sequence[pathlib.Path] = (),
) -> None:
    """Writes page, runtime, settings and examples; the network comes beside them.

    Args:
      module: What finds.
      folder: Exists and has the network, `MODEL`.
      runtime: Of `read_runtime`; None to have npm fetch it.
      examples: Photos that a visitor may try; a drawn cat comes last where cats are
        what it finds.
    """
    runtime = read_runtime() if runtime is None else runtime
    name = module.class_names[1]
    for path in PAGE.iterdir():
        if path.is_file() and path.name != "index.html":
            shutil.copyfile(path, folder / path.name)
    page = (PAGE / "index.html").read_text(encoding="utf-8")
    _write(folder / "index.html", page.replace("{{name}}", html.escape(name)))
    shutil.copytree(PAGE / "runtime", folder / "runtime")
    for file, content in runtime.items():
        (folder / "runtime" / file).write_bytes(content)
    (folder / "examples").mkdir()
    if name.lower() in {"cat", "cats"}:
        examples = [*examples, PAGE / "examples" / _DRAWN]
    settings = {
        "name": name,
        "threshold": module.predictor.threshold,
        "sizes": list(module.predictor.image_sizes),
        **_geometry(module),
        "model": {"file": MODEL, "bytes": (folder / MODEL).stat().st_size},
        "runtime": {
            device: {
                "program": program,
                "binary": {"file": binary, "bytes": len(runtime[binary])},
            }
            for device, (program, binary) in PROGRAMS.items()
        },
        "versions": {PACKAGE: VERSION},
        "examples": [
            _copy_example(path, folder / "examples", number)
            for number, path in enumerate(examples, 1)
        ],
    }
    _write(folder / "settings.json", json.dumps(settings, indent=1) + "\n")


def check_examples(paths: Sequence[pathlib.Path]) -> None:
    """Refuses what is no photo, or none that a browser shows.

    Raises:
      ValueError: Names the file.
    """
    for path in paths:
        if path.suffix.lower() not in _SHOWN:
            raise ValueError(
                f"{path} is no example that every browser shows. Save it as one of"
                f" {', '.join(sorted(_SHOWN))}."
            )
        read_photo(path)


def _geometry(module: PhotoModule) -> dict[str, Any]:
    """Sizes of tiles, under the names that `whole_photo.js` knows."""
    geometry = module.geometry
    largest = module.largest_tile
    if largest is not None:
        budget = TiledPredictor(module.predictor.model, memory_budget=_MEMORY_BUDGET)
        assert budget.largest_tile is not None
        largest = min(largest, budget.largest_tile)
    return {
        "step": geometry.step,
        "margin": geometry.margin,
        "seam": geometry.seam,
        "smallest": geometry.smallest_valid_size,
        "largestTile": largest,
    }


def _copy_example(path: pathlib.Path, folder: pathlib.Path, number: int) -> Any:
    """Under a name that is no other's; what the settings tell of it."""
    file = f"{number}_{path.name}"
    shutil.copyfile(path, folder / file)
    return {"file": file, "title": path.stem.replace("_", " ")}


def _write(path: pathlib.Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
