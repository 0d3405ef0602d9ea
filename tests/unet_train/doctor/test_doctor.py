"""The doctor names each fault that is put in, and calls healthy what is."""

import json
import pathlib
import re
import shlex
import shutil
import sys
import types

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
import yaml

from unet_core import Summary, UNetConfig, build_unet
from unet_train import doctor
from unet_train.cli import main
from unet_train.doctor import machine
from unet_train.doctor.alignment import REACH, boundary_map, measure_shift
from unet_train.doctor.learning import Overfit
from unet_train.doctor.network import tile_iou
from unet_train.losses import PixelLoss
from unet_train.options import DataOptions, TrainerOptions

SIDE = 96
SMALL = [
    "--data.name=blobs", "--data.tile_size=60", "--data.batch_size=4",
    "--model.depth=1", "--model.base_filters=4", "--model.norm_momentum=0.8",
    "--task.learning_rate=0.01", "--trainer.max_steps=60",
]  # fmt: skip


def draw(index):
    """One or two bright ellipses on a mottled ground, and their mask."""
    rng = np.random.default_rng(index)
    ground = rng.integers(20, 110, (SIDE // 8, SIDE // 8, 3)).repeat(8, 0).repeat(8, 1)
    image = (ground + rng.integers(0, 30, (SIDE, SIDE, 3))).astype(np.uint8)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for _ in range(rng.integers(1, 3)):
        center, radius = rng.uniform(30, SIDE - 30, 2), rng.uniform(10, 24, 2)
        inside = ((rows - center[0]) / radius[0]) ** 2
        inside = inside + ((columns - center[1]) / radius[1]) ** 2 < 1
        mask[inside] = 1
    image[mask == 1] = rng.integers(170, 255, (SIDE, SIDE, 3))[mask == 1]
    return image, mask


class Blobs(tfds.core.GeneratorBasedBuilder):
    """Blobs with masks that went through `change`."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        image = tfds.features.Image(encoding_format="png")
        mask = tfds.features.Image(shape=(None, None, 1), encoding_format="png")
        features = {"image": image, "segmentation_mask": mask}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features)
        )

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(range(24)),
            "validation": self._generate_examples(range(24, 32)),
        }

    def _generate_examples(self, indices):
        for index in indices:
            image, mask = draw(index)
            mask = self.change(mask)[..., np.newaxis]
            yield index, {"image": image, "segmentation_mask": mask}


def shifted(mask, down, right):
    """Moved, with background where it came from."""
    padded = np.pad(mask, REACH)
    top, left = REACH - down, REACH - right
    return padded[top : top + mask.shape[0], left : left + mask.shape[1]]


CHANGES = {
    "healthy": lambda mask: mask,
    "0/255": lambda mask: mask * np.uint8(255),
    "shifted": lambda mask: shifted(mask, 0, 20),
    "blurred": lambda mask: np.arange(mask.size, dtype=np.uint8).reshape(mask.shape),
    "wide": lambda mask: mask[:, 8:],
}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of each kind of dataset."""
    folders = {}
    for name, change in CHANGES.items():
        folders[name] = tmp_path_factory.mktemp("blobs")
        builder = Blobs(data_dir=folders[name])
        builder.change = change
        builder.download_and_prepare()
    return folders


def fit(run_dir, data_dir, *arguments):
    base = ["fit", f"--run_dir={run_dir}", f"--data.data_dir={data_dir}"]
    return main([*base, *SMALL, "--callbacks=[]", *arguments])


@pytest.fixture(scope="module")
def trained(tmp_path_factory, built):
    run_dir = tmp_path_factory.mktemp("doctor") / "run"
    assert fit(run_dir, built["healthy"]) == 0
    return run_dir


@pytest.fixture
def run_dir(trained, tmp_path):
    """A copy of a healthy run, to be spoilt."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def examine(capsys, tmp_path):
    """Calls the command; gives exit status, faults by check, and the conclusion."""

    def examine(*arguments):
        output = f"--output={tmp_path / 'pictures'}"
        status = main(["doctor", *map(str, arguments), output, "--json"])
        found = json.loads(capsys.readouterr().out)
        examine.checks = [finding["check"] for finding in found["findings"]]
        faults = {
            finding["check"]: finding
            for finding in found["findings"]
            if finding["verdict"] == "fault"
        }
        return status, faults, found["conclusion"]

    return examine


class NaN(PixelLoss):
    """No number."""

    def per_pixel(self, labels, logits):
        return logits * np.nan


class NaiveCrossEntropy(PixelLoss):
    """By logarithms of probabilities, which are 0 sooner or later."""

    def per_pixel(self, labels, logits):
        found = tf.sigmoid(30 * logits)
        return -labels * tf.math.log(found) - (1 - labels) * tf.math.log(1 - found)


def with_relu():
    unet = build_unet(UNetConfig(depth=1, base_filters=4))
    relu = keras.layers.ReLU(name="last")(unet.outputs[0])
    return keras.Model(unet.inputs[0], relu)


def with_relu_in_convolution():
    unet = build_unet(UNetConfig(depth=1, base_filters=4))
    unet.get_layer("logits").activation = keras.activations.relu
    return keras.models.clone_model(unet)


def with_hidden_bound():
    """Never below 0, by two layers that are harmless by themselves."""
    unet = build_unet(UNetConfig(depth=1, base_filters=4))
    logits = unet.outputs[0]
    zeros = keras.layers.Subtract()([logits, logits])
    return keras.Model(unet.inputs[0], keras.layers.Maximum()([logits, zeros]))


@pytest.fixture
def parts(monkeypatch):
    """A module `faults` for class paths."""
    module = types.ModuleType("faults")
    for part in (
        *(NaN, NaiveCrossEntropy),
        *(with_relu, with_relu_in_convolution, with_hidden_bound),
    ):
        setattr(module, part.__name__, part)
    monkeypatch.setitem(sys.modules, "faults", module)


def checks_of_the_guide(column):
    """The checks of the table in docs/doctor.md with a cross in a column."""
    text = (pathlib.Path(__file__).parents[3] / "docs" / "doctor.md").read_text()
    place = {"before": 1, "of a run": 2}[column]
    rows = [row.split("|")[1:-1] for row in re.findall(r"^\|.*", text, re.M)]
    return {row[0].strip() for row in rows if row[place].strip() == "x"}


def part(name):
    return json.dumps({"class_path": f"faults.{name}"})


def test_healthy_data_are_called_healthy(trained, tmp_path, examine):
    """By a configuration for `fit`, with callbacks and a run that is yet to be."""
    config = yaml.safe_load((trained / "config.yaml").read_text())
    config["callbacks"] = [{"class_path": "unet_train.callbacks.Progress"}]
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**config, "run_dir": str(tmp_path / "new")}))
    status, faults, conclusion = examine("--config", path)
    assert (status, faults) == (0, {})
    assert conclusion == "Healthy: all 10 checks passed."
    assert set(examine.checks) == checks_of_the_guide("before")
    assert not (tmp_path / "new").exists()


def test_masks_of_0_and_255(built, examine):
    arguments = [*SMALL, f"--data.data_dir={built['0/255']}"]
    status, faults, conclusion = examine(*arguments)
    assert (status, set(faults)) == (1, {"mask values"})
    assert "because the masks are of 0 and 255, but foreground is [1]" in conclusion
    # The cure is what to type.
    options = re.search(r"Set (.*)\.$", conclusion)[1]
    assert options == '--data.foreground "[255]" --data.ignored "[]"'
    assert examine(*arguments, *shlex.split(options))[0] == 0


def test_masks_of_0_and_1_taken_for_255(built, examine):
    arguments = [*SMALL, f"--data.data_dir={built['healthy']}"]
    status, faults, conclusion = examine(
        *arguments, "--data.foreground=[255]", "--data.ignored=[]"
    )
    assert (status, set(faults)) == (1, {"mask values"})
    assert conclusion.endswith('Set --data.foreground "[1]" --data.ignored "[]".')


def test_a_map_of_instances_that_is_none(built, examine):
    """The photo itself."""
    arguments = ["--data.border_weight=1", "--data.instance_feature=image"]
    data_dir = f"--data.data_dir={built['healthy']}"
    status, faults, conclusion = examine(*SMALL, data_dir, *arguments)
    assert (status, set(faults)) == (1, {"data"})
    assert "is no grey PNG" in conclusion


@pytest.mark.parametrize(
    ("network", "text"),
    [
        ("with_relu", "the layer 'last' applies ReLU to the logits"),
        ("with_relu_in_convolution", "the layer 'logits' applies relu to the logits"),
        ("with_hidden_bound", "no logit is below 0 (the least is 0), as if a ReLU"),
    ],
)
def test_relu_before_the_logit(built, examine, parts, network, text):
    status, faults, conclusion = examine(
        *SMALL, f"--data.data_dir={built['healthy']}", f"--network={part(network)}"
    )
    assert (status, next(iter(faults))) == (1, "output layer")
    assert f"The masks are bad because {text}" in conclusion


def test_a_trained_network_with_relu(tmp_path, built, examine, parts):
    run_dir = tmp_path / "run"
    network = f"--network={part('with_relu')}"
    assert fit(run_dir, built["healthy"], network, "--trainer.max_steps=10") == 0
    status, faults, conclusion = examine("--run_dir", run_dir)
    assert (status, next(iter(faults))) == (1, "output layer")
    assert "the layer 'last' applies ReLU to the logits" in conclusion


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([f"--task.loss={part('NaN')}"], "the loss faults.NaN gives nan"),
        (
            [f"--task.loss={part('NaiveCrossEntropy')}"],
            "the loss faults.NaiveCrossEntropy gives",
        ),
        (["--task.learning_rate=1e30"], "the weights explode at learning rate 1e+30"),
    ],
)
def test_a_loss_that_is_no_number(built, examine, parts, arguments, text):
    data_dir = f"--data.data_dir={built['healthy']}"
    status, faults, conclusion = examine(*SMALL, data_dir, *arguments)
    assert (status, set(faults)) == (1, {"learning"})
    assert f"The masks are bad because {text}" in conclusion


def test_a_run_that_ended_by_it(built, examine, parts, tmp_path):
    run_dir = tmp_path / "run"
    assert fit(run_dir, built["healthy"], f"--task.loss={part('NaN')}") == 2
    status, faults, conclusion = examine("--run_dir", run_dir)
    assert (status, set(faults)) == (1, {"learning", "weights"})
    assert "The masks are bad because the loss faults.NaN gives nan" in conclusion
    assert "neither model.keras nor a checkpoint" in faults["weights"]["text"]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (0.999, "the threshold is too high: masks are black, 0.999 marks 0.0%"),
        (0.001, "the threshold is too low: too much is found, 0.001 marks"),
    ],
)
def test_a_wrong_threshold(run_dir, examine, wrong, text):
    path = run_dir / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "threshold": wrong}))
    status, faults, conclusion = examine("--run_dir", run_dir)
    assert (status, set(faults)) == (1, {"threshold"})
    assert f"The masks are bad because {text}" in conclusion
    options = re.search(
        r"`unet-train predict (--run_dir .* --threshold .*)`", conclusion
    )
    # The cure is what to type.
    if wrong > 0.5:
        assert examine(*shlex.split(options[1]))[0] == 0


def test_masks_shifted_by_20_pixels(built, examine, tmp_path):
    arguments = [*SMALL, f"--data.data_dir={built['shifted']}", "--steps=50"]
    status, faults, conclusion = examine(*arguments)
    assert (status, set(faults)) == (1, {"alignment"})
    text = "the masks are shifted against the images by 20 pixels to the right"
    assert f"The masks are bad because {text} (dx 20, dy 0)" in conclusion
    assert "Move the masks by dx -20, dy +0" in conclusion
    with PIL.Image.open(tmp_path / "pictures" / "alignment.png") as sheet:
        assert sheet.size == (1024, 768)


@pytest.mark.parametrize(
    ("kind", "check", "text"),
    [
        ("blurred", "mask values", "the masks have 256 different values"),
        ("wide", "data", "an image of 96 x 96 pixels has a mask of 96 x 88"),
    ],
)
def test_masks_that_are_none(built, examine, kind, check, text):
    status, faults, conclusion = examine(*SMALL, f"--data.data_dir={built[kind]}")
    assert (status, set(faults)) == (1, {check})
    assert f"The masks are bad because {text}" in conclusion


def test_a_damaged_file(built, examine, tmp_path):
    folder = shutil.copytree(built["healthy"], tmp_path / "damaged")
    (path,) = folder.rglob("*train.tfrecord*")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    status, faults, conclusion = examine(*SMALL, f"--data.data_dir={folder}")
    assert (status, set(faults)) == (1, {"data"})
    assert re.search(r"record \d+ of the split 'train' cannot be read", conclusion)


def test_a_network_that_cannot_learn(built, examine):
    status, faults, conclusion = examine(
        *SMALL, f"--data.data_dir={built['healthy']}", "--task.learning_rate=1e-9"
    )
    assert (status, set(faults)) == (1, {"learning"})
    assert "cannot learn a single batch by heart (one batch, 100 steps" in conclusion


def test_a_limit_of_time(built, examine):
    status, faults, conclusion = examine(
        *SMALL, f"--data.data_dir={built['healthy']}", "--minutes=1e-6"
    )
    assert (status, faults) == (0, {})
    assert conclusion == "Healthy: no fault was found. Worth a look: learning."
    # One step tells no time: it compiles.
    assert set(examine.checks) == checks_of_the_guide("before") - {"time"}


def test_a_run_that_has_learned_too_little(tmp_path, built, examine):
    run_dir = tmp_path / "run"
    arguments = ["--trainer.max_steps=2", "--task.learning_rate=1e-6"]
    assert fit(run_dir, built["healthy"], *arguments, "--model.norm=none") == 0
    status, faults, conclusion = examine("--run_dir", run_dir)
    assert (status, set(faults)) == (1, {"logits"})
    assert "does not tell foreground from background yet" in conclusion


def test_weights_that_are_no_numbers(run_dir, examine):
    model = keras.saving.load_model(run_dir / "model.keras")
    kernel = model.get_layer("bottleneck_conv_1").kernel
    kernel.assign(np.full(kernel.shape, np.nan))
    model.save(run_dir / "model.keras")
    status, faults, conclusion = examine("--run_dir", run_dir)
    assert (status, set(faults)) == (1, {"weights"})
    assert "the weight bottleneck_conv_1/kernel is no longer finite" in conclusion


def test_batch_norm_that_lags_behind(tmp_path, built, examine):
    run_dir = tmp_path / "run"
    momentum = "--model.norm_momentum=0.999"
    assert fit(run_dir, built["healthy"], momentum) == 0
    status, faults, conclusion = examine("--run_dir", run_dir)
    assert (status, next(iter(faults))) == (1, "batch norm")
    assert "the moving statistics of batch norm lag behind" in conclusion
    assert "--model.norm_momentum (0.9; it is 0.999 now)" in conclusion


def test_statistics_are_left_as_they_were(trained):
    model = keras.saving.load_model(trained / "model.keras")
    before = [weight.numpy() for weight in model.weights]
    tiles = [np.stack([draw(0)[0][:60, :60]])]
    masks = [np.stack([draw(0)[1][8:52, 8:52, np.newaxis]])]
    doctor.check_batch_norm(model, tiles, masks)
    assert tile_iou(model, tiles, masks, training=True) > 0.5
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


@pytest.mark.parametrize(
    ("dead", "verdict", "text"),
    [
        (0, "ok", "0.0% of"),
        (3, "warning", "most in encoder_0_conv_2 (75.0%)"),
        (4, "fault", "nothing gets through the layer encoder_0_conv_2"),
    ],
)
def test_dead_units(dead, verdict, text):
    keras.utils.set_random_seed(0)
    unet = build_unet(UNetConfig(depth=1, base_filters=4, norm="none"))
    layer = unet.get_layer("encoder_0_conv_2")
    layer.bias.assign([-1e6] * dead + [0.5] * (4 - dead))
    # Behind it, others may well die of it.
    model = keras.Model(unet.inputs[0], keras.layers.Conv2D(1, 1)(layer.output))
    finding = doctor.check_dead_units(
        model, [np.stack([draw(index)[0] for index in range(4)])]
    )
    assert (finding.verdict, text in finding.text) == (verdict, True)


def test_the_shift_is_measured_for_every_direction():
    drawn = [draw(index) for index in range(8)]
    for down, right in [(0, 0), (7, 0), (-20, 0), (0, 20), (12, -9), (-3, 3)]:
        maps = [
            boundary_map(image, shifted(mask, down, right)) for image, mask in drawn
        ]
        found = measure_shift(maps)
        # Where to move them back to.
        assert np.abs(np.add(found, (down, right))).max() <= 1
        finding = doctor.check_alignment(maps)
        assert finding.verdict == ("fault" if max(down, right, -down) > 5 else "ok")
    assert (
        "by 20 pixels up (dx 0, dy -20)"
        in doctor.check_alignment(
            [boundary_map(image, shifted(mask, -20, 0)) for image, mask in drawn]
        ).text
    )


def test_masks_of_other_images_tell_no_shift():
    images = [draw(index)[0] for index in range(8)]
    noise = np.random.default_rng(0).random((8, SIDE, SIDE))
    masks = [(each > 0.5).astype(np.uint8) for each in noise]
    maps = [boundary_map(*each) for each in zip(images, masks, strict=True)]
    finding = doctor.check_alignment(maps)
    assert (finding.verdict, "do not tell" in finding.text) == ("warning", True)
    assert doctor.check_alignment(maps[:3]).verdict == "ok"
    assert boundary_map(images[0], np.zeros((SIDE, SIDE), np.uint8)) is None


def survey(rows, **options):
    values = np.zeros((len(rows), 256), np.int64)
    for row, counts in zip(values, rows, strict=True):
        row[list(counts)] = list(counts.values())
    return doctor.Survey(DataOptions(**options), values, [], [])


@pytest.mark.parametrize(
    ("rows", "options", "text"),
    [
        ([{0: 9}], {}, "all masks are empty where foreground is [1]"),
        ([{0: 9, 1: 2, 7: 1}], {}, "the values [7] of the masks are not named"),
        ([{0: 9, 38: 2, 255: 1}], {}, "the masks are of 0 and 38, but foreground"),
        ([{0: 9, 3: 2, 4: 1}], {}, "the values [3, 4] of the masks are not named"),
        ([{0: 9, 255: 2}], {"foreground": [255], "ignored": []}, ""),
        ([{0: 9}, {0: 8, 1: 1}], {}, ""),
    ],
)
def test_values_of_masks(rows, options, text):
    found = {each.check: each for each in doctor.check_values(survey(rows, **options))}
    assert found["mask values"].verdict == ("fault" if text else "ok")
    assert text in found["mask values"].text


@pytest.mark.parametrize(
    ("rows", "verdict", "text"),
    [
        ([{0: 75, 1: 25}, {0: 100}], "ok", "12.5% of the labelled pixels"),
        ([{0: 999, 1: 1}], "warning", "0.10% of the labelled pixels"),
        ([{0: 1, 1: 99}], "warning", "the masks may be inverted"),
        ([{0: 1, 1: 1}, {255: 9}], "warning", "1 have nothing but ignored pixels"),
    ],
)
def test_share_of_foreground(rows, verdict, text):
    finding = doctor.check_foreground(survey(rows))
    assert (finding.verdict, text in finding.text) == (verdict, True)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"has_driver": False, "devices": []}, "there is no GPU here"),
        ({"devices": []}, "there is no device file"),
        ({"environment": {"CUDA_VISIBLE_DEVICES": "-1"}}, "='-1' hides nvidia0"),
        ({"environment": {"CUDA_VISIBLE_DEVICES": ""}}, "='' hides nvidia0"),
        ({"has_cuda": False}, "built without CUDA"),
        ({"missing": ["libcudnn"]}, "CUDA's libraries are missing: libcudnn"),
        ({"environment": {"CUDA_VISIBLE_DEVICES": "0"}}, "sees none, though there"),
    ],
)
def test_why_there_is_no_gpu(changed, text):
    seen = {
        "environment": {}, "has_driver": True, "devices": ["nvidia0"],
        "has_cuda": True, "missing": [],
    }  # fmt: skip
    seen.update(changed)
    reason, cure = machine.why_no_gpu(seen.pop("environment"), **seen)
    assert text in reason
    assert cure


def test_a_gpu_that_is_insisted_on(monkeypatch, built, examine):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind="": [])
    arguments = [*SMALL, f"--data.data_dir={built['0/255']}"]
    status, faults, _ = examine(*arguments, "--trainer.device=gpu")
    assert (status, set(faults)) == (1, {"mask values", "gpu"})
    conclusion = doctor.conclude([doctor.check_gpu("gpu")])
    assert conclusion.startswith("Training cannot start because ")
    assert doctor.check_gpu("cpu").verdict == "ok"


def test_memory_is_that_of_the_summary():
    config = UNetConfig(depth=2, base_filters=8)
    expected = Summary.of(config, 60)
    model = build_unet(config)
    one, three = (
        machine.training_bytes(model, tile_size=60, batch_size=n) for n in (1, 3)
    )
    weights = one - (three - one) / 2
    assert weights == 1.5 * 16 * expected.parameters
    # What is cropped, and the scaled image, the summary leaves out.
    assert 1 < (three - one) / 2 / (1.5e6 * expected.activation_mb) < 1.2


@pytest.mark.parametrize(
    ("available", "verdict"),
    [(None, "ok"), (10**10, "ok"), (10**9 + 1, "warning"), (10**8, "fault")],
)
def test_memory(available, verdict):
    assert doctor.check_memory(10**9, available, 4).verdict == verdict


def test_available_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind="": [])
    path = tmp_path / "meminfo"
    monkeypatch.setattr(machine, "_MEMORY", path)
    assert machine.available_bytes() is None
    path.write_text("MemTotal: 9 kB\nMemAvailable:    7 kB\n")
    assert machine.available_bytes() == 7 * 1024


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"max_steps": 400}, "400 steps, 40.0 epochs, in 13 minutes"),
        ({"max_epochs": 2}, "20 steps, 2.0 epochs, in 40 seconds"),
        ({"max_minutes": 300, "max_steps": 10**6}, "9,000 steps, 900.0 epochs, in 5.0"),
    ],
)
def test_time(limits, text):
    finding = doctor.forecast_time(
        build_unet(UNetConfig(depth=1, base_filters=1)), TrainerOptions(**limits),
        tile_size=60, batch_size=1, steps_per_epoch=10.0, seconds_a_step=2.0,
    )  # fmt: skip
    assert text in finding.text


def overfitted(**changed):
    logits = np.array([-1.0, 1.0, -1.0, 1.0], np.float32)
    defaults = {
        "losses": [1.0, 0.1], "ious": [0.1, 0.95], "logits": logits, "broke": "",
        "seconds_a_step": 1.0, "foreground": 0.3,
    }  # fmt: skip
    return Overfit(**{**defaults, **changed})


@pytest.mark.parametrize(
    ("changed", "verdict", "text"),
    [
        ({}, "ok", "one batch, 2 steps: loss 1 to 0.1, IoU 0.10 to 0.95"),
        ({"foreground": 0.0}, "warning", "none of the first 16 batches"),
        ({"ious": [0.1, 0.4]}, "warning", "IoU 0.10 to 0.40"),
        ({"losses": [1.0, 9.0]}, "fault", "the loss rises at learning rate 0.1"),
        ({"losses": [1.0] * 30, "ious": [0.1, 0.4]}, "fault", "cannot learn a single"),
        (
            {"losses": [1.0] * 29, "ious": [0.1, 0.4]},
            "warning",
            "29 steps: loss 1 to 1",
        ),
        ({"logits": np.zeros(4, np.float32)}, "fault", "every pixel the same logit"),
    ],
)
def test_learning(changed, verdict, text):
    finding = doctor.check_learning(
        overfitted(**changed), learning_rate=0.1, loss="bce"
    )
    assert (finding.verdict, text in finding.text) == (verdict, True)


def scores_of(background, foreground, threshold=0.5):
    scores = doctor.Scores(threshold)
    logits = np.array([*background, *foreground, 0.0], np.float32)
    mask = np.array([0] * len(background) + [1] * len(foreground) + [255], np.uint8)
    scores.add(mask, 1 / (1 + np.exp(-logits)))
    return scores


def test_scores_count_every_labelled_pixel():
    scores = scores_of([-5.0, -4.1, -4.1, 1.1], [2.1, 3.1, 4.1])
    assert scores.logits.histogram.sum(1).tolist() == [4, 3]
    assert scores.logits.medians == pytest.approx((-4.125, 3.125))
    assert scores.logits.lowest == pytest.approx(-5.0, abs=1e-4)
    assert scores.counts.iou == 3 / 4
    threshold, best = scores.best
    assert best == 1
    assert 1 / (1 + np.exp(-1.1)) < threshold < 1 / (1 + np.exp(-2.1))


@pytest.mark.parametrize(
    ("training_iou", "text"),
    [
        (0.9, "the masks are black and the network knows the training images by heart"),
        (0.1, "the masks are black and the network does not tell foreground from"),
    ],
)
def test_logits_that_do_not_separate(training_iou, text):
    poor = scores_of([-2.0] * 30 + [-1.0] * 30, [-2.0] * 5 + [-1.0] * 5)
    finding = doctor.check_logits(poor, training_iou=training_iou)
    assert finding.verdict == "fault"
    assert finding.text.startswith(text)
    # No threshold would help.
    assert doctor.check_threshold(poor, "run").verdict == "ok"


def test_predictions_that_are_no_numbers():
    scores = scores_of([-1.0, np.nan], [1.0])
    finding = doctor.check_logits(scores, training_iou=0.0)
    assert (finding.verdict, finding.text[:7]) == ("fault", "1 pixel")


def test_the_first_fault_is_the_cause():
    ok = doctor.Finding("data", "ok", "well")
    warning = doctor.Finding("time", "warning", "long")
    first, second = (
        doctor.Finding(name, "fault", f"of {name}", "Do.") for name in "ab"
    )
    assert doctor.conclude([ok]) == "Healthy: all 1 checks passed."
    assert doctor.conclude([ok, warning]).endswith("Worth a look: time.")
    assert doctor.conclude([warning, first, second]) == (
        "The masks are bad because of a. Do."
    )


def test_a_healthy_run_is_called_healthy(trained, capsys):
    folder = trained / "doctor"
    for _ in range(2):  # Its own pictures it draws anew.
        assert main(["doctor", f"--run_dir={trained}"]) == 0
        printed = capsys.readouterr().out
        checks = re.findall(r"^│ (\w[\w ]*?) +│", printed, re.M)
        assert set(checks) == checks_of_the_guide("of a run")
        assert re.search(
            r"\nNothing is broken\. How good it is is another matter: IoU 0\.[89]\d on"
            r" 8 validation images\.\n$",
            printed,
        )
        assert {path.name for path in folder.iterdir()} == {
            "alignment.png", "logits.png",
        }  # fmt: skip
    with PIL.Image.open(folder / "logits.png") as picture:
        picture.load()
        assert picture.size == (800, 360)


def test_pictures_of_others_are_left_alone(trained, capsys, tmp_path):
    for content in (b"mine", None):
        path = tmp_path / "logits.png"
        if content is None:
            PIL.Image.new("RGB", (2, 2)).save(path)
        else:
            path.write_bytes(content)
        before = path.read_bytes()
        assert main(["doctor", f"--run_dir={trained}", f"--output={tmp_path}"]) == 2
        assert f"{path} is there and was not drawn" in capsys.readouterr().err
        assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--run_dir=nowhere"], "nowhere is not the folder of a run"),
        ([*SMALL, "--images=1"], "`images` must be at least 2. Received: 1"),
        ([*SMALL, "--minutes=0"], "`minutes` must be above 0. Received: 0"),
        ([*SMALL, "--data.name=nix"], "TFDS finds no dataset 'nix'"),
        ([*SMALL, "--data.tile_size=31"], "Nearest valid: 30 and 32"),
        ([*SMALL, "--data.eval_split=nix"], "has no split 'nix'"),
    ],
)
def test_bad_input(built, capsys, tmp_path, monkeypatch, arguments, text):
    monkeypatch.chdir(tmp_path)
    data_dir = f"--data.data_dir={built['healthy']}"
    assert main(["doctor", *arguments, data_dir]) == 2
    assert text in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
