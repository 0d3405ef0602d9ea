"""The command `unet-train`."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
import yaml
from pycocotools import mask as coco_mask

from unet_train import Predictor
from unet_train.cli import COMMANDS, main, with_true
from unet_train.runs.load import load_trained
from unet_train.scoring.counts import ImageCounts

SMALL = [
    "--data.name=discs", "--data.tile_size=30", "--data.batch_size=2",
    "--model.depth=1", "--model.base_filters=2", "--trainer.steps_per_loop=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, data_dir):
    run_dir = tmp_path_factory.mktemp("cli") / "run"
    config = run_dir.parent / "small.yaml"
    config.write_text("trainer: {max_steps: 9, seed: 3}\n")
    arguments = [f"--config={config}", f"--run_dir={run_dir}", *SMALL]
    arguments += [f"--data.data_dir={data_dir}", "--trainer.max_steps=4"]
    assert main(["fit", *arguments]) == 0
    return run_dir


def test_fit_saves_the_resolved_configuration(run_dir, data_dir):
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    assert config["trainer"]["max_steps"] == 4  # The command line wins,
    assert config["trainer"]["seed"] == 3  # then the file,
    assert config["task"]["learning_rate"] == 1e-3  # then the default.
    assert config["data"]["data_dir"] == str(data_dir)
    paths = [callback["class_path"] for callback in config["callbacks"]]
    assert paths == [
        "unet_train.callbacks.Progress",
        "unet_train.callbacks.TensorBoard",
    ]


def test_saved_configuration_is_a_configuration(run_dir, tmp_path):
    arguments = ["fit", f"--config={run_dir / 'config.yaml'}"]
    arguments += [f"--run_dir={tmp_path / 'again'}", "--trainer.max_steps=1"]
    assert main(arguments) == 0
    assert (tmp_path / "again" / "model.keras").exists()


def test_evaluate_prints_one_json_object(run_dir, capsys):
    assert main(["evaluate", f"--run_dir={run_dir}", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    saved = json.loads((run_dir / "metrics.json").read_text())
    for name in ("iou", "dice", "precision", "recall", "threshold", "images", "step"):
        assert scores[name] == saved[name]
    written = json.loads((run_dir / "evaluation" / "metrics.json").read_text())
    counts, curves = written.pop("image_counts"), written.pop("curves")
    assert written == scores
    found = curves["true_positives"][round(256 * scores["threshold"])]
    assert found == sum(image["true_positives"] for image in counts)
    assert len(counts) == scores["images"]
    assert "<h2>Best</h2>" in (run_dir / "evaluation" / "report.html").read_text()


def test_evaluate_with_another_threshold(run_dir, tmp_path, capsys):
    arguments = ["evaluate", f"--run_dir={run_dir}", "--json", "--threshold=0.9"]
    assert main([*arguments, f"--output={tmp_path / 'strict'}"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["threshold"] == 0.9
    assert scores["threshold_from"] == "given with --threshold"
    assert (tmp_path / "strict" / "metrics.json").exists()
    for threshold in (0, 1.5):
        assert main([*arguments, f"--threshold={threshold}"]) == 2
        assert "between 0 and 1" in capsys.readouterr().err


def test_flips(run_dir, tmp_path, capsys):
    """The mean with the mirrored photo, in pictures as in scores; `compare` says so."""
    photo = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    for name, flipped in (("here", photo), ("there", photo[:, ::-1])):
        PIL.Image.fromarray(flipped).save(tmp_path / f"{name}.png")
    found = {}
    for flips in ([], ["--flips"]):
        output = tmp_path / f"out{len(flips)}"
        photos = [str(tmp_path / "here.png"), str(tmp_path / "there.png")]
        arguments = [*photos, "--output", str(output), "--pictures", "probability"]
        assert main(["predict", f"--run_dir={run_dir}", *flips, *arguments]) == 0
        here, there = (
            np.asarray(PIL.Image.open(output / f"{name}_probability.png")).astype(float)
            for name in ("here", "there")
        )
        found[len(flips)] = np.abs(here - there[:, ::-1]).max()
        arguments = [f"--run_dir={run_dir}", "--json", f"--output={output}", *flips]
        assert main(["evaluate", *arguments]) == 0
    plain, both = (
        json.loads((tmp_path / name / "metrics.json").read_text())
        for name in ("out0", "out1")
    )
    assert found[1] <= 1 < found[0]
    assert (plain["flips"], both["flips"]) == (False, True)
    assert plain["average_precision"] != both["average_precision"]
    assert "mean with the mirror" in (tmp_path / "out1" / "report.html").read_text()
    capsys.readouterr()
    assert main(["compare", str(tmp_path / "out0"), str(tmp_path / "out1")]) == 0
    assert capsys.readouterr().out.count("(--flips)") == 1


@pytest.fixture
def model_dir(run_dir, tmp_path):
    """A published model: three files of a run."""
    folder = tmp_path / "models" / "discs"
    folder.mkdir(parents=True)
    for name in ("model.keras", "config.yaml", "metrics.json"):
        shutil.copy(run_dir / name, folder)
    return folder


def test_a_published_model_is_as_a_run(run_dir, model_dir, tmp_path, capsys):
    photo = tmp_path / "a.png"
    values = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    PIL.Image.fromarray(values).save(photo)
    masks, scores = [], []
    for number, source in enumerate(
        (
            f"--run_dir={run_dir}",
            f"--model={model_dir}",
            f"--run_dir={model_dir}",
            f"--model={model_dir / 'model.keras'}",
        )
    ):
        output = tmp_path / f"found{number}"
        assert main(["predict", source, str(photo), "--output", str(output)]) == 0
        masks.append((output / "a_mask.png").read_bytes())
        capsys.readouterr()
        assert main(["evaluate", source, "--json"]) == 0
        scores.append(json.loads(capsys.readouterr().out))
    assert len(set(masks)) == 1
    assert {each["iou"] for each in scores} == {scores[0]["iou"]}
    assert scores[1]["run"] == str(model_dir)
    assert (model_dir / "evaluation" / "report.html").exists()
    export = ["export", f"--model={model_dir}", "--formats", "keras", "--name=disc"]
    assert main([*export, f"--output={tmp_path / 'out'}"]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"{scores[0]['iou']:.4g}" in card


@pytest.mark.parametrize("command", ["predict", "evaluate", "export"])
def test_a_run_or_a_model_but_not_both(run_dir, model_dir, capsys, command):
    more = [] if command == "evaluate" else [f"--output={model_dir / 'out'}"]
    if command == "predict":
        PIL.Image.new("RGB", (30, 30)).save(model_dir / "a.png")
        more.append(str(model_dir / "a.png"))
    assert main([command, *more]) == 2
    assert "Give --run_dir, the folder of a run, or --model" in one_line(capsys)
    both = [f"--run_dir={run_dir}", f"--model={model_dir}"]
    assert main([command, *both, *more]) == 2
    assert "--model: not allowed with argument --run_dir" in one_line(capsys)


@pytest.mark.parametrize(
    ("missing", "fault"),
    [
        ("config.yaml", "is not the folder of a run.*a published model with the"),
        ("metrics.json", "metrics.json does not tell the threshold.*published model"),
        ("model.keras", "model.keras"),
    ],
)
@pytest.mark.parametrize("name", ["", "model.keras"])
def test_a_model_that_lacks_a_file(model_dir, missing, fault, name):
    (model_dir / missing).unlink()
    with pytest.raises(ValueError, match=fault):
        Predictor.load(model_dir / name)


def test_a_model_is_named_by_its_file_where_the_run_went_on(
    run_dir, tmp_path, data_dir
):
    shutil.copytree(run_dir, tmp_path / "run")
    scores = tmp_path / "run" / "metrics.json"
    scores.write_text(json.dumps({**json.loads(scores.read_text()), "step": 2}))
    assert load_trained(tmp_path / "run").step == 4  # The checkpoint is later.
    assert load_trained(tmp_path / "run" / "model.keras").step == 2


def test_evaluate_writes_over_no_run(run_dir, capsys):
    before = (run_dir / "metrics.json").read_bytes()
    assert main(["evaluate", f"--run_dir={run_dir}", f"--output={run_dir}"]) == 2
    assert "is the folder of a run, whose metrics.json" in capsys.readouterr().err
    assert (run_dir / "metrics.json").read_bytes() == before


def test_evaluate_where_nothing_is_labelled(run_dir, capsys, tmp_path):
    arguments = ["evaluate", f"--run_dir={run_dir}", f"--output={tmp_path / 'out'}"]
    values = [
        "--data.foreground=[7]",
        "--data.background=[]",
        "--data.ignored=[0,1,255]",
    ]
    assert main([*arguments, *values]) == 2
    assert "3 images and no labelled pixel" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_compare(run_dir, tmp_path, capsys):
    for split in ("validation", "train"):
        output = f"--output={tmp_path / split}"
        main(["evaluate", f"--run_dir={run_dir}", f"--split={split}", output])
    same = str(tmp_path / "validation")
    capsys.readouterr()
    assert main(["compare", same, same, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows["iou"]["differences"] == [0.0, 0.0]
    assert main(["compare", same, same]) == 0
    assert "boundary_iou" in capsys.readouterr().out
    assert main(["compare", same, str(tmp_path / "train")]) == 2
    assert "not the same. Evaluate both" in " ".join(capsys.readouterr().err.split())
    assert main(["compare", same]) == 2
    assert main(["compare", same, str(tmp_path)]) == 2
    assert "unet-train evaluate --run_dir" in capsys.readouterr().err


def test_evaluate_needs_no_map_of_instances(run_dir, capsys, tmp_path):
    """Which the borders in training were from."""
    copy = shutil.copytree(run_dir, tmp_path / "run")
    config = yaml.safe_load((copy / "config.yaml").read_text())
    config["data"] |= {"border_weight": 1.0, "instance_feature": "gone"}
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["evaluate", f"--run_dir={copy}", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert main(["evaluate", f"--run_dir={run_dir}", "--json"]) == 0
    assert scores["iou"] == json.loads(capsys.readouterr().out)["iou"]


def test_evaluate_another_split(run_dir, capsys):
    arguments = ["evaluate", f"--run_dir={run_dir}", "--split=train", "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 7


def test_evaluate_reads_for_the_report_what_it_draws(
    run_dir, shards_dir, tmp_path, parsed
):
    """Three best, three median, three worst ones, by the names of their files."""
    arguments = ["evaluate", f"--run_dir={run_dir}", f"--output={tmp_path}"]
    dataset = ["--data.name=shards", f"--data.data_dir={shards_dir}"]
    assert main([*arguments, *dataset]) == 0
    assert len(parsed) == 40 + 9
    page = (tmp_path / "report.html").read_text()
    shown = re.findall(r"<figcaption>(\S+): truth, prediction; IoU ([\d.]+)<", page)
    counts = json.loads((tmp_path / "metrics.json").read_text())["image_counts"]
    ious = {each["name"]: ImageCounts(**each).iou for each in counts}
    assert len(shown) == 9
    assert all(f"{ious[name]:.3f}" == iou for name, iou in shown)


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("fit", "--data.train_split=train[:0%]"),
        ("fit", "--data.eval_split=validation[:0%]"),
        ("find-lr", "--data.train_split=train[:0%]"),
        ("evaluate", "--split=validation[:0%]"),
    ],
)
def test_an_empty_split_is_one_clear_line(
    run_dir, data_dir, tmp_path, capsys, command, option
):
    if command == "evaluate":
        arguments = [f"--run_dir={run_dir}", f"--output={tmp_path / 'out'}"]
    else:
        arguments = [*SMALL, f"--data.data_dir={data_dir}", "--trainer.max_steps=4"]
        arguments += [f"--run_dir={tmp_path / 'out'}"] * (command == "fit")
    assert main([command, *arguments, option]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    split = option.partition("=")[2]
    assert line.startswith(f"unet-train: The split {split!r} of 'discs' has no images.")
    assert "Name another one with --data.train_split" in line
    assert not (tmp_path / "out").exists()


def test_the_doctor_finds_an_empty_split(data_dir, tmp_path, capsys):
    arguments = [*SMALL, f"--data.data_dir={data_dir}", f"--output={tmp_path}"]
    arguments += ["--data.eval_split=validation[:0%]", "--trainer.max_steps=4"]
    assert main(["doctor", *arguments, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert "The split 'validation[:0%]' of 'discs' has no images" in found["conclusion"]


def test_predict_writes_masks_and_overlays_as_large_as_the_photo(run_dir, tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (40, 70, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "turned.jpg", exif=exif)
    PIL.Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    photos = [str(tmp_path / name) for name in ("turned.jpg", "grey.png")]
    output = tmp_path / "out"
    arguments = [f"--run_dir={run_dir}", *photos, f"--output={output}"]
    assert main(["predict", *arguments]) == 0
    assert {path.name for path in output.iterdir()} == {
        "turned_mask.png", "turned_overlay.png", "grey_mask.png", "grey_overlay.png",
    }  # fmt: skip
    mask = np.asarray(PIL.Image.open(output / "turned_mask.png"))
    assert mask.shape == (70, 40)
    assert set(np.unique(mask)) <= {0, 255}
    assert PIL.Image.open(output / "turned_overlay.png").size == (40, 70)
    assert PIL.Image.open(output / "grey_mask.png").size == (70, 40)


def test_one_bad_photo_does_not_stop_the_others(run_dir, tmp_path, capsys):
    (tmp_path / "bad.jpg").write_bytes(b"no")
    PIL.Image.new("RGB", (30, 30)).save(tmp_path / "good.png")
    photos = [str(tmp_path / name) for name in ("bad.jpg", "good.png")]
    arguments = [f"--run_dir={run_dir}", *photos, f"--output={tmp_path / 'out'}"]
    assert main(["predict", *arguments]) == 1
    assert "left out" in (captured := capsys.readouterr()).err
    assert "bad.jpg is not a readable photo" in captured.err
    assert (tmp_path / "out" / "good_mask.png").exists()


def test_predict_a_folder_in_every_form(run_dir, tmp_path, capsys):
    rng = np.random.default_rng(0)
    photos = tmp_path / "photos"
    for name, shape in (("a.jpg", (30, 44)), ("deep/b.png", (51, 37))):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (*shape, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(photos / name)
    before = {path: path.read_bytes() for path in photos.rglob("*.*")}
    output = tmp_path / "out"
    arguments = ["predict", f"--run_dir={run_dir}", str(photos), f"--output={output}"]
    arguments += ["--pictures", "mask", "probability", "--coco", "rle", "polygons"]
    assert main([*arguments, "--threshold=0.4"]) == 0
    assert {str(path.relative_to(output)) for path in output.rglob("*.*")} == {
        "a_mask.png", "a_probability.png", "deep/b_mask.png", "deep/b_probability.png",
        "coco_results.json", "coco_images.json", "coco_annotations.json",
    }  # fmt: skip
    images = json.loads((output / "coco_images.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["a.jpg", "deep/b.png"]
    results = json.loads((output / "coco_results.json").read_text())
    masks = {
        each["image_id"]: coco_mask.decode(each["segmentation"]) for each in results
    }
    for number, name in enumerate(("a", "deep/b"), 1):
        mask = np.asarray(PIL.Image.open(output / f"{name}_mask.png")) == 255
        deep = np.asarray(PIL.Image.open(output / f"{name}_probability.png"))
        assert deep.dtype == np.uint16
        np.testing.assert_array_equal(mask, deep / 65535 >= 0.4)
        np.testing.assert_array_equal(mask, masks.get(number, np.zeros_like(mask)))
    assert masks  # The network found something in one of them at least.
    assert {path: path.read_bytes() for path in before} == before
    alone = [*arguments[:3], "--pictures", "--coco", "rle"]
    assert main([*alone, f"--output={tmp_path / 'alone'}"]) == 0
    assert {path.name for path in (tmp_path / "alone").iterdir()} == {
        "coco_results.json", "coco_images.json",
    }  # fmt: skip
    assert main([*arguments[:3], "--pictures", f"--output={tmp_path / 'none'}"]) == 2
    assert "Nothing is to be written" in capsys.readouterr().err
    # Once more into the folder of the photos itself: predictions are no photos.
    again = [*arguments[:3], f"--output={photos}"]
    assert main(again) == 0
    capsys.readouterr()
    assert main(again) == 0
    assert main([*again, "--pictures", "probability"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 + 2


def test_names_that_the_file_system_refuses_stop_no_other(run_dir, tmp_path, capsys):
    good, loop = tmp_path / "good.png", tmp_path / "loop.png"
    long, longer = tmp_path / f"{'x' * 245}.png", tmp_path / f"{'y' * 300}.png"
    for path in (good, long):
        PIL.Image.new("RGB", (30, 30)).save(path)
    loop.symlink_to(loop)
    output = tmp_path / "out"
    photos = [str(each) for each in (loop, long, longer, good)]
    assert main(["predict", f"--run_dir={run_dir}", *photos, f"--output={output}"]) == 1
    errors = capsys.readouterr().err
    assert f"left out: {loop} is not a readable photo" in errors
    assert re.search(rf"left out: {long}: the name x+_overlay\.png .*too long", errors)
    assert f"left out: {longer} is not a readable photo" in errors
    assert "1 of 4 photos done" in errors
    assert {path.name for path in output.iterdir()} == {
        "good_mask.png", "good_overlay.png",
    }  # fmt: skip


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_names_that_the_terminal_cannot_show(run_dir, tmp_path, encoding):
    names = ["K\u00e4tzchen.png", os.fsdecode(b"caf\xe9.png")]
    for name in names:
        PIL.Image.new("RGB", (30, 30)).save(tmp_path / name)
    program = "import sys; from unet_train.cli import main; sys.exit(main())"
    arguments = ["predict", f"--run_dir={run_dir}", f"--output={tmp_path / 'out'}"]
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            program,
            *arguments,
            *(str(tmp_path / n) for n in names),
        ],
        capture_output=True,
        env={**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": encoding},
    )
    assert done.returncode == 0, done.stderr
    shown = "K\u00e4tzchen.png".encode(encoding, "backslashreplace")
    assert shown in done.stdout
    assert rb"caf\udce9.png" in done.stdout
    assert len(list((tmp_path / "out").iterdir())) == 4


@pytest.mark.parametrize("name", ["coco_annotations.json", "coco_results.json"])
def test_predict_keeps_what_somebody_else_wrote(run_dir, tmp_path, capsys, name):
    PIL.Image.new("RGB", (30, 30)).save(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text('[{"corrected": "by hand"}]')
    arguments = [f"--run_dir={run_dir}", str(tmp_path / "a.png")]
    arguments += [f"--output={tmp_path / 'out'}", "--coco", "rle", "polygons"]
    assert main(["predict", *arguments]) == 2
    assert f"{name} is there, and `unet-train predict`" in capsys.readouterr().err
    # Refused before anything was predicted.
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]
    assert (tmp_path / "out" / name).read_text() == '[{"corrected": "by hand"}]'


def test_used_run_folder_is_refused_and_its_config_kept(run_dir, data_dir, capsys):
    before = (run_dir / "config.yaml").read_text()
    arguments = [f"--run_dir={run_dir}", *SMALL, f"--data.data_dir={data_dir}"]
    assert main(["fit", *arguments, "--trainer.max_steps=6"]) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert (run_dir / "config.yaml").read_text() == before


def one_line(capsys):
    """All there is on stderr."""
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("arguments", [[], ["predct"], ["--predict"]])
def test_no_command_says_which_there_are(capsys, arguments):
    assert main(arguments) == 2
    assert f"Give one of {', '.join(COMMANDS)}" in one_line(capsys)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (
            ["fit", "--task.lerning_rate", "0.1"],
            "no option --task.lerning_rate. Did you mean --task.learning_rate?",
        ),
        (
            ["fit", "--lerning_rate=0.1", "--model.depht=3"],
            "no option --lerning_rate. Did you mean --task.learning_rate? There is no"
            " option --model.depht. Did you mean --model.depth?",
        ),
        (["predict", "a.jpg", "--pictres", "mask"], "Did you mean --pictures?"),
        (["evaluate", "--spilt=train"], "Did you mean --split?"),
        (["fit", "--nothing_like_it"], "There is no option --nothing_like_it. `unet-"),
        (
            ["compare", "a", "b", "--jsno"],
            "Did you mean --json? `unet-train compare --h",
        ),
        (["fit", "surplus"], "unrecognized arguments: surplus"),
    ],
)
def test_a_misspelt_option_is_told_the_nearest(capsys, arguments, fault):
    assert main(arguments) == 2
    line = one_line(capsys)
    assert line.startswith("unet-train: ")
    assert fault in line
    assert line.endswith(f"`unet-train {arguments[0]} --help` lists them.")


def test_a_misspelt_option_in_a_file(tmp_path, capsys):
    (tmp_path / "a.yaml").write_text("task: {lerning_rate: 0.1}")
    arguments = ["fit", f"--config={tmp_path / 'a.yaml'}", f"--run_dir={tmp_path}"]
    assert main(arguments) == 2
    fault = "no option --task.lerning_rate. Did you mean --task.learning_rate?"
    assert fault in one_line(capsys)


def test_a_bad_value_is_told_without_the_usage(capsys):
    assert main(["fit", "--run_dir=x", "--task.reduction=men"]) == 2
    error = capsys.readouterr().err
    assert "task.reduction" in error
    assert "usage" not in error
    assert len(error.splitlines()) < 5


def test_help_names_no_part_of_python(capsys):
    for command in COMMANDS:
        with pytest.raises(SystemExit):
            main([command, "--help"])
        text = capsys.readouterr().out
        assert "<function" not in text
        assert "lamb" not in text
        assert " at 0x" not in text


@pytest.mark.parametrize("command", ["fit", "predict"])
@pytest.mark.parametrize("below", ["", "deep/er"])
def test_a_folder_that_is_a_file(run_dir, tmp_path, data_dir, capsys, command, below):
    file = tmp_path / "file"
    file.write_text("precious")
    folder = file / below
    arguments = [f"--run_dir={folder}", *SMALL, f"--data.data_dir={data_dir}"]
    arguments += ["--trainer.max_steps=1"]
    if command == "predict":
        PIL.Image.new("RGB", (30, 30)).save(tmp_path / "a.png")
        arguments = [f"--run_dir={run_dir}", f"--output={folder}"]
        arguments.append(str(tmp_path / "a.png"))
    assert main([command, *arguments]) == 2
    assert f"cannot be a folder: {file} is a file. Give another" in one_line(capsys)
    assert file.read_text() == "precious"


def test_an_address_is_no_folder_for_results(run_dir, tmp_path, capsys, monkeypatch):
    """It would be a folder `gs:`, on a disk that goes with the machine."""
    PIL.Image.new("RGB", (30, 30)).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    for arguments in (
        ["predict", f"--run_dir={run_dir}", "--output=gs://cats/run", "a.png"],
        ["evaluate", f"--run_dir={run_dir}", "--output=gs://cats/run"],
        ["export", f"--run_dir={run_dir}", "--output=gs://cats/run"],
        ["doctor", f"--run_dir={run_dir}", "--output=gs://cats/run"],
    ):
        assert main(arguments) == 2
        assert "gs://cats/run is an address, where only runs" in one_line(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_folder_without_permission(tmp_path, data_dir, capsys, monkeypatch):
    """Root may write everywhere."""
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    arguments = [f"--run_dir={tmp_path / 'r' / 's'}", *SMALL]
    arguments += [f"--data.data_dir={data_dir}", "--trainer.max_steps=1"]
    assert main(["fit", *arguments]) == 2
    fault = f"cannot be written: no permission to write in {tmp_path}. Give another"
    assert fault in one_line(capsys)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("command", ["evaluate", "predict"])
@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "cannot read"),
        ("trainer: {max_steps: 2}", r"lacks \['data', 'task'\]"),
        ("[", "cannot read"),
        ("", "cannot read"),
    ],
)
def test_a_folder_that_is_no_run_is_named(tmp_path, capsys, command, content, fault):
    if content is not None:
        (tmp_path / "config.yaml").write_text(content)
    arguments = [f"--run_dir={tmp_path}"]
    if command == "predict":
        arguments += ["x.jpg", f"--output={tmp_path / 'out'}"]
    assert main([command, *arguments]) == 2
    assert re.search(rf"is not the folder of a run.*{fault}", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (KeyboardInterrupt(), 130, "interrupted; --resume goes on from"),
        (
            tf.errors.ResourceExhaustedError(None, None, "OOM"),
            2,
            "out of memory. Lower --data.batch_size",
        ),
    ],
)
def test_what_stops_a_run_from_outside(
    tmp_path, capsys, monkeypatch, error, status, text
):
    def stop(options):
        raise error

    monkeypatch.setattr("unet_train.commands.fit.run", stop)
    arguments = ["fit", f"--run_dir={tmp_path / 'r'}", "--trainer.max_steps=1"]
    assert main(arguments) == status
    assert text in capsys.readouterr().err


def test_a_fault_of_ours_keeps_its_traceback(tmp_path, monkeypatch):
    def stop(options):
        raise KeyError("ours")

    monkeypatch.setattr("unet_train.commands.fit.run", stop)
    with pytest.raises(KeyError, match="ours"):
        main(["fit", f"--run_dir={tmp_path / 'r'}", "--trainer.max_steps=1"])


def test_a_warning_is_one_line_with_one_prefix(tmp_path, data_dir):
    """In a process of its own: pytest takes logs for itself."""
    base = ["fit", f"--run_dir={tmp_path / 'r'}", *SMALL, "--callbacks=[]"]
    base += [f"--data.data_dir={data_dir}", "--trainer.checkpoint_every_steps=1"]
    assert main([*base, "--trainer.max_steps=2"]) == 0
    (tmp_path / "r/checkpoints/step_00000002/state.json").write_text("{")
    program = "import sys; from unet_train.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, *base, "--resume", "--trainer.max_steps=3"],
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("unet-train: ") == 2
    assert "unet_train:" not in done.stderr
    assert "WARNING" not in done.stderr
    first, second = done.stderr.splitlines()
    assert re.match(r"unet-train: .*step_00000002 is damaged", first)
    assert re.match(r"unet-train: it is now .*damaged_step_00000002", second)


def test_yes_or_no_options_may_stand_alone(tmp_path):
    arguments = ["--trainer.deterministic", "--data.mirror", "false", "--resume"]
    assert with_true(arguments) == [
        "--trainer.deterministic=true", "--data.mirror", "false", "--resume",
    ]  # fmt: skip
    assert with_true(["--trainer.jit_compile"]) == ["--trainer.jit_compile=true"]
    one_of_many = ["--trainer.jit_compile", "auto", "--trainer.precision", "auto"]
    assert with_true(one_of_many) == one_of_many


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--data.name=nix", "--trainer.max_steps=1"], "TFDS finds no dataset 'nix'"),
        (["--trainer.max_steps=1", "--data.tile_size=31"], "Nearest valid: 30 and 32"),
        ([], "Nothing says when to stop"),
        (["--trainer.max_steps=1", "--model.depth=0"], "`depth` must be a whole"),
    ],
)
def test_bad_options_name_the_cure(tmp_path, data_dir, capsys, arguments, fault):
    base = [f"--run_dir={tmp_path / 'r'}", *SMALL, f"--data.data_dir={data_dir}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["unet-train"])
        try:
            status = main(["fit", *base, *arguments])
        except SystemExit as stop:  # The parser's own way of refusing.
            status = stop.code
    assert status == 2
    assert fault in capsys.readouterr().err
    assert not (tmp_path / "r" / "checkpoints").exists()


def test_help_documents_every_option_without_tensorflow():
    program = (
        "import sys, unet_train.cli\n"
        "try: unet_train.cli.main(['fit', '--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    for option in (
        "--run_dir",
        "--data.tile_size",
        "--model.depth",
        "--task.threshold",
    ):
        assert option in done.stdout
    text = " ".join(done.stdout.split())
    assert "Side in pixels of the square tile" in text
    assert "Channels of the first stage" in text


def test_compiled_with_xla(tmp_path, data_dir):
    """In a process of its own: where another test made TensorFlow deterministic, XLA
    has no gradient of max pooling.
    """
    arguments = [f"--run_dir={tmp_path / 'r'}", *SMALL, f"--data.data_dir={data_dir}"]
    arguments += ["--trainer.max_steps=2", "--trainer.jit_compile", "--callbacks=[]"]
    program = "import sys; from unet_train.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, "fit", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Compiled cluster using XLA" in done.stderr
