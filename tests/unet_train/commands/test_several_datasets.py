"""The commands on runs of several datasets: discs, and shards beside them."""

import json

import numpy as np
import pytest
import yaml

from unet_train.cli import main

SMALL = [
    "--data.tile_size=30", "--data.batch_size=2", "--data.copy_paste=0.5",
    "--model.depth=1", "--model.base_filters=2", "--trainer.steps_per_loop=2",
    "--trainer.deterministic",
]  # fmt: skip


@pytest.fixture(scope="module")
def config(tmp_path_factory, data_dir, shards_dir):
    path = tmp_path_factory.mktemp("several") / "small.yaml"
    also = {"name": "shards", "share": 0.25, "data_dir": str(shards_dir)}
    data = {"name": "discs", "data_dir": str(data_dir), "also": [also]}
    path.write_text(yaml.safe_dump({"data": data}))
    return path


@pytest.fixture(scope="module")
def run_dir(config):
    run_dir = config.parent / "run"
    arguments = [f"--config={config}", f"--run_dir={run_dir}", *SMALL]
    assert main(["fit", *arguments, "--trainer.max_steps=6"]) == 0
    return run_dir


def test_the_configuration_is_kept_and_is_one(run_dir, shards_dir):
    saved = yaml.safe_load((run_dir / "config.yaml").read_text())["data"]["also"]
    assert len(saved) == 1
    assert saved[0] == {
        **dict.fromkeys(saved[0]),
        "name": "shards", "share": 0.25, "data_dir": str(shards_dir),
    }  # fmt: skip


def test_a_resumed_run_is_the_unbroken_one(run_dir, shards_dir, tmp_path):
    """From its own configuration, and then from the command line."""
    again = tmp_path / "again"
    config = f"--config={run_dir / 'config.yaml'}"
    arguments = ["fit", config, f"--run_dir={again}"]
    assert main([*arguments, "--trainer.max_steps=3"]) == 0
    also = [{"name": "shards", "share": 0.25, "data_dir": str(shards_dir)}]
    arguments += ["--resume", "--trainer.max_steps=6"]
    assert main([*arguments, f"--data.also={json.dumps(also)}"]) == 0
    from unet_train.runs.load import load_model

    models = load_model(run_dir), load_model(again)
    for one, other in zip(*(model.weights for model in models), strict=True):
        np.testing.assert_array_equal(one, other)
    metrics = [json.loads((d / "metrics.json").read_text()) for d in (run_dir, again)]
    assert metrics[0]["iou"] == metrics[1]["iou"]
    assert metrics[0]["images"] == 43


def evaluate(capsys, run_dir, tmp_path, *arguments):
    arguments = [f"--run_dir={run_dir}", f"--output={tmp_path / 'out'}", *arguments]
    assert main(["evaluate", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_all_are_scored_together_and_each_by_itself(run_dir, tmp_path, capsys):
    record = evaluate(capsys, run_dir, tmp_path)
    saved = json.loads((run_dir / "metrics.json").read_text())
    assert record["iou"] == pytest.approx(saved["iou"])
    assert record["dataset"] == "discs, shards"
    assert record["images"] == 43
    datasets = record["datasets"]
    assert {name: each["images"] for name, each in datasets.items()} == {
        "discs": 3, "shards": 40,
    }  # fmt: skip
    for name in datasets:
        alone = evaluate(capsys, run_dir, tmp_path, f"--data.name={name}")
        assert "datasets" not in alone
        assert (alone["dataset"], alone["split"]) == (name, "validation")
        for score in ("iou", "images", "false_area", "boundary_iou"):
            assert alone[score] == datasets[name][score]
    assert datasets["discs"]["iou"] != datasets["shards"]["iou"]
    counts = json.loads((tmp_path / "out" / "metrics.json").read_text())["image_counts"]
    assert len({each["id"] for each in counts}) == 40


def test_another_split_is_that_of_all(run_dir, tmp_path, capsys):
    record = evaluate(capsys, run_dir, tmp_path, "--split=train[:2]")
    assert [each["images"] for each in record["datasets"].values()] == [2, 2]
    record = evaluate(capsys, run_dir, tmp_path, "--data.also=[]")
    assert record["images"] == 3


def test_another_dataset_is_taken_alone(run_dir, tmp_path, capsys):
    arguments = [f"--run_dir={run_dir}", f"--output={tmp_path}"]
    assert main(["evaluate", *arguments, "--data.name=dics"]) == 2
    assert "TFDS finds no dataset 'dics'" in capsys.readouterr().err


def test_table_and_report_have_a_row_for_each(run_dir, tmp_path, capsys):
    assert main(["evaluate", f"--run_dir={run_dir}", f"--output={tmp_path}"]) == 0
    printed = capsys.readouterr().out
    page = (tmp_path / "report.html").read_text()
    for name in ("discs", "shards"):
        assert f"│ {name} " in printed
        assert f"<tr><td>{name}</td>" in page
    assert "shards: photo_7" in page


def doctor(capsys, config, tmp_path, *arguments):
    arguments = ["doctor", f"--config={config}", *SMALL, *arguments]
    arguments += [f"--output={tmp_path}", "--trainer.max_steps=9", "--json"]
    status = main([*arguments, "--steps=2", "--images=30"])
    findings = json.loads(capsys.readouterr().out)["findings"]
    found = {}
    for each in findings:
        found.setdefault(each["check"], []).append(each)
    return status, found


def further(shards_dir, **options):
    also = {"name": "shards", "share": 0.25, "data_dir": str(shards_dir), **options}
    return f"--data.also={json.dumps([also])}"


def test_the_doctor_looks_at_all(config, shards_dir, tmp_path, capsys):
    """Shards with nothing to find are no fault, beside discs."""
    nothing = further(shards_dir, foreground=[9], background=[0, 1])
    _, found = doctor(capsys, config, tmp_path, nothing)
    assert [each["text"] for each in found["data"]] == [
        "in discs 10 images and masks were read",
        "in shards 60 images and masks were read",
    ]
    assert [each["verdict"] for each in found["mask values"]] == ["ok", "ok"]
    assert "60 of 70 images have none" in found["foreground"][0]["text"]
    assert "learning" in found


def test_the_doctor_names_the_dataset_of_a_fault(config, shards_dir, tmp_path, capsys):
    strange = further(shards_dir, background=[7], ignored=[9])
    status, found = doctor(capsys, config, tmp_path, strange)
    assert status == 1
    first, second = found["mask values"]
    assert (first["verdict"], second["verdict"]) == ("ok", "fault")
    assert second["text"].startswith("in shards ")
    assert second["cure"].endswith("(For shards in its entry of --data.also.)")
    assert "learning" not in found


def test_find_lr(config, capsys):
    arguments = ["find-lr", f"--config={config}", *SMALL, "--trainer.max_steps=9"]
    assert main([*arguments, "--steps=10", "--lowest=1e-4", "--highest=1e-2"]) == 0
    assert "Suggested" in capsys.readouterr().out


def test_the_card_of_an_export_counts_all(run_dir, shards_dir, tmp_path, capsys):
    arguments = [f"--run_dir={run_dir}", f"--output={tmp_path / 'out'}"]
    assert main(["export", *arguments, "--formats", "keras"]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Dataset `discs`, `shards` of TensorFlow" in card
    assert f"| `train` | training | {6 + 665} |" in card
    assert f"| `train` | held out, to choose the threshold | {1 + 35} |" in card
    assert "| `validation` | validation | 43 |" in card
    assert "share: 0.25" in card
    assert str(shards_dir) not in card
