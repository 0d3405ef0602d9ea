"""Everything once on the device of this machine: `nox -s gpu`, some 8 minutes on a GPU.

    python benchmarks/gpu.py [--steps 200] [--on_cpu]

On the embedded sample: training, resuming to the bit, all precisions, XLA, evaluation,
prediction, export, the doctor, tiles against the whole pass, and the speed of the step,
with depthwise convolutions too. Prints one JSON object: what passed, how long it took,
and the end of what was printed where it did not. Ends with status 1 if anything failed,
or if TensorFlow sees no GPU; with `--on_cpu` the same is done there, in fewer steps.
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
# EfficientNet's convolutions are depthwise, which were slow in float16 once.
_DEPTHWISE = ["--encoder=efficientnet_lite0", "--freeze_encoder"]
_DEPTHWISE_LARGE = [*_DEPTHWISE, "--tile_size=320", "--batch_size=12", "--steps=4"]
_DEPTHWISE_SMALL = [*_DEPTHWISE, "--tile_size=64", "--steps=1", "--turns=1"]
# The sample is learnt in 200 steps.
_LEAST_IOU = 0.7

_TILES = """
import numpy as np
import unet_core
model = unet_core.build_unet(unet_core.UNetConfig(base_filters=16))
image = np.random.default_rng(0).integers(0, 256, (700, 600, 3), np.uint8)
whole, tiles = (
    unet_core.predict_image(model, image, tile_size=size) for size in (None, 252)
)
print(np.abs(whole - tiles).max())
"""
_DIFFERENCE = 1e-5


class FailedError(Exception):
    """A check did not pass; the text tells why."""


def main() -> int:
    """Does all checks, prints the object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, help="of the long run; 300 on a GPU")
    parser.add_argument("--on_cpu", action="store_true", help="where there is no GPU")
    options = parser.parse_args()
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus and not options.on_cpu:
        print("TensorFlow sees no GPU: see to the driver, or add --on_cpu.")
        return 1
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    steps = options.steps or (300 if gpus else 30)
    record: dict[str, Any] = {
        "benchmark": "gpu",
        "devices": [
            {key: str(value) for key, value in each.items()} for each in details
        ],
        "tensorflow": tf.__version__,
        "steps": steps,
        "checks": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        named = checks(pathlib.Path(folder), steps, precisions(details), bool(gpus))
        for name, check in named.items():
            start = time.perf_counter()
            try:
                found = {"passed": True, **(check() or {})}
            except Exception as error:  # The other checks are worth knowing, too.
                found = {"passed": False, "fault": f"{type(error).__name__}: {error}"}
            found["seconds"] = round(time.perf_counter() - start, 1)
            record["checks"][name] = found
            print(f"{name}: {found}", file=sys.stderr, flush=True)
    print(json.dumps(record))
    return 0 if all(each["passed"] for each in record["checks"].values()) else 1


def precisions(details: list[dict[str, Any]]) -> list[str]:
    """In which the speed is measured: float32, and what `auto` takes besides."""
    of_each = [tuple(each.get("compute_capability", (0, 0))) for each in details]
    if not of_each or min(of_each) < (7, 0):
        return ["float32"]
    return ["float32", f"mixed_{'b' if min(of_each) >= (8, 0) else ''}float16"]


# All of it that is done on the device.
_AUGMENTED = [
    "--data.rotation=15", "--data.elastic=5", "--data.color_jitter=0.3",
    "--data.blur=1", "--data.cutout=0.3",
]  # fmt: skip


def checks(
    work: pathlib.Path, steps: int, in_precisions: list[str], on_gpu: bool
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

    def learn() -> dict[str, Any]:
        scores = fit("run", steps)
        if on_gpu and scores["iou"] < _LEAST_IOU:
            raise FailedError(f"it learnt too little: {scores}")
        return scores

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
        # What learnt in 30 steps it rightly finds bad.
        call("unet-train", "doctor", "--run_dir", run, allowed=(0, 0 if on_gpu else 1))

    def tiles() -> dict[str, Any]:
        difference = float(call(sys.executable, "-c", _TILES).split()[-1])
        if difference > _DIFFERENCE:
            raise FailedError(f"tiles differ from the whole pass by {difference:g}")
        return {"difference": difference}

    def measure(precision: str, size: list[str], *names: str) -> dict[str, Any]:
        script = ROOT / "benchmarks" / "train_step.py"
        only = ["--only", "ours", *names, f"--precision={precision}"]
        text = call(sys.executable, script, *size, *only)
        return dict(json.loads(text.strip().splitlines()[-1]))

    def speed() -> dict[str, Any]:
        size, others = _LARGE if on_gpu else _SMALL, ["ours_plain_layers", "model.fit"]
        return {each: measure(each, size, *others) for each in in_precisions}

    def depthwise() -> dict[str, Any]:
        size = _DEPTHWISE_LARGE if on_gpu else _DEPTHWISE_SMALL
        wanted = [*in_precisions, *(["mixed_float16"] if on_gpu else [])]
        images = {
            each: measure(each, size)["images_a_second"]["ours"]
            for each in dict.fromkeys(wanted)
        }
        if min(images.values()) < images["float32"] / 2:
            raise FailedError(f"16 bits are slower by far: {images} images a second")
        return {"images_a_second": images}

    return {
        "build": build,
        "fit": learn,
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
        "tiles": tiles,
        "speed": speed,
        "depthwise": depthwise,
    }


def call(*words: object, allowed: tuple[int, ...] = (0,)) -> str:
    """Runs a command; what it printed.

    Raises:
      FailedError: It ended with another status than those allowed.
    """
    line = [str(each) for each in words]
    # The commands that were installed beside this Python.
    beside = pathlib.Path(sys.executable).parent / line[0]
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
