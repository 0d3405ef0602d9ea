"""Runs, models and photos that are damaged, foreign or malicious."""

import json
import pathlib
import pickle
import shutil
import zipfile

import keras
import numpy as np
import PIL.Image
import pytest
import yaml

from unet_core import UNetConfig, build_unet
from unet_train import Predictor, SegmentationTask, Trainer
from unet_train.callbacks import BestModels
from unet_train.cli import main
from unet_train.runs.load import load_model


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_dir):
    from unet_train import SegmentationData

    run_dir = tmp_path_factory.mktemp("bad") / "run"
    trainer = Trainer(run_dir, max_steps=2, callbacks=[BestModels()])
    model = build_unet(UNetConfig(depth=1, base_filters=2))
    options = {"data_dir": str(data_dir), "tile_size": 30, "batch_size": 2}
    trainer.fit(SegmentationTask(model), SegmentationData("discs", **options))
    return run_dir


@pytest.fixture
def run_dir(trained, tmp_path):
    return pathlib.Path(shutil.copytree(trained, tmp_path / "run"))


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change(path, function):
    """Changes a JSON or YAML file."""
    is_yaml = path.suffix == ".yaml"
    data = (yaml.safe_load if is_yaml else json.loads)(path.read_text())
    function(data)
    path.write_text((yaml.safe_dump if is_yaml else json.dumps)(data))


def leave_checkpoint_only(run_dir):
    (run_dir / "model.keras").unlink()
    return run_dir / "checkpoints" / "step_00000002"


def damage_model(run_dir):
    cut(run_dir / "model.keras")


def damage_threshold(run_dir):
    shutil.rmtree(run_dir / "checkpoints")
    change(run_dir / "metrics.json", lambda scores: scores.pop("threshold"))


def damage_architecture(run_dir):
    leave_checkpoint_only(run_dir)
    cut(run_dir / "architecture.json")


def damage_tensors(run_dir):
    checkpoint = leave_checkpoint_only(run_dir)
    cut(next(checkpoint.glob("tensors.data*")))


def later_options(run_dir):
    change(run_dir / "config.yaml", lambda c: c["data"].update(dream=1))


def later_checkpoint(run_dir):
    old_checkpoint(run_dir)  # Whose checksum a later version would have made anew.
    state = run_dir / "checkpoints" / "step_00000002" / "state.json"
    change(state, lambda content: content.update(format=99))


def old_checkpoint(run_dir):
    checkpoint = leave_checkpoint_only(run_dir)
    for key in ("checksum", "format"):
        change(checkpoint / "state.json", lambda state, key=key: state.pop(key))


def other_network(run_dir):
    model = build_unet(UNetConfig(depth=1, base_filters=2, classes=3))
    model.save(run_dir / "model.keras")


def other_input(run_dir):
    model = build_unet(UNetConfig(depth=1, base_filters=2, input_channels=4))
    model.save(run_dir / "model.keras")


def no_unet(run_dir):
    inputs = keras.Input((None, None, 3))
    outputs = keras.layers.Dense(1)(keras.layers.GlobalAveragePooling2D()(inputs))
    keras.Model(inputs, outputs).save(run_dir / "model.keras")


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (damage_model, "model.keras cannot be loaded.*move it away"),
        (damage_threshold, "does not tell the threshold.*KeyError"),
        (damage_architecture, "architecture.json cannot be read.*--resume"),
        (damage_tensors, "step_00000002 is damaged.*Delete this folder"),
        (later_options, r"of a later version.*\['dream'\] under `data`"),
        (later_checkpoint, "has the format 99.*reads 2. Use the version"),
        (old_checkpoint, "has the format None.*reads 2. Use the version"),
        (other_network, "has 3 logits a pixel.*`model.classes` 1"),
        (other_input, "makes 1 channels of 4.*red, green and blue"),
        (no_unet, r"it returns \(None, 1\), which is no image. Use one of"),
    ],
)
def test_a_clear_error_and_nothing_is_changed(run_dir, tmp_path, capsys, damage, fault):
    damage(run_dir)
    before = contents(run_dir)
    PIL.Image.new("RGB", (30, 30)).save(tmp_path / "photo.png")
    output = tmp_path / "out"
    arguments = [f"--run_dir={run_dir}", str(tmp_path / "photo.png")]
    assert main(["predict", *arguments, f"--output={output}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("unet-train: ")
    with pytest.raises(ValueError, match=fault):
        Predictor.load(run_dir)
    assert contents(run_dir) == before
    assert not output.exists()


def test_a_run_that_did_not_know_an_option_yet(run_dir, capsys):
    change(run_dir / "config.yaml", lambda config: config["data"].pop("cutout"))
    assert main(["evaluate", f"--run_dir={run_dir}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 3


@pytest.mark.parametrize("content", ["[]", "{", '{"monitor": "iou"}'])
def test_scores_of_the_best_model_that_cannot_be_read(run_dir, content):
    (scores,) = (run_dir / "best").glob("step_*/metrics.json")
    scores.write_text(content)
    with pytest.raises(ValueError, match="Delete its folder; the next best"):
        load_model(run_dir, "best")


def test_an_older_checkpoint_is_used_where_the_newest_is_damaged(run_dir, make_data):
    task = SegmentationTask(build_unet(UNetConfig(depth=1, base_filters=2)))
    Trainer(run_dir, max_steps=3).fit(task, make_data(), resume=True)
    (run_dir / "model.keras").unlink()
    cut(next((run_dir / "checkpoints/step_00000003").glob("tensors.data*")))
    assert load_model(run_dir).count_params()


def evil_layer(marker):
    """A model with a Python function in it that would leave a file."""
    inputs = keras.Input((None, None, 3))
    touch = keras.layers.Lambda(
        lambda x, path=str(marker): [open(path, "w").close(), x][1]
    )
    return keras.Model(inputs, keras.layers.Conv2D(1, 1)(touch(inputs)))


def test_no_code_of_a_model_file_is_run(run_dir, tmp_path):
    marker = tmp_path / "owned"
    model = evil_layer(marker)
    marker.unlink(missing_ok=True)
    model.save(run_dir / "model.keras")
    with pytest.raises(ValueError, match="cannot be loaded.*(unsafe|safe_mode)"):
        Predictor.load(run_dir)
    leave_checkpoint_only(run_dir)
    (run_dir / "architecture.json").write_text(model.to_json())
    with pytest.raises(ValueError, match="cannot be read.*(unsafe|safe_mode)"):
        Predictor.load(run_dir)
    assert not marker.exists()


def test_the_doctor_runs_no_code_that_a_run_names(run_dir, tmp_path, capsys):
    marker = tmp_path / "owned"
    evil = {
        "class_path": "subprocess.check_output",
        "init_args": {"args": ["touch", str(marker)]},
    }
    # The network is made from what Keras saved.
    change(run_dir / "config.yaml", lambda config: config.update(network=evil))
    assert main(["doctor", f"--run_dir={run_dir}", "--json"]) in (0, 1)
    assert json.loads(capsys.readouterr().out)["findings"]
    change(run_dir / "config.yaml", lambda config: config["task"].update(loss=evil))
    assert main(["doctor", f"--run_dir={run_dir}"]) == 2
    error = capsys.readouterr().err
    assert "names subprocess.check_output as its `task.loss`, which is none" in error
    assert not marker.exists()


@pytest.mark.parametrize("option", ["loss", "optimizer", "schedule"])
def test_the_doctor_runs_no_code_that_a_run_names_by_its_path_alone(
    run_dir, capsys, monkeypatch, option
):
    called = []
    monkeypatch.setattr(shutil, "evil", lambda **given: called.append(1), raising=False)
    change(run_dir / "config.yaml", lambda c: c["task"].update({option: "shutil.evil"}))
    assert main(["doctor", f"--run_dir={run_dir}"]) == 2
    assert "shutil.evil is no class of the kind" in capsys.readouterr().err
    assert not called


class Evil:
    """Pickled, it would leave a file when it is loaded."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


def test_no_pickle_is_loaded(run_dir, tmp_path):
    marker = tmp_path / "owned"
    payload = pickle.dumps(Evil(marker))
    pickle.loads(payload).close()
    assert marker.exists()  # It would.
    marker.unlink()
    whole = zipfile.ZipFile(run_dir / "model.keras")
    parts = {name: whole.read(name) for name in whole.namelist()}
    whole.close()
    for name in ("config.json", "model.weights.h5"):
        with zipfile.ZipFile(run_dir / "model.keras", "w") as archive:
            for each, content in {**parts, name: payload}.items():
                archive.writestr(each, content)
        with pytest.raises(ValueError, match="cannot be loaded"):
            Predictor.load(run_dir)
    (run_dir / "config.yaml").write_text(
        f"!!python/object/apply:builtins.open ['{marker}', 'w']"
    )
    with pytest.raises(ValueError, match="is not the folder of a run"):
        Predictor.load(run_dir)
    assert not marker.exists()


def bad_photos(folder):
    """Photos that are cut, lie about themselves, or are something else."""
    rng = np.random.default_rng(0)
    picture = PIL.Image.fromarray(rng.integers(0, 256, (60, 80, 3)).astype(np.uint8))
    for suffix in ("jpg", "png", "webp", "gif", "tiff", "bmp"):
        whole = folder / f"whole.{suffix}"
        picture.save(whole)
        data = whole.read_bytes()
        whole.unlink()
        (folder / f"cut_{suffix}.{suffix}").write_bytes(data[: len(data) // 3])
        (folder / f"head_{suffix}.{suffix}").write_bytes(data[:16])
        (folder / f"empty_{suffix}.{suffix}").write_bytes(b"")
    (folder / "page.jpg").write_text("<html>404</html>")
    (folder / "pickle.png").write_bytes(pickle.dumps({"a": 1}))
    # 60,000 x 60,000 pixels in some bytes.
    huge = bytearray((folder / "cut_png.png").read_bytes())
    huge[16:24] = (60_000).to_bytes(4, "big") * 2
    (folder / "huge.png").write_bytes(huge)
    return len(list(folder.iterdir()))


def test_photos_that_cannot_be_read_are_named_and_the_others_done(
    trained, tmp_path, capsys
):
    photos = tmp_path / "photos"
    photos.mkdir()
    count = bad_photos(photos)
    PIL.Image.new("RGB", (40, 30)).save(photos / "zebra.png")
    before = contents(photos)
    arguments = ["predict", f"--run_dir={trained}", str(photos)]
    assert main([*arguments, f"--output={tmp_path / 'out'}"]) == 1
    errors = capsys.readouterr().err
    named = [path.name for path in before if f"{path} is not a readable" in errors]
    assert len(named) == count
    assert f"1 of {count + 1} photos done" in errors
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "zebra_mask.png", "zebra_overlay.png",
    }  # fmt: skip
    assert contents(photos) == before
