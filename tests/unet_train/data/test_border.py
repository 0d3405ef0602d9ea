"""The paper's weight map against brute force."""

import numpy as np
import pytest
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


@pytest.mark.parametrize("value", [0, 1, 255])
def test_without_two_objects_all_count_alike(value):
    mask = np.full((5, 5, 1), value, np.uint8)
    np.testing.assert_array_equal(border_weights(mask, weight=10, sigma=5), 1)
