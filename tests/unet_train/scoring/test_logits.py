"""Pixels by their logit, against a plain loop."""

import doctest

import numpy as np
import pytest

from unet_train.scoring import logits
from unet_train.scoring.logits import LogitCounts


def test_against_a_loop():
    rng = np.random.default_rng(0)
    mask = rng.choice([0, 1, 255], (20, 30)).astype(np.uint8)
    found = rng.uniform(0, 1, mask.shape).astype(np.float32)
    counts = LogitCounts()
    counts.add(mask[:7], found[:7])
    counts.add(mask[7:], found[7:])
    expected = np.zeros((2, 128), np.int64)
    for label, p in zip(mask.flat, found.flat, strict=True):
        if label != 255:
            logit = np.log(p) - np.log1p(-p)
            expected[label, int((logit + 16) * 4)] += 1
    np.testing.assert_array_equal(counts.histogram, expected)
    background = found[mask == 0].astype(np.float64)
    lowest = (np.log(background) - np.log1p(-background)).min()
    assert counts.lowest == pytest.approx(lowest, rel=1e-5)


def test_certainty_lies_at_the_ends():
    counts = LogitCounts()
    counts.add(np.array([0, 1], np.uint8), np.array([0, 1], np.float32))
    assert counts.histogram[0, 0] == counts.histogram[1, -1] == 1
    assert counts.lowest == -16


def test_what_is_no_number_counts_for_nothing_else():
    """A ReLU before the logits is still seen: NaN is not a low logit."""
    counts = LogitCounts()
    mask = np.array([0, 0, 1, 255], np.uint8)
    counts.add(mask, np.array([0.75, np.nan, np.inf, -np.inf], np.float32))
    assert counts.not_finite == 3
    assert counts.histogram.sum(1).tolist() == [1, 0]
    assert counts.lowest == pytest.approx(np.log(3))
    assert counts.medians == (pytest.approx(1.125), pytest.approx(np.nan, nan_ok=True))


def test_nothing():
    counts = LogitCounts()
    counts.add(np.zeros(0, np.uint8), np.zeros(0, np.float32))
    assert counts.lowest == np.inf
    assert np.isnan(counts.medians).all()


def test_examples_in_docstrings():
    results = doctest.testmod(logits)
    assert (results.attempted > 0, results.failed) == (True, 0)
