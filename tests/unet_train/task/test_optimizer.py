"""The speed of a run, and the learning rate on its way."""

import numpy as np
import pytest

from unet_train.task.optimizer import WarmUp
from unet_train.training.timer import Timer


def test_warm_up_then_cosine_to_zero():
    schedule = WarmUp(0.1, schedule="cosine", warmup_steps=10)
    schedule.horizon.assign(100)
    rates = np.array([float(schedule(step)) for step in range(101)])
    assert rates[0] == pytest.approx(0.01, rel=1e-2)
    assert rates[:10].argmax() == 9
    assert rates[50] == pytest.approx(0.05, rel=1e-3)
    assert rates[100] == pytest.approx(0, abs=1e-8)
    assert (np.diff(rates[10:]) < 0).all()


def test_constant_and_endless():
    schedule = WarmUp(0.1, schedule="constant", warmup_steps=0)
    assert float(schedule(0)) == float(schedule(10_000)) == pytest.approx(0.1)
    endless = WarmUp(0.1, schedule="cosine", warmup_steps=0)
    assert float(endless(10_000)) == pytest.approx(0.1)


def test_timer_leaves_the_first_round_out_and_keeps_the_time_before():
    now = iter([100.0, 130.0, 132.0, 134.0, 135.0])
    timer = Timer(lambda: next(now), seconds=50, seconds_a_step=9)
    # The first round took 30 s: it compiled.
    assert timer.seconds_a_step(10, timer.seconds()) == 9
    assert timer.seconds_a_step(20, timer.seconds()) == 0.2
    assert timer.seconds_a_step(40, timer.seconds()) == pytest.approx(4 / 30)
    assert timer.seconds() == 50 + 35


def test_a_schedule_of_keras_after_the_warm_up():
    spec = {
        "class_path": "keras.optimizers.schedules.ExponentialDecay",
        "init_args": {
            "initial_learning_rate": 0.1, "decay_steps": 10, "decay_rate": 0.5,
        },
    }  # fmt: skip
    schedule = WarmUp(9.0, schedule=spec, warmup_steps=10)
    assert float(schedule(4)) == pytest.approx(0.5 * 0.1 * 0.5**0.4)
    assert float(schedule(20)) == pytest.approx(0.1 * 0.25)


def test_what_is_no_schedule():
    with pytest.raises(ValueError, match="Fraction, which cannot be called"):
        WarmUp(0.1, schedule={"class_path": "fractions.Fraction"}, warmup_steps=0)
