"""Everything once on the device of this machine: `nox -s gpu`, some 8 minutes on a GPU.

    python benchmarks/gpu.py [--steps 200]

On the embedded sample: training, resuming to the bit, all precisions, XLA, evaluation,
prediction, export, the doctor, and the speed of the step. Prints one JSON object: what
passed, how long it took, and the end of what was printed where it did not. Ends with
status 1 if anything failed. Without a GPU the same is done on the CPU, in fewer steps.
"""

import argparse
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from typing import Any

import h5py
import tensorflow as tf

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Of a command that failed so many characters are told.
_TOLD = 2000
# At the original setting on a GPU, at a small one on a CPU.
_LARGE = ["--tile_size=572", "--base_filters=64", "--depth=4", "--batch_size=8"]
_SMALL = ["--tile_size=124", "--base_filters=8", "--steps=2", "--turns=1"]


class FailedError(Exception):
    """A check did not pass; the text tells why."""


def main() -> int:
    """Does all checks, prints the object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, help="of the long run; 300 on a GPU")
    gpus = tf.config.list_physical_devices("GPU")
    steps = parser.parse_args().steps or (300 if gpus else 30)
    record: dict[str, Any] = {
        "benchmark": "gpu",
        "devices": [
            {key: str(value) for key, value in details.items()}
            for details in map(tf.config.experimental.get_device_details, gpus)
        ],
        "tensorflow": tf.__version__,
        "steps": steps,
        "checks": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, check in checks(pathlib.Path(folder), steps, bool(gpus)).items():
            start = time.perf_counter()
            try:
                found = {"passed": True, **(check() or {})}
            except FailedError as error:
                found = {"passed": False, "fault": str(error)}
            found["seconds"] = round(time.perf_counter() - start, 1)
            record["checks"][name] = found
            print(f"{name}: {found}", file=sys.stderr, flush=True)
    print(json.dumps(record))
    return 0 if all(each["passed"] for each in record["checks"].values()) else 1


# All of it that is done on the device.
_AUGMENTED = [
    "--data.rotation=15", "--data.elastic=5", "--data.color_jitter=0.3",
    "--data.blur=1", "--data.cutout=0.3",
]  # fmt: skip


def checks(
    work: pathlib.Path, steps: int, on_gpu: bool
) -> dict[str, Callable[[], dict[str, Any] | None]]:
    """By name, in the order in which they are done."""
    coco, data, run = work / "coco", work / "tfds", work / "run"
    few = max(4, steps // 10)

    def build() -> None:
        call("coco-cats", "sample", coco)
        call("coco-cats", "build", "--manual_dir", coco, "--data_dir", data)

    def fit(name: str, steps: int, *options: str) -> dict[str, Any]:
        config = ["--config", ROOT / "configs" / "sample.yaml", "--data.data_dir", data]
        length = f"--trainer.max_steps={steps}"
        call(
            "unet-train", "fit", *config, "--run_dir", work / name, length,
            "--trainer.deterministic=false", *options,
        )  # fmt: skip
        scores = json.loads((work / name / "metrics.json").read_text())
        return {key: round(scores[key], 4) for key in ("loss", "iou", "seconds")}

    def resume() -> None:
        # A schedule that ends with the run would make the first half another one.
        exact = ["--trainer.deterministic=true", "--task.schedule=constant"]
        fit("whole", 6, *exact)
        fit("parts", 3, *exact)
        fit("parts", 6, *exact, "--resume")
        if weights_of(work / "whole") != weights_of(work / "parts"):
            raise FailedError("the weights of the resumed run are others")

    def evaluate() -> dict[str, Any]:
        told = call("unet-train", "evaluate", "--run_dir", run, "--json")
        return {"iou": json.loads(told.strip().splitlines()[-1])["iou"]}

    def predict() -> None:
        call("unet-train", "predict", "--run_dir", run, coco / "val2017",
             "--output", work / "found")  # fmt: skip
        if not list((work / "found").glob("**/*_mask.png")):
            raise FailedError("no mask was written")

    def export() -> None:
        call("unet-train", "export", "--run_dir", run, "--output", work / "exported",
             "--formats", "saved_model", "keras")  # fmt: skip

    def doctor() -> None:
        call("unet-train", "doctor", "--run_dir", run, allowed=(0, 1))

    def speed() -> dict[str, Any]:
        told = {}
        for precision in ("float32", *(["mixed_bfloat16"] if on_gpu else [])):
            size = _LARGE if on_gpu else _SMALL
            script = ROOT / "benchmarks" / "train_step.py"
            only = ["--only", "ours", "ours_plain_layers", "model.fit"]
            text = call(
                sys.executable, script, *size, *only, f"--precision={precision}"
            )
            told[precision] = json.loads(text.strip().splitlines()[-1])
        return told

    return {
        "build": build,
        "fit": lambda: fit("run", steps),
        "resume_to_the_bit": resume,
        "float16": lambda: fit("half", few, "--trainer.precision=mixed_float16"),
        "bfloat16": lambda: fit("brain", few, "--trainer.precision=mixed_bfloat16"),
        "augmented": lambda: fit("augmented", few, *_AUGMENTED),
        "xla": lambda: fit("xla", few, "--trainer.jit_compile=true"),
        "without_xla": lambda: fit("plain", few, "--trainer.jit_compile=false"),
        "evaluate": evaluate,
        "predict": predict,
        "export": export,
        "doctor": doctor,
        "speed": speed,
    }


def call(*words: object, allowed: tuple[int, ...] = (0,)) -> str:
    """Runs a command; what it printed.

    Raises:
      FailedError: It ended with another status than those allowed.
    """
    line = [str(each) for each in words]
    # The commands that were installed beside this Python.
    beside = pathlib.Path(sys.executable).with_name(line[0])
    line[0] = str(beside) if beside.exists() else shutil.which(line[0]) or line[0]
    done = subprocess.run(
        line,
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=False,
    )
    if done.returncode not in allowed:
        text = f"{' '.join(line)} ended with status {done.returncode}"
        raise FailedError(f"{text}: {(done.stdout + done.stderr)[-_TOLD:]}")
    return done.stdout


def weights_of(run: pathlib.Path) -> dict[str, bytes]:
    """Those of the finished model, by their names in its file."""
    weights: dict[str, bytes] = {}

    def note(name: str, entry: Any) -> None:
        if isinstance(entry, h5py.Dataset):
            weights[name] = entry[()].tobytes()

    with zipfile.ZipFile(run / "model.keras") as archive:
        file = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(file) as content:
        content.visititems(note)
    return weights


if __name__ == "__main__":
    sys.exit(main())
