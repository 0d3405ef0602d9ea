"""Intervals, and the data sets that they are taken from."""

import numpy as np
import pytest

from unet_train.scoring import bootstrap
from unet_train.scoring.bootstrap import RESAMPLES, interval, resampled


def test_an_interval_has_95_percent_of_the_samples():
    assert interval(np.linspace(0, 1, 1001)) == pytest.approx((0.025, 0.975))


def test_data_sets_are_as_large_as_the_one_they_are_drawn_from(monkeypatch):
    """And the same ones, however many are drawn at once."""
    drawn = {}
    for at_once in (2**20, 70):
        monkeypatch.setattr(bootstrap, "_AT_ONCE", at_once)
        samples = resampled(
            7, lambda some: {"size": some.sum(1), "first": some[:, 0]}, seed=3
        )
        np.testing.assert_array_equal(samples["size"], np.full(RESAMPLES, 7))
        drawn[at_once] = samples["first"]
    np.testing.assert_array_equal(drawn[70], drawn[2**20])
    assert drawn[70].mean() == pytest.approx(1, abs=0.1)
