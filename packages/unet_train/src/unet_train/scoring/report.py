"""The files of an evaluation: `metrics.json` and `report.html`.

`report.html` is one file that needs no other: numbers with their intervals, curves, and
the best, median and worst predictions beside their truth.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image

from unet_train.inference.pictures import overlay_of
from unet_train.runs.folder import METRICS, write_text
from unet_train.scoring.counts import ImageCounts, counts_table, false_area
from unet_train.scoring.evaluation import Evaluation
from unet_train.scoring.report_classes import draw_matrix, html_of_classes, rule

if TYPE_CHECKING:
    import matplotlib.figure

    from unet_train.data.source import Example
    from unet_train.inference.predictor import Predictor

FOLDER, REPORT = "evaluation", "report.html"

_SHOWN = 3
_PICTURE_SIZE = 480

_MEANING = {
    "iou": "pixels found and true over pixels found or true, all images together",
    "mean_iou": "mean IoU of the classes that are there or were found",
    "false_area": "mean share found of images without foreground",
    "dice": "the F1 score of the pixels",
    "precision": "share of what was found that is true",
    "recall": "share of what is true that was found",
    "boundary_iou": "IoU of what lies within 2% of the diagonal of the edge",
    "average_precision": "area under the precision-recall curve",
    "calibration_error": "mean distance between stated probability and true share",
    "mean_image_iou": "mean of the images' own IoU",
}

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem; color: #222; }
table { border-collapse: collapse; } td, th { padding: .2rem .9rem .2rem 0;
  text-align: left; } td.number { font-variant-numeric: tabular-nums; }
figure { display: inline-block; width: 29rem; max-width: 100%; margin: 0 1rem 1rem 0;
  vertical-align: top; } figure img { width: 100%; }
figcaption { font-size: .85rem; overflow-wrap: anywhere; }
svg { max-width: 100%; height: auto; }
"""


def write_metrics(
    folder: pathlib.Path, evaluation: Evaluation, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Writes `metrics.json`; returns what it holds but curves and images' own counts.

    Args:
      folder: Made if need be.
      evaluation: Numbers.
      about: What was scored: run, dataset, split and so on.
    """
    record = {
        **evaluation.scores(),
        "intervals": evaluation.intervals(),
        **about,
    }
    details = {
        "curves": _curves(evaluation),
        "image_counts": [dataclasses.asdict(image) for image in evaluation.images],
    }
    if evaluation.classes is not None:
        details["class_counts"] = evaluation.classes.image_counts()
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / METRICS, json.dumps({**record, **details}, indent=1) + "\n")
    return record


def write_report(
    folder: pathlib.Path,
    evaluation: Evaluation,
    record: Mapping[str, Any],
    predictor: Predictor,
    examples_at: Callable[[Sequence[int]], Iterable[Example]],
) -> pathlib.Path:
    """Writes `report.html`.

    Args:
      folder: Made if need be.
      evaluation: Numbers.
      record: Of `write_metrics`.
      predictor: Draws what it finds.
      examples_at: Gives of those that were evaluated the ones at these places, in
        this order.

    Returns:
      The file.
    """
    chosen = _chosen(evaluation)
    numbers = sorted({number for group in chosen.values() for number in group})
    drawn = {
        number: _picture(example, predictor, _told(evaluation.images[number]))
        for number, example in zip(numbers, examples_at(numbers), strict=True)
    }
    title = html.escape(f"{record['run']} on {record['split']}")
    sections = "".join(
        f"<h2>{name}</h2>" + "".join(drawn[number] for number in group)
        for name, group in chosen.items()
        if group
    )
    figures = [_curve(evaluation), _calibration(evaluation)]
    if evaluation.classes is not None:
        matrix = record["confusion_matrix"]
        figures.append(draw_matrix(matrix, evaluation.classes.names))
    plots = "".join(map(_svg, figures))
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>{_STYLE}</style></head><body>
<h1>{title}</h1>
<p>{html.escape(_summary(record))}</p>
{_table(record)}
{html_of_classes(record)}
{_table_by_dataset(record.get("datasets", {}))}
<p>Mean and quantiles of the images' own scores:</p>
{_table_of_images(record)}
<h2>Curves</h2>
{plots}
{sections}
</body></html>
"""
    write_text(folder / REPORT, page)
    return folder / REPORT


def rows_of(record: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Name, value, interval and meaning of each score that is defined."""
    for name, meaning in _MEANING.items():
        if record.get(name) is None:
            continue
        ends = record["intervals"].get(name)
        shown = f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else ""
        yield name, f"{record[name]:.3f}", shown, meaning


def table_of_datasets(datasets: Mapping[str, Any]) -> list[list[str]]:
    """Heads, and a row of scores for each dataset; what is not defined stays empty."""
    heads = ["images", "images_without_foreground", "iou", "precision", "recall"]
    heads.append("false_area")
    rows = [
        [
            "" if value is None else f"{value:.3f}" if value % 1 else f"{value:g}"
            for value in (scores[head] for head in heads)
        ]
        for scores in datasets.values()
    ]
    names = [[name] for name in datasets]
    return [["dataset", *heads], *map(list.__add__, names, rows)]


def _curves(evaluation: Evaluation) -> dict[str, Any]:
    """Counts at each threshold, and the calibration's bins."""
    curve = evaluation.curve
    pixels, stated, true = evaluation.reliability.bins()
    return {
        "thresholds": curve.thresholds.tolist(),
        "true_positives": curve.true_positives.tolist(),
        "false_positives": curve.false_positives.tolist(),
        "foreground": curve.foreground,
        "background": curve.background,
        "calibration": {
            "pixels": pixels.tolist(),
            "stated_probability": stated.tolist(),
            "share_of_foreground": true.tolist(),
        },
    }


def _chosen(evaluation: Evaluation) -> dict[str, Sequence[int]]:
    """Numbers of the images to show; none twice."""
    ranked = evaluation.ranked()[::-1]
    best, worst = ranked[:_SHOWN], ranked[_SHOWN:][-_SHOWN:][::-1]
    left = ranked[_SHOWN : len(ranked) - len(worst)]
    start = max(0, (len(left) - _SHOWN) // 2)
    without = sorted(
        (i for i, image in enumerate(evaluation.images) if not image.foreground),
        key=lambda i: -_false_share(evaluation.images[i]),
    )
    return {
        "Best": best,
        "Median": left[start : start + _SHOWN],
        "Worst": worst,
        "Most found where there is nothing": without[:_SHOWN],
    }


def _false_share(image: ImageCounts) -> float:
    return false_area(counts_table([image]))


def _told(image: ImageCounts) -> str:
    """How well it was predicted."""
    if image.foreground:
        return f"IoU {image.iou:.3f}"
    return f"{_false_share(image):.1%} of it found, and there is nothing"


def _summary(record: Mapping[str, Any]) -> str:
    without = record["images_without_foreground"]
    return (
        f"{record['images']} images of {record['dataset']}"
        + (f", {without} of them without foreground" if without else "")
        + f"; step {record['step']}, {record['weights']} weights; {rule(record)}"
        + ("; mean with the mirror image" if record.get("flips") else "")
        + ". Intervals: 95%, from 1,000 data sets drawn"
        " from these images."
    )


def _table(record: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><td>{name}</td><td class="number">{value}</td>'
        f'<td class="number">{ends}</td><td>{html.escape(meaning)}</td></tr>'
        for name, value, ends, meaning in rows_of(record)
    )
    return (
        "<table><tr><th>score</th><th>value</th><th>95% interval</th><th></th></tr>"
        f"{rows}</table>"
    )


def _table_by_dataset(datasets: Mapping[str, Any]) -> str:
    """A row for each, if there are several."""
    if not datasets:
        return ""
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in table_of_datasets(datasets)
    )
    return f"<p>The datasets by themselves:</p><table>{rows}</table>"


def _table_of_images(record: Mapping[str, Any]) -> str:
    """Mean and quantiles of the images' own scores."""
    scores = record["per_image"]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in scores["iou"])
    rows = "".join(
        f"<tr><td>{name}</td>"
        + "".join(f'<td class="number">{value:.3f}</td>' for value in spread.values())
        + "</tr>"
        for name, spread in scores.items()
    )
    return f"<table><tr><th>of each image</th>{head}</tr>{rows}</table>"


def _picture(example: Example, predictor: Predictor, told: str) -> str:
    """Truth and prediction, side by side, and how good that is."""
    mask = example.mask[..., 0]
    photo = example.image.copy()
    photo[mask == 255] //= 2
    truth, found = (
        overlay_of(photo, each, predictor.class_names)
        for each in (mask, predictor(example.image))
    )
    both = PIL.Image.fromarray(np.concatenate([truth, found], axis=1))
    both.thumbnail((2 * _PICTURE_SIZE, _PICTURE_SIZE))
    buffer = io.BytesIO()
    both.save(buffer, "JPEG", quality=85)
    data = base64.b64encode(buffer.getvalue()).decode()
    name = html.escape(example.name)
    return (
        f'<figure><img alt="{name}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{name}: truth, prediction; {told}</figcaption></figure>"
    )


def _curve(evaluation: Evaluation) -> matplotlib.figure.Figure:
    curve = evaluation.curve
    found = curve.true_positives + curve.false_positives
    some = found > 0
    recall = curve.true_positives / max(curve.foreground, 1)
    precision = curve.true_positives[some] / found[some]
    figure, axes = _axes("recall", "precision")
    axes.plot(recall[some], precision, drawstyle="steps-pre")
    here = min(int(np.ceil(evaluation.threshold * 256)), int(some.nonzero()[0].max()))
    if evaluation.classes is None:
        axes.plot(recall[here], precision[here], "o", label="at the threshold")
        axes.legend(loc="lower left")
    axes.set_title("Precision and recall")
    return figure


def _calibration(evaluation: Evaluation) -> matplotlib.figure.Figure:
    count, stated, true = evaluation.reliability.bins()
    figure, axes = _axes("stated probability", "share that is foreground")
    axes.plot([0, 1], [0, 1], "--", color="grey")
    axes.plot(stated, true, "-")
    sizes = 10 + 140 * np.sqrt(count / max(count.max(initial=1), 1))
    axes.scatter(stated, true, sizes, alpha=0.5)
    axes.set_title("Calibration (area: root of the pixels)")
    return figure


def _axes(x: str, y: str) -> tuple[matplotlib.figure.Figure, Any]:
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.grid(alpha=0.3)
    return figure, axes


def _svg(figure: matplotlib.figure.Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue().partition("<svg")[2].join(["<svg", ""])
