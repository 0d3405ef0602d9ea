"""`unet-train export`."""

from __future__ import annotations

from collections.abc import Sequence

import jsonargparse

from unet_train.commands.shared import add_run_arguments, run_of
from unet_train.export import DEFAULT_FORMATS, Format

HELP = "SavedModel, .keras, ONNX, LiteRT, a page for the browser, and a model card"


def parser(arguments: Sequence[str] = ()) -> jsonargparse.ArgumentParser:
    """The run, the forms, and what to compare them on."""
    export = jsonargparse.ArgumentParser(
        description=(
            "Write the network of a run in forms that need none of these packages, each"
            " compared with the Python predictor, and a model card beside them."
        )
    )
    add_run_arguments(export)
    export.add_argument(
        "--output", type=str, required=True, help="new folder to write to"
    )
    export.add_argument(
        "--formats",
        type=Format,
        nargs="+",
        default=list(DEFAULT_FORMATS),
        help="saved_model: from a photo's bytes to its mask; web: a page that"
        " finds in the browser; the others: the bare network. onnx and litert need the"
        " pip extra of that name, web that of onnx and npm",
    )
    export.add_argument(
        "--photos",
        type=str,
        nargs="+",
        default=[],
        help="files to compare on; ten validation images of the run's dataset if none"
        " are given, or ten synthetic pictures if that is not at hand",
    )
    export.add_argument(
        "--name",
        type=str | None,
        default=None,
        help="what a network of one class finds, where its data has no name for it",
    )
    export.add_argument(
        "--tile_size",
        type=int | None,
        default=None,
        help="side of the tiles that large photos are cut into, in pixels; what fits"
        " into 3 GiB of memory if none is given",
    )
    export.add_argument(
        "--compact",
        action="store_true",
        help="round the weights to float16's digits, for a smaller model.keras",
    )
    export.add_argument(
        "--web_runtime",
        type=str | None,
        default=None,
        help="for the format web: the archive or folder of onnxruntime-web; npm fetches"
        " it if none is given",
    )
    export.add_argument(
        "--web_examples",
        type=str,
        nargs="+",
        default=[],
        help="for the format web: photos that the page offers to try",
    )
    return export


def run(options: jsonargparse.Namespace) -> int:
    """Exports."""
    import tensorflow as tf

    from unet_train.export.formats import TABLE
    from unet_train.export.run import export

    # An export computes little, and other runtimes are compared on the CPU.
    tf.config.set_visible_devices([], "GPU")
    parity = export(
        run_of(options),
        options.output,
        weights=options.weights,
        threshold=options.threshold,
        formats=options.formats,
        photos=options.photos,
        name=options.name,
        tile_size=options.tile_size,
        compact=options.compact,
        web_runtime=options.web_runtime,
        web_examples=options.web_examples,
    )
    for name, found in parity.items():
        print(
            f"{options.output}/{TABLE[name].file}: probabilities within"
            f" {found.difference:.1e} of the predictor's, {found.pixels} of"
            f" {found.of_pixels:,} mask pixels differ, {found.photos} photos"
        )
    return 0
