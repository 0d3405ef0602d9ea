"""The paper's weight map against brute force."""

import math

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unet_train.data.border import border_weights


def label(foreground):
    """Regions of four neighbours, by flooding."""
    labels = np.zeros(foreground.shape, int)
    count = 0
    for start in zip(*np.nonzero(foreground), strict=True):
        if labels[start]:
            continue
        count += 1
        stack = [start]
        while stack:
            row, column = stack.pop()
            inside = 0 <= row < labels.shape[0] and 0 <= column < labels.shape[1]
            if inside and foreground[row, column] and not labels[row, column]:
                labels[row, column] = count
                stack += [(row + 1, column), (row - 1, column)]
                stack += [(row, column + 1), (row, column - 1)]
    return labels, count


def brute_force(mask, weight, sigma):
    """Equation 2, pixel by pixel, by the distance to every pixel of every object."""
    labels, count = label(mask[..., 0] == 1)
    result = np.ones(mask.shape)
    for row, column in np.ndindex(*labels.shape):
        if mask[row, column, 0] != 0 or count < 2:
            continue
        distances = sorted(
            np.min(np.hypot(rows - row, columns - column))
            for number in range(1, count + 1)
            for rows, columns in [np.nonzero(labels == number)]
        )
        gain = weight * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * sigma**2))
        result[row, column] += gain
    return result


@settings(max_examples=50, deadline=None)
@given(
    arrays(np.uint8, (7, 9, 1), elements=st.sampled_from([0, 0, 0, 1, 255])),
    st.floats(0.5, 20),
    st.floats(0.5, 8),
)
def test_equals_brute_force(mask, weight, sigma):
    found = border_weights(mask, weight=weight, sigma=sigma)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, brute_force(mask, weight, sigma), rtol=1e-5)


def test_objects_that_touch_are_told_apart_by_their_numbers():
    """Two of them, one in two parts, and one that has no number."""
    labels, numbers = np.zeros((2, 12, 16), np.int32)
    labels[4:8, 2:10], labels[1, 1], labels[9:, 13:] = 1, 1, 2
    numbers[4:8, 2:5], numbers[4:8, 5:10], numbers[1, 1] = 700, 3, 700
    numbers[labels == 0] = 3  # Says nothing: there is no foreground.
    mask = np.stack([labels, numbers], -1)
    apart = np.select([numbers == 700, numbers == 3, labels == 2], [1, 2, 3], 0)
    apart[labels == 0] = 0
    distances = [scipy.ndimage.distance_transform_edt(apart != n) for n in (1, 2, 3)]
    nearest, second, _ = np.sort(distances, axis=0)
    gain = 10 * np.exp(-((nearest + second) ** 2) / (2 * 3.0**2))
    expected = 1 + np.where(labels == 0, gain, 0)
    found = border_weights(mask, weight=10.0, sigma=3.0)
    np.testing.assert_allclose(found[..., 0], expected, rtol=1e-6)
    # Above the line at which they touch, and next to either.
    assert found[3, 5, 0] > 8
    without = border_weights(mask[..., :1], weight=10.0, sigma=3.0)
    assert without[3, 5, 0] < 7


@pytest.mark.parametrize("value", [0, 1, 255])
def test_without_two_objects_all_count_alike(value):
    mask = np.full((5, 5, 1), value, np.uint8)
    np.testing.assert_array_equal(border_weights(mask, weight=10, sigma=5), 1)


def object_by_object(mask, weight, sigma):
    """A distance transform of the whole mask for every object: plain, and slow."""
    objects, count = scipy.ndimage.label(mask[..., 0] == 1)
    nearest = np.full((2, *objects.shape), np.inf)
    for number in range(1, count + 1):
        distance = scipy.ndimage.distance_transform_edt(objects != number)
        nearest = np.sort([*nearest, distance], axis=0)[:2]
    gain = weight * np.exp(-(nearest.sum(0) ** 2) / (2 * sigma**2))
    result = np.ones(mask.shape, np.float32)
    result[..., 0] += np.where(mask[..., 0] == 0, gain, 0.0)
    return result


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.floats(0.005, 0.5),
    st.integers(1, 3),
    st.floats(0.5, 8),
)
def test_equals_a_transform_for_every_object(seed, size, share, grain, sigma):
    """To the bit, for few objects and for hundreds, at any distance."""
    rng = np.random.default_rng(seed)
    draws = rng.random((-(-size[0] // grain), -(-size[1] // grain)))
    labels = np.select([draws < share, draws > 0.97], [1, 255], 0).astype(np.uint8)
    mask = labels.repeat(grain, 0).repeat(grain, 1)[: size[0], : size[1], None]
    np.testing.assert_array_equal(
        border_weights(mask, weight=10.0, sigma=sigma),
        object_by_object(mask, 10.0, sigma),
    )


@pytest.mark.parametrize("count", [2, 3, 8, 9, 2500])
def test_few_transforms_for_many_objects(monkeypatch, count):
    mask = np.zeros((100, 100, 1), np.uint8)
    rows, columns = np.divmod(np.arange(count), 50)
    mask[2 * rows, 2 * columns] = 1
    calls = []
    transform = scipy.ndimage.distance_transform_edt
    monkeypatch.setattr(
        scipy.ndimage,
        "distance_transform_edt",
        lambda *arguments: calls.append(0) or transform(*arguments),
    )
    border_weights(mask, weight=10.0, sigma=5.0)
    assert len(calls) == 2 * math.ceil(math.log2(count))
