"""What a run computes in, asked for or chosen."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml

from unet_core import UNetConfig, build_unet
from unet_train import Trainer
from unet_train.training import devices, precision
from unet_train.training.precision import (
    PrecisionChoice,
    choose_precision,
    emulated,
    processor_flags,
)

OLD = {"fpu", "avx2", "avx512f"}
NEW = OLD | {"avx512_bf16"}


@pytest.fixture
def model():
    return build_unet(UNetConfig(depth=1, base_filters=2, padding="same"))


@pytest.fixture
def on_processor(monkeypatch):
    """Pretends another processor, on which passes take these seconds."""

    def pretend(flags, **seconds):
        monkeypatch.setattr(precision, "processor_flags", lambda: flags)
        monkeypatch.setattr(
            precision, "_seconds_a_pass", lambda model, each, shape: seconds[each]
        )

    return pretend


@pytest.fixture
def fit(tmp_path, make_task, make_data):
    def fit(folder, *, resume=False, model=None, **options):
        task = make_task(model)
        trainer = Trainer(tmp_path / folder, **options)
        trainer.fit(task, make_data(), resume=resume)
        return task

    return fit


@pytest.mark.parametrize(
    ("asked", "flags", "is_emulated"),
    [
        ("float32", OLD, False),
        ("mixed_bfloat16", OLD, True),
        ("mixed_bfloat16", NEW, False),
        ("mixed_bfloat16", OLD | {"amx_bf16"}, False),
        ("mixed_bfloat16", {"fp", "asimd", "bf16"}, False),
        ("mixed_bfloat16", {"fp", "asimd", "fphp", "asimdhp"}, True),
        ("mixed_float16", NEW, True),
        ("mixed_float16", OLD | {"avx512_fp16"}, False),
        ("mixed_float16", OLD | {"amx_fp16"}, False),
        ("mixed_float16", {"fp", "asimd", "fphp", "asimdhp"}, False),
        ("mixed_float16", {"fp", "asimd", "fphp"}, True),
        # Nothing tells.
        ("mixed_float16", set(), False),
    ],
)
def test_emulated(asked, flags, is_emulated):
    assert bool(emulated(asked, flags)) == is_emulated


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2\n", {"fpu", "avx2"}),
        ("Features\t: fp asimd bf16\n\nFeatures\t: fp asimd\n", {"fp", "asimd"}),
        ("processor : 0\n", set()),
    ],
)
def test_flags_that_every_processor_has(tmp_path, monkeypatch, text, flags):
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(precision, "_CPUINFO", path)
    assert processor_flags() == set()
    path.write_text(text)
    assert processor_flags() == flags


@pytest.mark.parametrize("asked", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_what_is_asked_for_is_taken(model, on_processor, asked):
    on_processor(OLD)
    choice = choose_precision(asked, model, tile_size=32, tiles=2, on_cpu=True)
    assert choice == PrecisionChoice(asked)
    assert str(choice) == asked


@pytest.mark.parametrize("flags", [OLD, set()])
def test_a_processor_without_bfloat16_is_not_measured(model, on_processor, flags):
    on_processor(flags)
    choice = choose_precision("auto", model, tile_size=32, tiles=2, on_cpu=True)
    assert str(choice) == "float32 (no instructions for bfloat16 here)"


@pytest.mark.parametrize(
    ("seconds", "chosen"), [(0.5, "mixed_bfloat16"), (0.9, "float32"), (2, "float32")]
)
def test_with_bfloat16_the_quicker_by_far_is_taken(
    model, on_processor, seconds, chosen
):
    on_processor(NEW, float32=1.0, mixed_bfloat16=seconds)
    choice = choose_precision("auto", model, tile_size=32, tiles=2, on_cpu=True)
    assert choice.precision == chosen
    assert choice.reason == f"bfloat16 takes {seconds:.2f} of float32's time here"
    conv = next(each for each in model.layers if isinstance(each, keras.layers.Conv2D))
    assert conv.compute_dtype == chosen.removeprefix("mixed_")


def test_measuring_leaves_the_network_as_it_is(monkeypatch):
    """Statistics and draws too, which move while it trains."""
    monkeypatch.undo()
    config = UNetConfig(depth=1, base_filters=2, norm="batch", dropout=0.5)
    model = build_unet(config)
    before = [each.numpy() for each in model.variables]
    assign, moved = type(model.variables[0]).assign, []

    def noting(variable, value):
        if tf.executing_eagerly():
            moved.append(not np.array_equal(variable.numpy(), value))
        return assign(variable, value)

    monkeypatch.setattr(type(model.variables[0]), "assign", noting)
    for each in ("float32", "mixed_bfloat16"):
        assert precision._seconds_a_pass(model, each, (2, 32, 32, 3)) > 0
    assert any(moved)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_what_is_timed_is_what_a_device_computes(model, monkeypatch):
    shapes = []
    monkeypatch.setattr(precision, "processor_flags", lambda: NEW)
    monkeypatch.setattr(
        *(precision, "_seconds_a_pass"),
        lambda model, each, shape: shapes.append(shape) or 1.0,
    )
    for size, tiles in ((160, 4), (160, 100), (572, 4), (1000, 1)):
        choose_precision("auto", model, tile_size=size, tiles=tiles, on_cpu=True)
    expected = [(4, 160), (15, 160), (1, 572), (1, 1000)]
    assert [shape[:2] for shape in shapes[::2]] == expected


def test_a_run_times_its_layers_as_they_train(fit, monkeypatch):
    """Of a batch of two in two parts one tile at a time, by quicker operations."""
    timed = []

    def seconds(model, each, shape):
        norms = [each for each in model.layers if "norm" in each.name]
        timed.append((shape[0], all("call" in vars(norm) for norm in norms)))
        return 1.0

    monkeypatch.setattr(precision, "processor_flags", lambda: NEW)
    monkeypatch.setattr(precision, "_seconds_a_pass", seconds)
    fit("run", model={"norm": "batch"}, max_steps=1)
    fit("parts", model={"norm": "batch"}, max_steps=1, accumulate=2)
    assert timed == [(2, True)] * 2 + [(1, True)] * 2


@pytest.mark.parametrize(
    ("capabilities", "chosen"),
    [
        ([(9, 0)], "mixed_bfloat16"),
        ([(8, 0), (8, 6)], "mixed_bfloat16"),
        ([(8, 0), (7, 5)], "mixed_float16"),
        ([(6, 1)], "float32"),
        ([], "mixed_bfloat16"),  # A TPU.
    ],
)
def test_accelerators(model, monkeypatch, capabilities, chosen):
    gpus = list(range(len(capabilities)))
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: gpus)
    monkeypatch.setattr(
        tf.config.experimental,
        "get_device_details",
        lambda gpu: {"compute_capability": capabilities[gpu]},
    )
    choice = choose_precision("auto", model, tile_size=32, tiles=2, on_cpu=False)
    assert choice.precision == chosen


def test_a_run_keeps_what_it_chose(fit, tmp_path, on_processor, capsys):
    on_processor(NEW, float32=1.0, mixed_bfloat16=0.5)
    fit("run", max_steps=1)
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["trainer"]["precision"] == "mixed_bfloat16"
    on_processor(OLD)  # Another machine; measured, it would be float32.
    task = fit("run", max_steps=2, resume=True)
    assert task.model.get_layer("encoder_0_conv_1").compute_dtype == "bfloat16"
    task = fit("run", max_steps=3, resume=True, precision="float32")
    assert task.model.get_layer("encoder_0_conv_1").compute_dtype == "float32"


def test_what_is_emulated_is_warned_of_once(fit, on_processor, monkeypatch, caplog):
    on_processor(OLD)
    speeds = {"mixed_bfloat16": 3.21, "float32": 110.4}
    monkeypatch.setattr(precision, "matrix_product_gflops", speeds.get)
    with caplog.at_level(logging.WARNING, "unet_train"):
        fit("run", max_steps=1, precision="mixed_bfloat16")
        fit("other", max_steps=1)
    ours = [each for each in caplog.records if each.name == "unet_train"]
    assert [each.getMessage() for each in ours] == [
        "this processor emulates bfloat16 (3.21 GFLOP/s in a matrix product, 110 in"
        " float32): it has no avx512_bf16, amx_bf16, bf16. Set --trainer.precision auto"
        " or float32."
    ]


def test_all_machines_do_as_the_first(fit, on_processor, monkeypatch):
    on_processor(OLD)
    monkeypatch.setattr(devices.Place, "of_first", lambda place, number: 2)
    task = fit("run", max_steps=1)
    assert task.model.get_layer("encoder_0_conv_1").compute_dtype == "float16"
