"""Where a step is compiled with XLA without being asked."""

import logging

import keras
import pytest
import tensorflow as tf
import yaml

from unet_core import UNetConfig, build_unet
from unet_train import Trainer
from unet_train.data.share import Share
from unet_train.options import TrainerOptions
from unet_train.training import xla
from unet_train.training.devices import Place
from unet_train.training.xla import settle_xla


class Several:
    num_replicas_in_sync = 2


def place(*, is_cpu=False, strategy=None):
    strategy = strategy or tf.distribute.get_strategy()
    return Place(strategy, Share(), is_cpu, "Training on a GPU")


def settled(model=None, where=None, **options):
    model = model or build_unet(UNetConfig(depth=1, base_filters=2))
    options = TrainerOptions(max_steps=1, **options)
    return settle_xla(options, model, place=where or place()).jit_compile


def uncompilable():
    layer = keras.layers.Conv2D(1, 1)
    layer.supports_jit = False
    return keras.Sequential([keras.Input((None, None, 3)), layer])


@pytest.mark.parametrize(
    ("arguments", "compiles"),
    [
        ({}, True),
        ({"where": place(is_cpu=True)}, False),
        ({"where": place(strategy=Several())}, False),
        ({"deterministic": True}, False),
        ({"model": uncompilable()}, False),
        ({"jit_compile": False}, False),
        ({"jit_compile": True, "where": place(is_cpu=True)}, True),
        ({"jit_compile": True, "where": place(strategy=Several())}, True),
    ],
)
def test_on_one_gpu_unless_something_speaks_against_it(arguments, compiles):
    assert settled(**arguments) is compiles


def test_where_xla_does_not_work_a_run_does_without(monkeypatch, caplog):
    def fail(_):
        raise tf.errors.InternalError(None, None, "libdevice not found.\nAnd more.")

    monkeypatch.setattr(xla.tf, "exp", fail)
    with caplog.at_level(logging.WARNING, "unet_train"):
        assert settled() is False
    (record,) = caplog.records
    assert "are not compiled: libdevice not found. Training goes on" in (
        record.getMessage()
    )


def test_a_run_on_a_processor_is_not_compiled(tmp_path, make_task, make_data):
    Trainer(tmp_path, max_steps=1).fit(make_task(), make_data())
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert config["trainer"]["jit_compile"] is False


def test_no_other_word():
    with pytest.raises(ValueError, match="must be true, false or auto. Received: 'on'"):
        TrainerOptions(max_steps=1, jit_compile="on")
