"""The model card that is written beside an export: `README.md`."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from unet_train.export.formats import TABLE
from unet_train.export.parity import TOLERANCE, Parity
from unet_train.export.published import told
from unet_train.export.signatures import PhotoModule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """What the card tells beyond the model itself.

    Attributes:
      config: Of the run.
      weights: "last" or "best".
      metrics: Of these weights; None if they were not validated.
      counts: Images for "training", "held out" of it and for "validation"; empty if the
        dataset is not at hand.
      compared_on: What the photos of the comparison are.
      parity: Of each format that was exported.
    """

    config: Mapping[str, Any]
    weights: str
    metrics: Mapping[str, Any] | None
    counts: Mapping[str, int]
    compared_on: str
    parity: Mapping[str, Parity]


def make_card(module: PhotoModule, facts: Facts) -> str:
    """The card, in Markdown."""
    sections = {
        "What it is": _what(module, facts),
        "Data": _data(facts),
        "Scores": _scores(facts),
        "Intended use and limits": _use(_found(module)),
        "Inputs and outputs": _signatures(module, facts),
        "Loading": _loading(facts),
        "Agreement with the predictor": _parity(facts),
        "Licences": _LICENCES,
        "Configuration": _config(facts),
    }
    title = f"# U-Net for {_found(module)}, pixel by pixel\n"
    return title + "".join(
        f"\n## {name}\n\n{text}\n" for name, text in sections.items()
    )


def _found(module: PhotoModule) -> str:
    """What it finds, in words."""
    *others, last = module.class_names[1:]
    return f"{', '.join(others)} and {last}" if others else last


def _rule(module: PhotoModule) -> str:
    """What a pixel is given, and when it is of a class."""
    predictor, name = module.predictor, _found(module)
    if predictor.is_binary:
        return (
            f"the probability of {name}. From {predictor.threshold:g} on the mask has"
            f" it as {name}."
        )
    return (
        f"the probabilities of background, {name}. The mask has the most probable one"
        " as its number, 0 for the background."
    )


def _what(module: PhotoModule, facts: Facts) -> str:
    predictor, geometry = module.predictor, module.geometry
    scaled, tiles = "Photos are not scaled.", "Each photo is predicted in one pass."
    if sizes := predictor.image_sizes:
        average = ", and the probabilities averaged" if len(sizes) > 1 else ""
        scaled = (
            f"Photos are scaled to {_listed(sizes)} pixels on their"
            f" longer side for the network{average}; the mask is as large as the photo."
        )
    if module.largest_tile is not None:
        tiles = (
            f"What is larger than {module.largest_tile} pixels squared is predicted in"
            " overlapping tiles, without seams."
        )
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}"
        for name in ("tensorflow", "keras", "unet_train")
    )
    encoder = (facts.config.get("model") or {}).get("encoder")
    way_down = f' and the encoder "{encoder}"' if encoder else ""
    return _paragraph(f"""
        A U-Net (Ronneberger, Fischer and Brox, 2015) of depth {geometry.depth} with
        "{geometry.padding}" padding{way_down}, {predictor.model.count_params():,}
        parameters,
        which gives each pixel of a photo {_rule(module)}
        {scaled} {tiles} The weights are the {facts.weights} ones of the run. Exported
        with {versions}.""")


def _listed(sizes: Sequence[int]) -> str:
    """Such as "384, 512 and 640"."""
    *others, last = map(str, sizes)
    return f"{', '.join(others)} and {last}" if others else last


def _data(facts: Facts) -> str:
    data = facts.config["data"]
    uses = {"training": "train_split", "validation": "eval_split"}
    if data["holdout"]:
        uses = {"training": "train_split", "held out": "train_split", **uses}
    for_threshold = facts.config["task"]["threshold"] is None
    rows = [
        (
            f"`{data[split]}`",
            f"{use}, to choose the threshold"
            if use == "held out" and for_threshold
            else use,
            facts.counts.get(use, "not at hand"),
        )
        for use, split in uses.items()
    ]
    names = [data["name"], *(each["name"] for each in data["also"])]
    text = _paragraph(f"""
        Dataset {", ".join(f"`{name}`" for name in names)} of TensorFlow Datasets. Mask
        values
        {_values(data)}, {data["background"]} background;
        {data["ignored"]} count nowhere.""")
    return f"{text}\n\n{_table(('split', 'used for', 'images'), rows)}"


def _values(data: Mapping[str, Any]) -> str:
    """Which values of its masks are what."""
    if not data.get("labels"):
        return f"{data['foreground']} are foreground"
    return ", ".join(f"{values} are {name}" for name, values in data["labels"].items())


def _scores(facts: Facts) -> str:
    if facts.metrics is None:
        return "These weights had not been validated when they were exported."
    rows = [
        (name, f"{value:.4g}" if isinstance(value, float) else value)
        for name, value in facts.metrics.items()
    ]
    return (
        f"On whole images, every labelled pixel.\n\n{_table(('score', 'value'), rows)}"
    )


def _use(name: str) -> str:
    return _paragraph(f"""
        For marking {name} in photos like those of the training data: research,
        measuring, image editing. Of other kinds of pictures (drawings, X-rays, aerial
        views) it knows nothing, and answers with some mask all the same. It does not
        tell one individual from another. Objects much smaller or larger than in
        training, thin structures and blur are found less well than the scores say. Not
        for decisions about people, nor where a wrong pixel does harm, without a test
        on the data in question.""")


def _outputs(module: PhotoModule) -> list[tuple[str, str, str, str]]:
    """Of the SavedModel: signature, output, type, values."""
    names = " and ".join(f"`{name}`" for name in module.class_names)
    if module.predictor.is_binary:
        return [
            ("`serving_default`", "`mask`", "uint8 [H, W]", "0 and 1"),
            ("", "`probability`", "float32 [H, W]", "of 1"),
            ("", "`class_names`", "string [2]", f"{names}, of mask values 0 and 1"),
            ("`png`", "`mask_png_bytes`", "string []", "a PNG of 0 and 255"),
        ]
    count = len(module.class_names)
    return [
        ("`serving_default`", "`mask`", "uint8 [H, W]", f"0 to {count - 1}"),
        ("", "`probability`", f"float32 [H, W, {count}]", "of each of these"),
        ("", "`class_names`", f"string [{count}]", f"{names}, of these values"),
        ("`png`", "`mask_png_bytes`", "string []", "a PNG of the same values"),
    ]


def _signatures(module: PhotoModule, facts: Facts) -> str:
    texts = []
    if "saved_model" in facts.parity:
        rows = _outputs(module)
        texts.append(f"""\
`saved_model` takes `photo`, string []: the bytes of a JPEG, PNG, GIF, WebP or BMP. It
is turned as its EXIF orientation says; H and W are those of the photo as it is seen.

{_table(("signature", "output", "type", "values"), rows)}

For TensorFlow Serving the folder is the base path of a model. Over REST a photo goes in
as `{{"inputs": {{"b64": "..."}}}}`.""")
    others = [kind for kind in facts.parity if kind not in ("saved_model", "web")]
    if bare := [f"`{TABLE[kind].file}`" for kind in others]:
        geometry = module.geometry
        logits = module.predictor.model.outputs[0].shape[-1]
        rule = "softmax and argmax" if logits > 1 else "sigmoid and threshold"
        lost = f" - {2 * geometry.margin}" if geometry.margin else ""
        texts.append(
            _paragraph(f"""
            {", ".join(bare)}: the network alone. In goes `image`, float32 [N, H, W, 3],
            RGB of 0 to 255 without further scaling, H and W
            {geometry.smallest_valid_size} or that and any multiple of {geometry.step}.
            Out come logits, float32 [N, H{lost}, W{lost}, {logits}]. Scaling, mirrored
            borders, tiles, {rule} are the caller's.""")
        )
    if "web" in facts.parity:
        texts.append(
            _paragraph("""
            `web`: a page for people, who drop a photo on it and save the mask or a
            cut-out. Any static host serves it; the photo stays in the browser. The
            network is run by ONNX Runtime Web, which lies in `runtime` with its
            licence.""")
        )
    return "\n\n".join(texts)


def _loading(facts: Facts) -> str:
    return "\n\n".join(
        f"`{TABLE[name].file}`:\n\n```{TABLE[name].language}\n{TABLE[name].loading}\n```"
        for name in facts.parity
    )


def _parity(facts: Facts) -> str:
    rows = [
        (
            f"`{TABLE[name].file}`",
            found.photos,
            f"{found.difference:.1e}",
            f"{found.pixels} of {found.of_pixels:,}",
        )
        for name, found in facts.parity.items()
    ]
    text = _paragraph(f"""
        Each form against the Python predictor of `unet_train`, on
        {facts.compared_on}. A probability may differ by {TOLERANCE:g}.""")
    heads = ("", "photos", "largest difference", "mask pixels that differ")
    return f"{text}\n\n{_table(heads, rows)}"


_LICENCES = """\
If the dataset was built from COCO: its annotations are CC BY 4.0 and ask for
attribution to the COCO Consortium, which does not own the images. Each image has the
licence that its photographer chose on Flickr, named in COCO's annotations, many of them
non-commercial or without derivatives; using them is subject to Flickr's terms too.
Whether that binds a network trained on them is for whoever publishes it to find out.
Other data has its own terms. The ImageNet weights of an encoder were somebody else's:
EfficientNet-Lite's are Apache-2.0. So is the code that trained and exported it."""


def _config(facts: Facts) -> str:
    return f"```yaml\n{yaml.safe_dump(told(facts.config), sort_keys=False)}```"


def _paragraph(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 88, break_on_hyphens=False)


def _table(heads: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)
