"""A run of version 0.1.0, of the commit before the modules moved into rooms.

It was made by `unet-train fit` on the discs of conftest.py: 40 steps of a net with
dropout, averages, clipping and weight decay, with BestModels, and evaluated. The same
version then went on to step 60; `resumed.json` has what came of it.
"""

import json
import pathlib
import tarfile

import pytest
import tensorflow as tf

from unet_train import Predictor
from unet_train.cli import main
from unet_train.losses import Tversky
from unet_train.registry import find_object

ARCHIVE = pathlib.Path(__file__).parent / "fixtures" / "run_of_0.1.0.tar.xz"


@pytest.fixture
def run_dir(tmp_path, data_dir):
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace("DATA_DIR", str(data_dir)))
    return tmp_path / "run"


def test_it_is_resumed(run_dir, capsys):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    expected = json.loads((run_dir / "resumed.json").read_text())
    arguments = [
        *("fit", "--config", str(run_dir / "config.yaml"), f"--run_dir={run_dir}"),
        *("--resume", "--trainer.max_steps=60"),
        "--callbacks+=unet_train.callbacks.TensorBoard",
    ]
    assert main(arguments) == 0
    assert "from step 40" in capsys.readouterr().out
    events = EventAccumulator(str(run_dir), {"tensors": 0}).Reload()
    costs = [float(tf.make_ndarray(e.tensor_proto)) for e in events.Tensors("cost")]
    # Other processors round otherwise, which grows with the steps.
    assert costs[:5] == pytest.approx(expected["costs"][:5], rel=0.01)
    assert costs == pytest.approx(expected["costs"], rel=0.2)
    scores = json.loads((run_dir / "metrics.json").read_text())
    assert scores["step"] == 60
    assert scores["iou"] == pytest.approx(expected["scores"]["iou"], abs=0.03)
    # The best model of the old version is compared with those of the new one.
    (best,) = (run_dir / "best").glob("step_*/metrics.json")
    assert json.loads(best.read_text())["iou"] > 0.8


@pytest.mark.parametrize("weights", ["last", "best"])
def test_it_is_evaluated(run_dir, capsys, weights):
    folder = run_dir if weights == "last" else run_dir / "best" / "step_00000020"
    expected = json.loads((folder / "metrics.json").read_text())
    arguments = [f"--run_dir={run_dir}", f"--weights={weights}", "--json"]
    assert main(["evaluate", *arguments]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["threshold"] == expected["threshold"]
    assert scores["step"] == expected["step"]
    if weights == "last":  # The best was scored on two images of three.
        assert scores["iou"] == pytest.approx(expected["iou"], abs=0.002)


def test_its_evaluation_is_compared(run_dir, capsys):
    assert main(["compare", str(run_dir), str(run_dir)]) == 0
    assert "0.847" in capsys.readouterr().out


def test_it_is_exported_and_predicts(run_dir, tmp_path, capsys):
    output = tmp_path / "exported"
    assert main(["export", f"--run_dir={run_dir}", f"--output={output}"]) == 0
    assert (output / "model.keras").exists()
    assert Predictor.load(run_dir).threshold == 0.9921875


def test_class_paths_of_its_configs_are_found():
    assert find_object("unet_train.losses.Tversky") is Tversky
