"""Runs at an address, on a storage in memory of a name of its own."""

import errno
import logging
import os
import pathlib
import shutil
import signal
import types

import fsspec
import numpy as np
import PIL.Image
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from unet_train import Callback, Predictor, Trainer
from unet_train.cli import main
from unet_train.runs import remote
from unet_train.runs.checkpoint import Checkpoints
from unet_train.runs.load import load_model
from unet_train.runs.remote import Storage, to_read
from unet_train.training import devices, mirror
from unet_train.training.signals import Interrupted

SMALL = [
    "--data.name=discs", "--data.tile_size=30", "--data.batch_size=2",
    "--model.depth=1", "--model.base_filters=2", "--trainer.steps_per_loop=1",
    "--task.schedule=constant", "--trainer.checkpoint_every_steps=2",
]  # fmt: skip


class Cloud(MemoryFileSystem):
    """Remembers what was written and removed, and fails when it is told to."""

    protocol = "cloud"
    log: list[tuple[str, str]] = []
    fails_at: str | None = None

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("cloud://"))

    def _open(self, path, mode="rb", **options):
        if mode == "wb":
            self.log.append(("write", path))
            if self.fails_at and self.fails_at in path:
                raise PermissionError(errno.EACCES, "no right to write", path)
        return super()._open(path, mode, **options)

    def rm_file(self, path):
        self.log.append(("remove", self._strip_protocol(path)))
        return super().rm_file(path)


fsspec.register_implementation("cloud", Cloud, clobber=True)


@pytest.fixture(autouse=True)
def cloud():
    """An empty storage."""
    remote._reader.cache_clear()
    Cloud.store.clear()
    Cloud.pseudo_dirs[:] = [""]
    Cloud.log.clear()
    Cloud.fails_at = None
    return Cloud()


def names(cloud):
    """All files in it."""
    return {path.removeprefix("/cats/run/") for path in cloud.store}


def make(folder, *paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)


def fit(data_dir, run_dir, *options):
    return main(
        ["fit", *SMALL, f"--run_dir={run_dir}", f"--data.data_dir={data_dir}", *options]
    )


def test_a_run_at_an_address_is_the_run_of_a_folder(cloud, tmp_path, data_dir):
    assert fit(data_dir, tmp_path / "run", "--trainer.max_steps=5") == 0
    assert fit(data_dir, "cloud://cats/run", "--trainer.max_steps=3") == 0
    assert "checkpoints/step_00000003/state.json" in names(cloud)
    more = ["--trainer.max_steps=5", "--resume"]
    assert fit(data_dir, "cloud://cats/run", *more) == 0
    expected = {
        path.relative_to(tmp_path / "run").as_posix()
        for path in (tmp_path / "run").rglob("*")
        if path.is_file()
    }
    found = {path for path in names(cloud) if "/" not in path}
    assert {path for path in found if "events" not in path} == {
        path for path in expected if "/" not in path and "events" not in path
    }
    assert {path.split("/")[1] for path in names(cloud) - found} == {
        "step_00000003", "step_00000004", "step_00000005"
    }  # fmt: skip
    assert any("events" in path for path in found)
    one, other = load_model(tmp_path / "run"), load_model("cloud://cats/run")
    for mine, theirs in zip(one.weights, other.weights, strict=True):
        np.testing.assert_array_equal(mine.value, theirs.value)


def test_a_run_that_is_there_is_not_overwritten(cloud, data_dir, capsys):
    assert fit(data_dir, "cloud://cats/run", "--trainer.max_steps=2") == 0
    before = dict(cloud.store)
    assert fit(data_dir, "cloud://cats/run", "--trainer.max_steps=2") == 2
    told = capsys.readouterr()
    assert "cloud://cats/run holds a run already, at step 2" in told.err
    assert "run folder cloud://cats/run\n" in told.out
    assert "model in cloud://cats/run/model.keras" in told.out
    assert cloud.store == before


def test_commands_read_a_run_at_an_address(cloud, tmp_path, data_dir, capsys):
    assert fit(data_dir, "cloud://cats/run", "--trainer.max_steps=2") == 0
    PIL.Image.new("RGB", (40, 30), (200, 40, 40)).save(tmp_path / "a.png")
    capsys.readouterr()
    for run in ("cloud://cats/run", "cloud://cats/run/"):
        arguments = ["evaluate", f"--run_dir={run}"]
        assert main(arguments) == 2
        assert "Give one with --output" in capsys.readouterr().err
        assert main([*arguments, f"--output={tmp_path / 'scores'}"]) == 0
    arguments = ["predict", "--model=cloud://cats/run/model.keras"]
    arguments += [f"--output={tmp_path / 'found'}", str(tmp_path / "a.png")]
    assert main(arguments) == 0
    assert (tmp_path / "found" / "a_mask.png").exists()
    arguments = ["export", "--run_dir=cloud://cats/run", "--formats", "keras"]
    assert main([*arguments, f"--output={tmp_path / 'exported'}"]) == 0
    arguments = ["--init_from=cloud://cats/run", "--trainer.max_steps=1"]
    assert fit(data_dir, tmp_path / "next", *arguments) == 0
    photo = np.asarray(PIL.Image.open(tmp_path / "a.png"))
    expected = Predictor(load_model("cloud://cats/run")).probabilities(photo)
    found = Predictor.load("cloud://cats/run").probabilities(photo)
    np.testing.assert_array_equal(found, expected)
    # Logs are not read for it.
    assert not list(to_read("cloud://cats/run").glob("**/events*"))


def test_what_is_read_is_what_lies_there_now(cloud, tmp_path):
    run, at = tmp_path / "run", "checkpoints/step_0000000"
    storage = Storage("cloud://cats/run")
    make(run, "config.yaml", f"{at}1/tensors.index", f"{at}1/state.json")
    storage.push(run)
    folder = to_read("cloud://cats/run")
    before = (folder / "config.yaml").stat().st_mtime_ns
    shutil.rmtree(run / "checkpoints")
    make(run, f"{at}2/tensors.index", f"{at}2/state.json")
    storage.push(run)
    assert to_read("cloud://cats/run") == folder
    assert Checkpoints(folder / "checkpoints", keep=1).latest().name[-1] == "2"
    assert not (folder / f"{at}1").exists()
    assert (folder / "config.yaml").stat().st_mtime_ns == before  # Not copied again.
    (run / "config.yaml").write_text("another")
    storage.push(run)
    assert (to_read("cloud://cats/run") / "config.yaml").read_text() == "another"


def test_nothing_at_an_address(data_dir, capsys):
    assert main(["evaluate", "--run_dir=cloud://cats/none", "--output=x"]) == 2
    assert "Nothing lies at cloud://cats/none" in capsys.readouterr().err
    assert main(["doctor", "--run_dir=cloud://cats/none"]) == 2
    assert "Nothing lies at cloud://cats/none" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["nowhere://cats/run", "gs://cats/run"])
def test_a_storage_that_cannot_be_reached_is_named(data_dir, capsys, address):
    assert fit(data_dir, address, "--trainer.max_steps=1") == 2
    told = capsys.readouterr().err
    assert f"{address} cannot be reached: " in told
    assert "`pip install gcsfs`" in told
    assert not pathlib.Path(address.split("/")[0]).exists()


def test_a_checkpoint_counts_from_its_state_on(cloud, tmp_path):
    run = tmp_path / "run"
    old, new = "checkpoints/step_00000001", "checkpoints/step_00000002"
    inside = ("tensors.index", "state.json", "tensors.data-00000-of-00001")
    make(run, "config.yaml", *(f"{old}/{name}" for name in inside))
    storage = Storage("cloud://cats/run")
    storage.push(run)
    assert cloud.log[-1] == ("write", f"/cats/run/{old}/state.json")
    # Half of what is new, which a kill left, is not taken back.
    make(run, *(f"{new}/{name}" for name in inside))
    cloud.__class__.fails_at = f"{new}/state.json"
    with pytest.raises(OSError, match=r"cannot be written: Perm.*right"):
        storage.push(run)
    again, resumed = tmp_path / "again", Storage("cloud://cats/run")
    assert resumed.fetch(again) == 6
    assert sorted(path.name for path in (again / "checkpoints").iterdir()) == [
        "step_00000001"
    ]
    assert (again / old / "state.json").read_text() == f"{old}/state.json"
    # What was missing comes with the next push, and that only.
    cloud.__class__.fails_at = None
    cloud.log.clear()
    storage.push(run)
    assert cloud.log == [("write", f"/cats/run/{new}/state.json")]
    # A checkpoint that is gone: first it counts no more.
    for name in inside:
        (run / old / name).unlink()
    cloud.log.clear()
    storage.push(run)
    assert cloud.log[0] == ("remove", f"/cats/run/{old}/state.json")
    assert len(cloud.log) == 3
    assert not any(old in name for name in names(cloud))


def test_a_model_counts_from_its_scores_on(cloud, tmp_path):
    run, best = tmp_path / "run", "best/step_00000001"
    make(run, *(f"{best}/{name}" for name in ("metrics.json", "model.keras")))
    make(run, "checkpoints/step_00000002/state.json")
    storage = Storage("cloud://cats/run")
    storage.push(run)
    order = [path.rsplit("/", 1)[1] for _, path in cloud.log]
    assert order == ["model.keras", "metrics.json", "state.json"]
    # Without its scores, which a kill may leave, it is not taken back, but removed.
    cloud.rm_file(f"/cats/run/{best}/metrics.json")
    resumed, again = Storage("cloud://cats/run"), tmp_path / "again"
    resumed.fetch(again)
    assert not (again / best).exists()
    resumed.push(again)
    assert names(cloud) == {"checkpoints/step_00000002/state.json"}
    cloud.pipe(f"/cats/run/{best}/metrics.json", b"")
    cloud.pipe(f"/cats/run/{best}/model.keras", b"")
    shutil.rmtree(run / "best")
    cloud.log.clear()
    storage.push(run)
    assert [path.rsplit("/", 1)[1] for _, path in cloud.log] == [
        "metrics.json", "model.keras"
    ]  # fmt: skip


def test_what_is_copied(cloud, tmp_path):
    run = tmp_path / "run"
    make(run, "config.yaml", "best/step_00000001/metrics.json", "partial.model.keras")
    make(run, "checkpoints/.step_00000001.partial/tensors.index")
    cloud.pipe("/cats/run/notes.txt", b"of somebody else")
    storage = Storage("cloud://cats/run")
    storage.push(run)
    expected = {"config.yaml", "best/step_00000001/metrics.json", "notes.txt"}
    assert names(cloud) == expected
    cloud.log.clear()
    storage.push(run)
    assert cloud.log == []
    (run / "config.yaml").write_text("another")
    storage.push(run)
    assert cloud.log == [("write", "/cats/run/config.yaml")]
    assert cloud.cat("/cats/run/config.yaml") == b"another"
    other = Storage("cloud://cats/run")
    other.fetch(tmp_path / "other")
    cloud.log.clear()
    other.push(tmp_path / "other")  # It knows what it fetched.
    assert cloud.log == []


class Kept:
    """A place for the run's folder that the test knows."""

    def __init__(self, tmp_path, monkeypatch):
        self.path = tmp_path / "work"
        self._at_exit = []
        register = types.SimpleNamespace(register=self._at_exit.append)
        monkeypatch.setattr(mirror, "atexit", register)
        monkeypatch.setattr(mirror, "new_folder", self._made)

    def _made(self):
        self.path.mkdir()
        return self.path

    def outlives_the_process(self):
        for each in self._at_exit:
            each()
        return self.path.exists()


@pytest.fixture
def kept(tmp_path, monkeypatch):
    return Kept(tmp_path, monkeypatch)


def train(make_task, make_data, *callbacks, **options):
    trainer = Trainer(
        "cloud://cats/run", callbacks=callbacks, steps_per_loop=1,
        checkpoint_every_steps=1, **options
    )  # fmt: skip
    trainer.fit(make_task(), make_data())


class Heals(Callback):
    """Has the storage work again from some step on."""

    def on_loop_end(self, run, logs):
        if run.step == 3:
            Cloud.fails_at = None


def test_training_goes_on_where_the_storage_fails(
    cloud, kept, make_task, make_data, caplog
):
    Cloud.fails_at = "config.yaml"
    with caplog.at_level(logging.WARNING, "unet_train"):
        train(make_task, make_data, Heals(), max_steps=5)
    assert "cloud://cats/run cannot be written: PermissionError" in caplog.text
    assert "Training goes on; it is tried again." in caplog.text
    assert {"config.yaml", "model.keras", "metrics.json"} < names(cloud)
    assert not kept.outlives_the_process()


def test_a_run_that_cannot_be_copied_at_the_end_is_kept(
    cloud, kept, make_task, make_data
):
    Cloud.fails_at = "model.keras"
    with pytest.raises(OSError, match="lies in .*work; copy that folder to cloud"):
        train(make_task, make_data, max_steps=2)
    assert kept.outlives_the_process()
    assert (kept.path / "model.keras").exists()


def test_of_several_machines_the_others_leave_nothing(
    cloud, kept, make_task, make_data, monkeypatch
):
    monkeypatch.setattr(devices.Place, "is_chief", property(lambda place: False))
    train(make_task, make_data, max_steps=1)
    assert not kept.outlives_the_process()
    assert names(cloud) == set()


def test_pathlib_makes_no_address():
    with pytest.raises(ValueError, match=r"gs:/cats/run was an address, of which"):
        Trainer(pathlib.Path("gs://cats/run"), max_steps=1)


class Stops(Callback):
    def on_loop_end(self, run, logs):
        if run.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)


def test_an_interrupted_run_is_copied(cloud, kept, make_task, make_data):
    with pytest.raises(Interrupted):
        train(make_task, make_data, Stops(), max_steps=5)
    assert "checkpoints/step_00000002/state.json" in names(cloud)
    assert not kept.outlives_the_process()


def test_an_error_of_training_is_told_before_one_of_the_storage(
    cloud, kept, make_task, make_data, caplog
):
    class Fails(Callback):
        def on_loop_end(self, run, logs):
            raise RuntimeError("mine")

    Cloud.fails_at = "config.yaml"
    with pytest.raises(RuntimeError, match="mine"):
        train(make_task, make_data, Fails(), max_steps=5)
    assert "The run lies in" in caplog.text
