"""The files in examples/, on data of a few tiny images."""

import importlib.util
import json
import pathlib
import re
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
import yaml

from unet_train import Trainer, cli
from unet_train.callbacks import Run
from unet_train.commands import fit

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def example():
    """examples/custom_callback.py as a module."""
    spec = importlib.util.spec_from_file_location(
        "custom_callback", EXAMPLES / "custom_callback.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lines_of(run_dir):
    text = (run_dir / "validations.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_custom_callback_runs(example, data_dir, tmp_path, monkeypatch, capsys):
    arguments = [f"--data_dir={data_dir}", "--name=discs", "--steps=8"]
    arguments += [f"--run_dir={tmp_path / 'run'}", "--tile_size=60"]
    monkeypatch.setattr(sys, "argv", ["custom_callback.py", *arguments])
    example.main()
    lines = lines_of(tmp_path / "run")
    assert [line["step"] for line in lines] == [2, 4, 6, 8]
    assert set(lines[0]) >= {"epoch", "iou", "dice", "gradient_norm"}
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == lines[-1]


def test_custom_callback_goes_on_after_a_resume(
    example, tmp_path, make_task, make_data
):
    journals = []
    for steps in (4, 8):
        journals.append(example.Journal(memory=3))
        trainer = Trainer(
            tmp_path, max_steps=steps, eval_every_steps=4, callbacks=[journals[-1]]
        )
        trainer.fit(make_task(), make_data(), resume=True)
        with (tmp_path / "validations.jsonl").open("a") as file:
            file.write('{"step": 5}\n')  # Of a step that is done again.
    assert [line["step"] for line in lines_of(tmp_path)][:-1] == [4, 4, 8]
    assert [journal.steps for journal in journals] == [4, 8]


def play(journal, norms):
    nothing = dict.fromkeys(["directory", "task", "data", "predictor", "options"])
    run = Run(**nothing, batch_size=1, steps_per_epoch=1.0)
    journal.on_loop_end(run, {"gradient_norm": np.array(norms, np.float32)})
    return run.stop_reason


def test_custom_callback_stops_when_the_gradients_explode(example):
    journal = example.Journal(factor=10, memory=4)
    assert not play(journal, [500, 1, 1, 1])  # The first ones are not judged.
    assert not play(journal, [1] * 30 + [9, np.inf, np.nan])
    again = example.Journal(factor=10, memory=4)
    again.load_state_dict(json.loads(json.dumps(journal.state_dict())))
    assert re.match("gradient norm 500, on average 3", play(again, [500]))
    with pytest.raises(ValueError, match="above 1.*Received: 1 and 50"):
        example.Journal(factor=1)


def test_custom_callback_shows_how_it_is_named_in_a_config(example, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    shown = yaml.safe_load(example.__doc__.split("PYTHONPATH:")[1])
    parser = fit.parser()
    arguments = ["--run_dir=x", "--trainer.max_steps=1"]
    callbacks = f"--callbacks={json.dumps(shown['callbacks'])}"
    (made,) = parser.instantiate(parser.parse_args([*arguments, callbacks])).callbacks
    assert (type(made).__name__, made.factor) == ("Journal", 50)


def make_pets(folder):
    """A stand-in with the features and mask values of TFDS's oxford_iiit_pet."""

    class OxfordIiitPet(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("4.0.0")

        def _info(self):
            image = tfds.features.Image(encoding_format="jpeg")
            trimap = tfds.features.Image(shape=(None, None, 1), use_colormap=True)
            names = ["label", "species"]
            features = {name: tfds.features.ClassLabel(num_classes=2) for name in names}
            features |= {"image": image, "segmentation_mask": trimap}
            features |= {"file_name": tfds.features.Text()}
            features |= {"head_bbox": tfds.features.BBoxFeature()}
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {
                "train": self._generate_examples(range(6)),
                "test": self._generate_examples(range(6, 8)),
            }

        def _generate_examples(self, indices):
            for index in indices:
                rng = np.random.default_rng(index)
                height, width = rng.integers(40, 90, 2)
                rows, columns = np.mgrid[:height, :width]
                distance = np.hypot(rows - height / 2, columns - width / 2)
                mask = np.select([distance < 12, distance > 15], [1, 2], 3)
                image = rng.integers(0, 90, (height, width, 3))
                image[mask == 1] += 150
                example = {
                    "image": image.astype(np.uint8),
                    "segmentation_mask": mask[..., None].astype(np.uint8),
                    "label": 0,
                    "species": 0,
                    "file_name": f"{index}.jpg",
                    "head_bbox": tfds.features.BBox(0.0, 0.0, 1.0, 1.0),
                }
                yield index, example

    OxfordIiitPet(data_dir=folder).download_and_prepare()


def test_oxford_pets(tmp_path, capsys):
    make_pets(tmp_path / "tfds")
    run_dir = f"--run_dir={tmp_path / 'run'}"
    small = [
        "--data.image_size=48", "--data.tile_size=48", "--data.batch_size=3",
        "--model.depth=1", "--model.base_filters=4", "--trainer.max_steps=3",
        f"--data.data_dir={tmp_path / 'tfds'}", "--callbacks=[]",
    ]  # fmt: skip
    config = f"--config={EXAMPLES / 'oxford_pets.yaml'}"
    assert cli.main(["fit", config, run_dir, *small]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["images"], metrics["split"]) == (2, "test")
    capsys.readouterr()
    assert cli.main(["evaluate", run_dir, "--split=test", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["iou"] == metrics["iou"]
    assert list(record["classes"]) == ["pet", "border"]
    assert all(each["images"] == 2 for each in record["classes"].values())
    matrix = np.array(record["confusion_matrix"])
    assert matrix.shape == (3, 3)
    assert (matrix.sum(1) > 0).all()


def test_oxford_pets_says_how_it_is_used():
    header = (EXAMPLES / "oxford_pets.yaml").read_text().split("\ndata:")[0]
    commands = re.findall(r"^#   unet-train (.*)$", header, re.M)
    names = [command.split()[0] for command in commands]
    assert names == ["fit", "evaluate", "predict"]
    _, *arguments = commands[0].replace("examples/", f"{EXAMPLES}/").split()
    options = fit.parser().parse_args(arguments)
    assert options.data.labels == {"pet": [1], "border": [3]}
    assert (options.data.background, options.data.ignored) == ([2], [])
    assert options.data.eval_split == "test"
