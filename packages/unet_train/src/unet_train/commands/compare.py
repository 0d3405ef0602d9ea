"""`unet-train compare`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

import jsonargparse

HELP = "set the scores of several runs side by side"


def parser(arguments: Sequence[str] = ()) -> jsonargparse.ArgumentParser:
    """The runs."""
    compare = jsonargparse.ArgumentParser(
        description=(
            "Set runs that were evaluated on the same images side by side, with 95%"
            " intervals of the differences to the first."
        )
    )
    compare.add_argument("runs", type=str, nargs="+", help="folders of evaluated runs")
    compare.add_argument("--json", action="store_true", help="print one JSON object")
    return compare


def run(options: jsonargparse.Namespace) -> int:
    """Prints the table."""
    from unet_train.scoring.compare import compare, read_evaluation

    if len(options.runs) < 2:
        raise ValueError(
            f"One run has nothing to be compared with. Received: {options.runs[0]}."
            " Give two or more."
        )
    records = [read_evaluation(run) for run in options.runs]
    rows = compare(records)
    if options.json:
        print(json.dumps({row.score: dataclasses.asdict(row) for row in rows}))
        return 0
    import rich.console
    import rich.table

    flips = [" (--flips)" if record.get("flips") else "" for record in records]
    table = rich.table.Table(
        "score", *map("".join, zip(options.runs, flips, strict=True))
    )
    for row in rows:
        cells = [f"{row.values[0]:.3f}"]
        for value, difference, (low, high) in zip(
            row.values[1:], row.differences[1:], row.intervals[1:], strict=True
        ):
            sure = " *" if low > 0 or high < 0 else ""
            cells.append(
                f"{value:.3f}  {difference:+.3f} [{low:+.3f}, {high:+.3f}]{sure}"
            )
        table.add_row(row.score, *cells)
    rich.console.Console().print(table)
    print("* The 95% interval of the difference to the first run leaves out 0.")
    return 0
