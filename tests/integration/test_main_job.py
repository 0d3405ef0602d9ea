"""COCO's layout to pictures of cats found, by the commands of the README."""

import json
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import pytest

ROOT = pathlib.Path(__file__).parents[2]
TINY = [
    "--data.tile_size=108", "--data.batch_size=2", "--model.depth=2",
    "--model.base_filters=4", "--trainer.steps_per_loop=2",
]  # fmt: skip


def test_fit_resume_evaluate_predict(command, sample, tmp_path):
    coco, built = sample
    run = tmp_path / "run"
    fit = [
        "fit", "--config", ROOT / "configs" / "sample.yaml", "--run_dir", run,
        "--data.data_dir", built, *TINY, "--data.batch_size=4",
        "--model.base_filters=8", "--trainer.steps_per_loop=10",
    ]  # fmt: skip
    command("unet-train", *fit, "--trainer.max_steps=60")
    printed = command("unet-train", *fit, "--trainer.max_steps=120", "--resume")
    assert "from step 60" in printed

    scores = json.loads(command("unet-train", "evaluate", "--run_dir", run, "--json"))
    assert scores["images"] == 13
    # An unbroken run of so many steps has 0.81; all taken for cat, 0.40.
    assert 0.6 <= scores["iou"] <= scores["dice"] <= 1

    photos = sorted((coco / "val2017").glob("*.jpg"))[:3]
    output = tmp_path / "pictures"
    command("unet-train", "predict", "--run_dir", run, *photos, "--output", output)
    for photo in photos:
        mask = PIL.Image.open(output / f"{photo.stem}_mask.png")
        assert mask.size == PIL.Image.open(photo).size
        assert set(np.unique(np.asarray(mask))) <= {0, 255}
    assert list(run.glob("events.out.tfevents.*"))


def test_killed_run_resumes_bit_for_bit(command, sample, tmp_path):
    _, built = sample

    def arguments(name):
        return [
            "fit", "--config", ROOT / "configs" / "sample.yaml",
            "--run_dir", tmp_path / name, "--data.data_dir", built, *TINY,
            "--trainer.max_steps=40", "--trainer.checkpoint_every_steps=4",
            "--trainer.deterministic=true", "--resume",
        ]  # fmt: skip

    command("unet-train", *arguments("whole"))
    unet_train = pathlib.Path(sys.executable).parent / "unet-train"
    process = subprocess.Popen(
        [unet_train, *map(str, arguments("killed"))],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    checkpoints = tmp_path / "killed" / "checkpoints"
    deadline = time.monotonic() + 300
    while not list(checkpoints.glob("step_*")) and time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before its first checkpoint"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "model.keras").exists()
    printed = command("unet-train", *arguments("killed"))
    assert "from step" in printed

    program = (
        "import sys, keras, numpy as np\n"
        "one, other = (keras.saving.load_model(path) for path in sys.argv[1:])\n"
        "for a, b in zip(one.get_weights(), other.get_weights(), strict=True):\n"
        "    np.testing.assert_array_equal(a, b)\n"
    )
    models = [tmp_path / name / "model.keras" for name in ("whole", "killed")]
    command("python", "-c", program, *models)


def test_minimal_loop(command, sample):
    _, built = sample
    printed = command(
        "python", ROOT / "examples" / "minimal_loop.py", "--data_dir", built,
        "--steps=3", "--tile_size=108", "--depth=2", "--base_filters=2",
    )  # fmt: skip
    assert "step 3  loss" in printed
    assert "IoU" in printed


@pytest.mark.parametrize(
    "name", ["sample", "feral_cats", "coco_cats", "coco_cats_pretrained"]
)
def test_configs_are_valid_and_say_how_they_are_used(command, name):
    path = ROOT / "configs" / f"{name}.yaml"
    printed = command(
        "unet-train", "fit", "--config", path, "--run_dir=x", "--print_config"
    )
    assert "tile_size:" in printed
    header = path.read_text().split("\n\n")[0]
    assert f"--config configs/{name}.yaml" in header


def test_tiles_of_the_original_configuration_are_572_and_388():
    from jsonargparse import Namespace

    from unet_core import Geometry
    from unet_train.commands import fit

    options: Namespace = fit.parser().parse_args(
        [f"--config={ROOT / 'configs' / 'coco_cats.yaml'}", "--run_dir=x"]
    )
    assert options.data.tile_size == 572
    geometry = Geometry(options.model.depth, options.model.padding)
    assert geometry.output_size(572) == 388
    assert options.model.base_filters == 64
    assert options.model.norm == "batch"


def test_commands_of_the_readme_are_what_ci_runs():
    readme = (ROOT / "README.md").read_text()
    for session in ("demo", "tests"):
        lines = [
            line
            for line in readme.splitlines()
            if line.startswith("python3 -m venv ") and line.endswith(f" -s {session}")
        ]
        assert len(lines) == 1
