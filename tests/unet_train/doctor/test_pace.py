"""Progress by a clock of ours, and what the doctor says in words."""

import doctest
import math

import pytest

from unet_train.doctor import finding, words
from unet_train.doctor.pace import Pace


class Clock:
    """Seconds that pass when told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize(
    ("minutes", "left"),
    [
        (math.inf, ["20 minutes", "19 minutes", "8.3 hours"]),
        (10, ["10 minutes", "9 minutes", "0 seconds"]),
    ],
)
def test_lines_ten_seconds_apart(minutes, left):
    clock, lines = Clock(), []
    pace = Pace(lines.append, "step", 101, minutes=minutes, clock=clock)
    for done, passed in [(1, 9), (2, 24), (3, 33), (4, 48), (5, 1562)]:
        clock.now = 1000 + passed
        pace(done, ", loss 0.5")
    numbers = (2, 4, 5)
    assert lines == [
        f"step {number} of 101, loss 0.5, about {each} left"
        for number, each in zip(numbers, left, strict=True)
    ]


def test_the_time_is_up():
    clock = Clock()
    pace = Pace(print, "step", 9, minutes=2, clock=clock)
    clock.now += 119
    assert not pace.is_over
    clock.now += 1
    assert pace.is_over
    assert not Pace(print, "step", 9, clock=clock).is_over


@pytest.mark.parametrize("module", [finding, words])
def test_examples_in_docstrings(module):
    results = doctest.testmod(module)
    assert (results.attempted > 0, results.failed) == (True, 0)
