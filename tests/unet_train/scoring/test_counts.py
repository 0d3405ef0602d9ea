"""Counts and ratios against a plain loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unet_train.data.source import Example
from unet_train.scoring.accumulator import MaskScores
from unet_train.scoring.counts import PixelCounts, ThresholdCounts, false_area

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


# Thresholds themselves, their neighbours on either side, and whatever lies between.
thresholds = st.integers(0, 256).map(lambda k: np.float32(k / 256))
probabilities = st.one_of(
    st.sampled_from([np.float32(0), np.float32(1)]),
    thresholds,
    thresholds.map(lambda t: min(np.nextafter(t, np.float32(2)), np.float32(1))),
    thresholds.map(lambda t: max(np.nextafter(t, np.float32(-1)), np.float32(0))),
    st.floats(0, 1, width=32).map(np.float32),
)


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from([0, 1, 255]), probabilities), min_size=1),
        max_size=3,
    )
)
def test_curve_against_each_threshold_by_itself(images):
    curve = ThresholdCounts()
    for image in images:
        masks, values = zip(*image, strict=True)
        curve.add(np.array(masks, np.uint8), np.array(values, np.float32))
    pixels = [pixel for image in images for pixel in image]
    expected = {
        label: [
            sum(mask == label and float(p) >= k / 256 for mask, p in pixels)
            for k in range(257)
        ]
        for label in (0, 1)
    }
    np.testing.assert_array_equal(curve.thresholds, [k / 256 for k in range(257)])
    np.testing.assert_array_equal(curve.true_positives, expected[1])
    np.testing.assert_array_equal(curve.false_positives, expected[0])
    masks = [mask for mask, _ in pixels]
    union = np.add(expected[0], masks.count(1))
    np.testing.assert_array_equal(curve.iou, expected[1] / np.maximum(union, 1))
    assert (curve.foreground, curve.background) == (masks.count(1), masks.count(0))


def test_what_is_no_number_is_named():
    mask, probabilities = np.zeros(3, np.uint8), np.array([0.5, np.nan, np.inf])
    with pytest.raises(ValueError, match="2 of 3 probabilities are not finite"):
        ThresholdCounts().add(mask, probabilities.astype(np.float32))


def test_a_probability_on_a_threshold_counts_as_found():
    curve = ThresholdCounts()
    on = np.arange(257, dtype=np.float32) / 256
    curve.add(np.ones(257, np.uint8), on)
    np.testing.assert_array_equal(curve.true_positives, 257 - np.arange(257))
    below = np.nextafter(on[1:], np.float32(0))
    curve.add(np.zeros(256, np.uint8), below)
    np.testing.assert_array_equal(curve.false_positives, 256 - np.arange(257))


@pytest.mark.parametrize("threshold", [0.25, 0.3, 0.5, 0.99])
def test_metrics_of_images_together(threshold):
    rng = np.random.default_rng(3)
    metrics = MaskScores(threshold)
    every_mask, every_probability = [], []
    for side in (5, 9, 20):
        mask = rng.choice([0, 1, 255], (side, side + 1)).astype(np.uint8)
        values = rng.integers(0, 257, mask.shape).astype(np.float32) / 256
        metrics.add(Example(mask, mask[..., None]), values)
        every_mask.append(mask.ravel())
        every_probability.append(values.ravel())
    masks, found = np.concatenate(every_mask), np.concatenate(every_probability)
    found = found >= threshold
    tp, fp = (np.count_nonzero(found & (masks == label)) for label in (1, 0))
    fn = np.count_nonzero(~found & (masks == 1))
    assert tp > 0
    assert fp > 0
    assert metrics.result() == {
        "iou": tp / (tp + fp + fn),
        "dice": 2 * tp / (2 * tp + fp + fn),
        "precision": tp / (tp + fp),
        "recall": tp / (tp + fn),
    }
    on_or_above = np.searchsorted(metrics.curve.thresholds, threshold)
    assert metrics.curve.true_positives[on_or_above] == tp
    assert metrics.curve.false_positives[on_or_above] == fp


def test_metrics_of_nothing():
    assert MaskScores(0.5).result()["iou"] == 1


def test_false_area_is_the_mean_over_images_without_foreground():
    table = np.array([[5, 90, 1, 4], [0, 30, 0, 70], [0, 0, 0, 9], [0, 0, 2, 7]])
    assert false_area(table) == pytest.approx((0.3 + 0) / 2)
    # One that is ignored as a whole has no area.
    assert false_area(np.array([[0, 0, 0, 0, 7, 7], [0, 1, 0, 1, 7, 7]])) == 0.25
    assert np.isnan(false_area(table[:1]))
    assert np.isnan(false_area(np.zeros((0, 4), np.int64)))
