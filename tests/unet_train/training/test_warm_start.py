"""Runs that begin with the weights of another one."""

import contextlib
import json
import shutil

import numpy as np
import pytest
import yaml

from unet_train import Callback, Trainer
from unet_train.callbacks import BestModels, Progress
from unet_train.cli import main
from unet_train.runs.load import load_model


class BegunError(Exception):
    """A run was prepared, which is all that was to be seen."""


class Begin(Callback):
    """Notes what a run begins with."""

    def __init__(self, *, trains):
        self.trains = trains

    def on_fit_start(self, run):
        task = run.task
        self.step, self.origin = run.step, run.origin
        self.weights = [weight.numpy() for weight in task.model.weights]
        self.averages = [average.numpy() for average in task.averages]
        self.iterations = int(task.optimizer.iterations)
        if not self.trains:
            raise BegunError


@pytest.fixture
def fit(tmp_path, make_task, make_data):
    def fit(run_dir, *, init_from=None, resume=False, trains=False, model=None, **task):
        begin = Begin(trains=trains)
        trainer = Trainer(
            tmp_path / run_dir, callbacks=[Progress(), begin], max_steps=2
        )
        with contextlib.suppress(BegunError):
            trainer.fit(
                make_task({"norm": "batch", **(model or {})}, **task), make_data(),
                resume=resume, init_from=init_from,
            )  # fmt: skip
        return begin

    return fit


@pytest.fixture(scope="module")
def source(tmp_path_factory, data_dir):
    """A run with averages, a best model and a checkpoint after that."""
    from unet_core import UNetConfig, build_unet
    from unet_train import SegmentationData, SegmentationTask

    run_dir = tmp_path_factory.mktemp("source") / "run"
    model = build_unet(UNetConfig(depth=1, base_filters=4, norm_momentum=0.5))
    task = SegmentationTask(model, learning_rate=0.05, ema=0.5)
    data = SegmentationData(
        "discs", data_dir=str(data_dir), tile_size=30, batch_size=2, holdout=0
    )
    trainer = Trainer(
        run_dir, callbacks=[BestModels(keep=9)], max_steps=6, eval_every_steps=2
    )
    trainer.fit(task, data)
    return run_dir


def assert_same(weights, model):
    for weight, expected in zip(weights, model.weights, strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_a_run_begins_with_the_averages_of_another(fit, source, tmp_path, capsys):
    begin = fit("run", init_from=source, ema=0.9)
    assert_same(begin.weights, load_model(source))
    assert_same(begin.averages, load_model(source))
    assert (begin.step, begin.iterations) == (0, 0)
    count = len(begin.weights)
    assert begin.origin == f"{count} of {count} weights of {source}"
    assert f"; from {begin.origin}; run folder" in capsys.readouterr().out
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["init_from"] == str(source)


def test_a_run_that_is_not_done_a_best_model_and_a_file(fit, source, tmp_path):
    shutil.copytree(source, tmp_path / "torn")
    (tmp_path / "torn" / "model.keras").unlink()
    begin = fit("from_checkpoint", init_from=tmp_path / "torn")
    assert_same(begin.weights, load_model(source))
    best = sorted((source / "best").iterdir())[0]
    begin = fit("from_best", init_from=best)
    assert_same(begin.weights, load_model_of(best))
    begin = fit("from_file", init_from=str(source / "model.keras"))
    assert_same(begin.weights, load_model(source))
    assert any(
        not np.array_equal(one, other)
        for one, other in zip(begin.weights, load_model_of(best).weights, strict=True)
    )


def load_model_of(folder):
    import keras

    return keras.saving.load_model(folder / "model.keras")


def test_a_checkpoint_counts_for_more(fit, source, tmp_path):
    """The source may be gone then, and the record of it stays."""
    moved = tmp_path / "source"
    shutil.copytree(source, moved)
    fit("run", init_from=moved, trains=True)
    shutil.rmtree(moved)
    for given in (moved, None, tmp_path / "nothing"):
        model = load_model(tmp_path / "run")
        begin = fit("run", resume=True, init_from=given)
        assert begin.step == 2
        assert_same(begin.weights, model)
        config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
        assert config["init_from"] == str(moved)


def test_resume_where_there_is_nothing_yet_begins_with_it(fit, source):
    begin = fit("run", init_from=source, resume=True)
    assert_same(begin.weights, load_model(source))


def test_a_source_that_does_not_do_leaves_no_run(fit, source, tmp_path):
    for init_from, model, fault in (
        (tmp_path / "nothing", None, "nothing is neither the folder of a run"),
        (source, {"base_filters": 3}, "No weight of .* fits the model"),
    ):
        with pytest.raises(ValueError, match=fault):
            fit("run", init_from=init_from, model=model)
        assert not (tmp_path / "run").exists()


def test_commands(source, data_dir, tmp_path, capsys):
    arguments = [
        "--data.name=discs", f"--data.data_dir={data_dir}", "--data.tile_size=30",
        "--data.batch_size=2", "--model.depth=1", "--model.base_filters=4",
    ]  # fmt: skip
    run_dir = f"--run_dir={tmp_path / 'run'}"
    fit = ["fit", run_dir, *arguments, "--trainer.max_steps=1"]
    assert main([*fit, f"--init_from={tmp_path}"]) == 2
    assert "nor a .keras file that is there" in capsys.readouterr().err
    assert main([*fit, f"--init_from={source}"]) == 0
    assert f"weights of {source}; run folder" in capsys.readouterr().out
    config = tmp_path / "run" / "config.yaml"
    assert yaml.safe_load(config.read_text())["init_from"] == str(source)
    # It is a configuration for the next run, and for the other commands.
    again = ["fit", "--config", str(config), f"--run_dir={tmp_path / 'again'}"]
    assert main(again) == 0
    assert f"weights of {source}" in capsys.readouterr().out
    find_lr = ["find-lr", "--config", str(config), "--steps=10", "--json"]
    rates = []
    for init_from in ([], ["--init_from=null"]):
        assert main([*find_lr, *init_from]) == 0
        rates.append(json.loads(capsys.readouterr().out)["losses"][0])
    assert rates[0] != rates[1]
