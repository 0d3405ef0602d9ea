"""Counts and ratios against a plain loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unet_train.metrics import PixelCounts

shape = st.tuples(st.integers(1, 6), st.integers(1, 6))


@given(
    shape.flatmap(
        lambda s: st.tuples(
            hnp.arrays(np.uint8, s, elements=st.sampled_from([0, 1, 255])),
            hnp.arrays(np.bool_, s),
        )
    )
)
def test_against_a_loop(pair):
    mask, predicted = pair
    counts = PixelCounts()
    counts.add(mask, predicted)
    pixels = [(int(m), bool(p)) for m, p in zip(mask.flat, predicted.flat, strict=True)]
    tp, fp = pixels.count((1, True)), pixels.count((0, True))
    fn, tn = pixels.count((1, False)), pixels.count((0, False))
    assert counts == PixelCounts(tp, fp, fn, tn)
    assert counts.pixels == len(pixels) - np.count_nonzero(mask == 255)
    assert counts.iou == (tp / (tp + fp + fn) if tp + fp + fn else 1)
    assert counts.dice == pytest.approx(2 * counts.iou / (1 + counts.iou))
    assert counts.precision == (tp / (tp + fp) if tp + fp else 1)
    assert counts.recall == (tp / (tp + fn) if tp + fn else 1)


def test_images_add_up():
    counts = PixelCounts()
    counts.add(np.array([1, 1, 0]), np.array([True, False, True]))
    counts.add(np.array([255, 1]), np.array([True, True]))
    assert counts == PixelCounts(2, 1, 1, 0)
    assert counts.iou == 0.5


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"shape \(2,\).*shape \(3,\)"):
        PixelCounts().add(np.zeros(2, np.uint8), np.zeros(3, bool))
