"""Where a step is compiled with XLA without being asked."""

import logging
import shutil
import sys
import types

import keras
import pytest
import tensorflow as tf
import yaml

from unet_core import UNetConfig, build_unet
from unet_train import Callback, SegmentationTask, Trainer
from unet_train.data.share import ALL, Share
from unet_train.doctor import Scope, examine
from unet_train.options import TrainerOptions
from unet_train.training import trainer, xla
from unet_train.training.xla import explain_uncompiled, is_compiled


def settled(model=None, *, on_cpu=False, share=ALL, **options):
    model = model or build_unet(UNetConfig(depth=1, base_filters=2))
    options = TrainerOptions(max_steps=1, **options)
    return is_compiled(options, model, on_cpu=on_cpu, share=share)


def uncompilable():
    layer = keras.layers.Conv2D(1, 1)
    layer.supports_jit = False
    return keras.Sequential([keras.Input((None, None, 3)), layer])


@pytest.mark.parametrize(
    ("arguments", "compiles"),
    [
        ({}, True),
        ({"on_cpu": True}, False),
        ({"share": Share(replicas=2)}, False),
        ({"share": Share(workers=2)}, False),
        ({"deterministic": True}, False),
        ({"model": uncompilable()}, False),
        ({"model": keras.Sequential([uncompilable()])}, False),
        ({"jit_compile": False}, False),
        ({"jit_compile": True, "on_cpu": True}, True),
        ({"jit_compile": True, "share": Share(replicas=2)}, True),
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
    assert config["trainer"]["jit_compile"] == "auto"


def test_each_run_is_asked_anew(tmp_path, make_task, make_data, monkeypatch):
    """Of one trainer, whatever was right for the network before."""
    answers = iter([True, False])
    monkeypatch.setattr(trainer, "is_compiled", lambda *_, **__: next(answers))
    places = []

    class Ask(Callback):
        def on_fit_start(self, run):
            places.append(run.place)

    twice = Trainer(tmp_path, max_steps=1, callbacks=[Ask()])
    twice.fit(make_task(), make_data())
    shutil.rmtree(tmp_path)
    twice.fit(make_task(), make_data())
    assert [place.endswith(", XLA") for place in places] == [True, False]


class InPython(keras.losses.Loss):
    """A loss that TensorFlow calls back, which a run without XLA trains."""

    def call(self, y_true, y_pred):
        size = tf.numpy_function(lambda x: x, [tf.reduce_sum(y_true)], y_true.dtype)
        return tf.reduce_mean(y_pred**2, -1) + 0.0 * tf.cast(size, y_pred.dtype)


def test_what_xla_cannot_compile_is_said_with_the_cure(
    tmp_path, make_data, monkeypatch
):
    module = types.ModuleType("losses_of_mine")
    module.InPython = InPython
    monkeypatch.setitem(sys.modules, "losses_of_mine", module)

    def task():
        network = build_unet(UNetConfig(depth=1, base_filters=2))
        return SegmentationTask(network, loss="losses_of_mine.InPython")

    def fit(**options):
        trainer = Trainer(tmp_path / str(options), max_steps=1, **options)
        trainer.fit(task(), make_data())

    def ask_the_doctor(**options):
        options = TrainerOptions(max_steps=1, **options)
        examine(task(), make_data(), options, Scope(images=2, steps=2))

    for use in (fit, ask_the_doctor):
        use()
        cure = "cannot compile .* --trainer.jit_compile fal"
        with pytest.raises(ValueError, match=cure):
            use(jit_compile=True)


def test_other_errors_stay_as_they_are():
    error = tf.errors.InvalidArgumentError(None, None, "shapes differ")
    assert explain_uncompiled(error) is error


@pytest.mark.parametrize("word", ["on", 1, 0])
def test_no_other_word(word):
    with pytest.raises(ValueError, match="must be true, false or auto. Received: "):
        TrainerOptions(max_steps=1, jit_compile=word)
