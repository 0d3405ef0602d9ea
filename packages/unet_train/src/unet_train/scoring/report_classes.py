"""The part of a report that tells one class from another."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import matplotlib.figure

_SCORES = (
    *("iou", "dice", "precision", "recall", "boundary_iou"),
    *("average_precision", "calibration_error"),
)


def table_of_classes(
    record: Mapping[str, Any], names: Sequence[str] = ("iou", "precision", "recall")
) -> list[list[str]]:
    """Heads, and a row of scores for each class; what is not defined stays empty."""
    rows = [["class", "images", "of pixels", "iou, 95% interval", *names]]
    for name, scores in record["classes"].items():
        ends = record["intervals"].get(f"iou/{name}")
        shown = f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else ""
        values = [scores[score] for score in names]
        cells = ["" if value is None else f"{value:.3f}" for value in values]
        images = str(scores["images"])
        rows.append([name, images, f"{scores['share']:.2%}", shown, *cells])
    return rows


def html_of_classes(record: Mapping[str, Any]) -> str:
    """The same as a table; nothing for one class."""
    if "classes" not in record:
        return ""
    head, *rows = table_of_classes(record, _SCORES)
    heads = "".join(f"<th>{html.escape(each)}</th>" for each in head)
    lines = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return (
        "<p>Each class by itself; the scores above are of whatever class against"
        f" background, but for mean_iou:</p><table><tr>{heads}</tr>{lines}</table>"
    )


def rule(record: Mapping[str, Any]) -> str:
    """When a pixel is of a class."""
    if "threshold" not in record:
        return "a pixel is of its most probable class"
    return (
        f"a pixel is foreground from a probability of {record['threshold']:.3g}"
        f" ({record['threshold_from']})"
    )


def draw_matrix(
    matrix: Sequence[Sequence[int]], names: Sequence[str]
) -> matplotlib.figure.Figure:
    """The confusion matrix as a picture: of each true class, what it was taken for."""
    import matplotlib.figure

    counts = np.asarray(matrix)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    labels = ["background", *names]
    side = max(4.0, 1.5 + 0.6 * len(labels))
    figure = matplotlib.figure.Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    places = range(len(labels))
    axes.set_xticks(places, labels, rotation=45, ha="right")
    axes.set_yticks(places, labels)
    axes.set(xlabel="predicted", ylabel="true", title="What each class was taken for")
    if len(labels) <= 20:
        for row, column in np.ndindex(*shares.shape):
            share = shares[row, column]
            colour = "white" if share > 0.5 else "black"
            axes.text(
                column, row, f"{share:.1%}", ha="center", va="center", color=colour
            )
    return figure
