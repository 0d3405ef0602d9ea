"""What a run folder names is taken only if it is a part of training."""

import dataclasses

import pytest
import yaml

from unet_train.doctor.configuration import is_run, network_of_run, options_of_run
from unet_train.options import DataOptions, TaskOptions


@pytest.fixture
def make_run(tmp_path):
    def make(**task):
        config = {
            "data": dataclasses.asdict(DataOptions()),
            "model": {"depth": 2},
            "task": {**dataclasses.asdict(TaskOptions()), **task},
            "callbacks": [{"class_path": "os.abort"}],
        }
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        return tmp_path

    return make


def test_options_by_their_groups(make_run, tmp_path):
    assert not is_run(tmp_path)
    lion = {"class_path": "keras.optimizers.Lion"}
    run_dir = make_run(optimizer=lion, ema=0.5)
    assert is_run(run_dir)
    options = options_of_run(run_dir)
    assert (options["model.depth"], options["task.ema"]) == (2, 0.5)
    assert options["task.optimizer"] == lion
    assert {name.split(".")[0] for name in options} == {"data", "model", "task"}
    assert network_of_run(run_dir) is None


@pytest.mark.parametrize("path", ["os.system", "pathlib.Path", "keras.layers.Layer"])
def test_what_is_no_part_is_refused(make_run, path):
    run_dir = make_run(loss={"class_path": path})
    text = f"names {path} as its `task.loss`, which is none. If you trust it, give"
    with pytest.raises(ValueError, match=text):
        options_of_run(run_dir)
    with pytest.raises(ValueError, match=text):
        options_of_run(run_dir, ["optimizer"])
    assert options_of_run(run_dir, ["loss"])["task.loss"] == {"class_path": path}
