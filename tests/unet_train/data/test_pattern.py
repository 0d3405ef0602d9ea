"""Which dataset a tile is from: shares that hold at any time."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unet_train.data.pattern import Pattern

SHARES = st.lists(st.integers(1, 60), min_size=1, max_size=6).map(tuple)


@settings(deadline=None)
@given(SHARES)
@example((7, 3))
@example((9999, 1))
@example((1, 1, 1, 1, 96))
@example((6667, 3333))
def test_of_the_first_tiles_each_dataset_has_its_share_to_within_one(shares):
    pattern = Pattern(shares)
    count = min(len(pattern.period) * 2 + 3, 25_000)
    numbers = pattern.of(range(count))
    done = np.arange(1, count + 1)
    for dataset, share in enumerate(shares):
        seen = np.cumsum(numbers == dataset) * sum(shares)
        assert (abs(seen - done * share) < sum(shares)).all()
    period = np.bincount(pattern.period, minlength=len(shares))
    assert [Fraction(int(n), len(pattern.period)) for n in period] == [
        Fraction(share, sum(shares)) for share in shares
    ]


@settings(deadline=None)
@given(SHARES, st.integers(0, 300), st.none() | st.integers(1, 90))
def test_what_comes_before_a_tile_is_what_was_given(shares, tile, repeat):
    pattern = Pattern(shares, repeat)
    start = tile - tile % repeat if repeat else 0  # It began anew there.
    given_before = pattern.of(range(start, tile))
    expected = np.bincount(given_before, minlength=len(shares))
    assert pattern.before(tile) == expected.tolist()


@pytest.mark.parametrize("repeat", [None, 6])
@pytest.mark.parametrize("start", [0, 5, 40])
def test_in_a_graph_it_is_the_same(start, repeat):
    pattern = Pattern((5, 3, 2), repeat)
    found = list(pattern.on_from(start).take(25).as_numpy_iterator())
    tiles, numbers = zip(*found, strict=True)
    assert list(tiles) == list(range(start, start + 25))
    assert list(numbers) == pattern.of(range(start, start + 25)).tolist()


def test_one_dataset_has_all():
    assert set(Pattern((10_000,)).of(range(50))) == {0}
    assert Pattern((10_000,)).before(10**15) == [10**15]
