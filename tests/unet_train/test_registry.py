"""Parts by name and by class path; a network of somebody else's."""

import fractions
import json
import numbers

import keras
import pytest
import yaml

from unet_train.cli import main
from unet_train.registry import find_object, make_part

SMALL = [
    "--data.name=discs", "--data.tile_size=32", "--data.batch_size=2",
    "--trainer.max_steps=2", "--callbacks=[]",
]  # fmt: skip

# A small U with names that `build_unet` never gives.
NETWORK = """
import keras


def build(filters):
    def convolve(x, name):
        return keras.layers.Conv2D(filters, 3, padding="same", name=name)(x)

    image = keras.Input((None, None, 3))
    down = convolve(keras.layers.Rescaling(1 / 255)(image), "down")
    bottom = convolve(keras.layers.MaxPooling2D()(down), "bottom")
    up = keras.layers.UpSampling2D()(bottom)
    merged = keras.layers.Concatenate()([down, up])
    logits = keras.layers.Conv2D(1, 1, name="theirs_logits")(merged)
    return keras.Model(image, logits, name="theirs")


def build_two():
    return build(2)


class Halving(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.5 ** (step + 1)


def build_with_sigmoid():
    network = build(2)
    probability = keras.layers.Activation("sigmoid", name="end")(network.output)
    return keras.Model(network.input, probability)


def build_with_a_bug():
    return {}["missing"]
"""


def test_a_name_gets_what_is_given():
    known = {"half": lambda of: of / 2, "none": lambda of: None}
    assert make_part("half", known, of=3) == 1.5


def test_a_name_that_is_not_known():
    known = {"two": int, "one": int}
    with pytest.raises(ValueError, match=r"no 'three'.*\['one', 'two'\].*class_path"):
        make_part("three", known)


def test_a_class_path_gets_what_is_given_unless_it_says_otherwise():
    path = "fractions.Fraction"
    given = {"numerator": 3, "denominator": 7}
    assert make_part({"class_path": path}, {}, **given) == fractions.Fraction(3, 7)
    assert make_part({"class_path": path, "init_args": None}, {}) == 0
    spec = {"class_path": path, "init_args": {"denominator": 5}}
    assert make_part(spec, {}, **given) == fractions.Fraction(3, 5)


def test_a_class_path_may_be_all_there_is():
    given = {"numerator": 3, "denominator": 7}
    path = "fractions.Fraction"
    assert make_part(path, {"half": int}, **given) == fractions.Fraction(3, 7)
    assert make_part(path, {}, kinds=(numbers.Number,)) == 0
    assert make_part(path, {path: lambda: "the known one"}) == "the known one"


@pytest.mark.parametrize("path", ["fractions.gcd", "os.getcwd", "subprocess.Popen"])
def test_a_mere_path_calls_nothing_of_another_kind(path):
    """A configuration may be somebody else's."""
    fault = f"{path} is no class of the kind Number.*'class_path': {path!r}"
    with pytest.raises(ValueError, match=f"{fault}|Cannot import the class path"):
        make_part(path, {}, kinds=(numbers.Number,))


@pytest.mark.parametrize(
    "spec",
    [
        {"class_path": "fractions.Fraction", "init_arg": {}},
        {"init_args": {}},
        {"class_path": fractions.Fraction},
        {},
    ],
)
def test_a_description_with_other_keys(spec):
    with pytest.raises(ValueError, match="by `class_path`, a text, and `init_args`"):
        make_part(spec, {})


def test_arguments_that_do_not_fit():
    spec = {"class_path": "fractions.Fraction", "init_args": {"above": 1}}
    with pytest.raises(
        ValueError,
        match=r"Fraction does not take the arguments \{'above': 1\}.*'above'",
    ):
        make_part(spec, {})


def test_finds_an_object():
    assert find_object("fractions.Fraction") is fractions.Fraction


@pytest.mark.parametrize(
    "path", ["fractions.Broken", "no_such_module.Name", "Fraction", "", ".", "a..b"]
)
def test_a_path_to_nothing(path):
    with pytest.raises(ValueError, match="Cannot import the class path.*PYTHONPATH"):
        find_object(path)


@pytest.fixture
def fit(tmp_path, data_dir, monkeypatch):
    (tmp_path / "their_networks.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(tmp_path)

    def fit(*arguments):
        arguments = [f"--run_dir={tmp_path / 'run'}", *SMALL, *arguments]
        return main(["fit", f"--data.data_dir={data_dir}", *arguments])

    return fit


def test_a_network_by_class_path(fit, tmp_path, capsys):
    network = {"class_path": "their_networks.build", "init_args": {"filters": 5}}
    assert fit(f"--network={json.dumps(network)}") == 0
    model = keras.saving.load_model(tmp_path / "run" / "model.keras")
    assert model.name == "theirs"
    assert model.get_layer("bottom").filters == 5
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["network"] == network
    assert main(["evaluate", f"--run_dir={tmp_path / 'run'}", "--json"]) == 0
    assert '"images": 3' in capsys.readouterr().out
    # The saved configuration builds it again.
    arguments = [f"--config={tmp_path / 'run' / 'config.yaml'}", "--resume"]
    assert main(["fit", *arguments, f"--run_dir={tmp_path / 'run'}"]) == 0


def test_every_part_by_its_class_path_alone(fit, tmp_path):
    parts = {
        "network": "their_networks.build_two",
        "task.optimizer": "keras.optimizers.SGD",
        "task.loss": "keras.losses.BinaryCrossentropy",
        "task.schedule": "their_networks.Halving",
    }
    assert fit(*(f"--{name}={path}" for name, path in parts.items())) == 0
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["network"] == parts["network"]
    assert config["task"]["optimizer"] == parts["task.optimizer"]
    # The saved configuration is one.
    arguments = [f"--config={tmp_path / 'run' / 'config.yaml'}", "--resume"]
    assert main(["fit", *arguments, f"--run_dir={tmp_path / 'run'}"]) == 0


@pytest.mark.parametrize(
    ("option", "fault"),
    [
        ("--network=nix", "There is no 'nix'. Give a class path"),
        ("--task.loss=dise", r"There is no 'dise'. Give one of ['bce',"),
        ("--task.loss=keras.losses.Nix", "Cannot import the class path"),
        ("--task.loss=keras.optimizers.SGD", "is no class of the kind Loss. Give one"),
        ("--task.optimizer=keras.losses.Dice", "of the kind Optimizer. Give one, or"),
        ("--task.schedule=keras.optimizers.SGD", "of the kind LearningRateSchedule."),
    ],
)
def test_a_path_to_what_is_no_such_part(fit, tmp_path, capsys, option, fault):
    assert fit(option) == 2
    assert fault in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("network", "fault"),
    [
        ("{class_path: their_networks.build}", "does not take the arguments {}"),
        ("{class_path: their_networks.missing}", "Cannot import the class path"),
        ("{init_args: {filters: 5}}", "by `class_path`, a text, and `init_args`"),
        ("{class_path: their_networks.build_with_sigmoid}", "'end' at the end of the"),
    ],
)
def test_a_network_that_cannot_be_made(fit, tmp_path, capsys, network, fault):
    assert fit(f"--network={network}") == 2
    assert fault in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_bug_in_their_network_keeps_its_traceback(fit):
    with pytest.raises(KeyError, match="missing"):
        fit("--network={class_path: their_networks.build_with_a_bug}")
