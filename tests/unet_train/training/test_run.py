"""When a run is validated, saved and over."""

import math
from unittest import mock

import pytest

from unet_train.options import TrainerOptions
from unet_train.training.run import Agenda


def agenda(steps_per_epoch=10.0, **options):
    return Agenda(TrainerOptions(**{"max_steps": 10**9, **options}), steps_per_epoch)


def at(step=0, seconds=0.0, seconds_a_step=0.0, stop_reason="", evaluated_step=0):
    return mock.Mock(
        step=step, seconds=seconds, seconds_a_step=seconds_a_step,
        stop_reason=stop_reason, evaluated_step=evaluated_step,
    )  # fmt: skip


def test_the_first_limit_ends_the_run():
    both = agenda(max_steps=100, max_minutes=1)
    assert not both.is_over(at(99, 59))
    assert both.is_over(at(100, 0))
    assert both.is_over(at(0, 60))
    assert both.is_over(at(1, 1, stop_reason="enough"))


def test_epochs_become_steps():
    assert agenda(max_epochs=2.5, steps_per_epoch=3.3).max_steps == 9  # 8.25 and more.
    assert agenda(eval_every_epochs=2, steps_per_epoch=3.3).eval_every == 7
    assert agenda(eval_every_epochs=0.01, steps_per_epoch=3.3).eval_every == 1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_steps": 100}, 100),
        ({"max_steps": None, "max_minutes": 1}, 30),  # 20 s left at 1 s a step.
        ({"max_steps": 20, "max_minutes": 1}, 20),
    ],
)
def test_horizon(options, expected):
    assert agenda(**options).horizon(at(10, 40, 1.0)) == expected


def test_horizon_is_the_step_limit_while_the_speed_is_unknown():
    assert agenda(max_steps=None, max_minutes=1).horizon(at()) == math.inf
    assert agenda(max_steps=9, max_minutes=1).horizon(at()) == 9


def test_a_round_ends_where_there_is_something_to_do():
    made = agenda(
        max_steps=95, steps_per_loop=10, eval_every_steps=25, checkpoint_every_steps=40
    )
    step, ends = 0, []
    while step < 95:
        step += made.steps(at(step))
        ends.append(step)
    assert ends == [10, 20, 25, 35, 40, 50, 60, 70, 75, 80, 90, 95]
    assert [s for s in ends if made.eval_is_due(at(s))] == [25, 50, 75]
    assert [s for s in ends if made.checkpoint_is_due(at(s))] == [40, 80]


def test_nothing_is_due_twice_nor_at_the_start():
    made = agenda(eval_every_steps=5)
    assert not made.eval_is_due(at(0))
    assert made.eval_is_due(at(5))
    assert not made.eval_is_due(at(5, evaluated_step=5))
    assert not agenda().eval_is_due(at(5))


def test_nothing_is_due_at_the_end():
    made = agenda(max_steps=10, eval_every_steps=5, checkpoint_every_steps=5)
    assert made.eval_is_due(at(5))
    assert made.checkpoint_is_due(at(5))
    assert not made.eval_is_due(at(10))
    assert not made.checkpoint_is_due(at(10))
