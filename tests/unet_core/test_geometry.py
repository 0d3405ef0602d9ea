"""Sizes, against a walk through the figure and against the running graph."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_core import UNetConfig, build_unet, geometry


def walk(size, depth):
    """The figure, step by step: output and crops, or None if the size does not fit."""
    skips = []
    for _ in range(depth):
        size -= 4
        if size <= 0 or size % 2:
            return None
        skips.append(size)
        size //= 2
    size -= 4
    crops = []
    for skip in reversed(skips):
        if size <= 0:
            return None
        size *= 2
        crops.append((skip - size) // 2)
        size -= 4
    return (size, tuple(reversed(crops))) if size > 0 else None


def test_numbers_of_the_paper():
    assert geometry.output_size(572) == 388
    assert geometry.margin() == 92
    assert geometry.crop_sizes() == (88, 40, 16, 4)
    assert geometry.smallest_valid_size() == 188
    assert geometry.nearest_valid_sizes(572) == (572, 572)
    assert geometry.nearest_valid_sizes(573) == (572, 588)
    assert geometry.nearest_valid_sizes(100) == (None, 188)
    assert geometry.valid_size_for_output(388) == 572
    assert geometry.valid_size_for_output(389) == 588


@pytest.mark.parametrize("depth", range(1, 7))
def test_every_size_against_the_walk(depth):
    for size in range(1, 1200):
        expected = walk(size, depth)
        assert geometry.is_valid_size(size, depth) == (expected is not None)
        if expected:
            found = geometry.output_size(size, depth), geometry.crop_sizes(depth)
            assert found == expected


@given(st.integers(1, 5000), st.integers(1, 7), st.sampled_from(["valid", "same"]))
def test_nearest_valid_sizes(size, depth, padding):
    below, above = geometry.nearest_valid_sizes(size, depth, padding)
    assert above >= size
    assert geometry.is_valid_size(above, depth, padding)
    assert above == geometry.smallest_valid_size(depth, padding) or not any(
        geometry.is_valid_size(each, depth, padding) for each in range(size, above)
    )
    if below is not None:
        assert below <= size
        assert geometry.is_valid_size(below, depth, padding)
        assert above - below in (0, geometry.step(depth))


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_against_the_running_graph(depth, padding):
    model = build_unet(UNetConfig(depth=depth, base_filters=1, padding=padding))

    @settings(max_examples=15, deadline=None)
    @given(st.integers(0, 6), st.integers(0, 6))
    def check(more_rows, more_columns):
        smallest = geometry.smallest_valid_size(depth, padding)
        sides = [
            smallest + more * geometry.step(depth) for more in (more_rows, more_columns)
        ]
        output = model(np.zeros((1, *sides, 3)))
        expected = [geometry.output_size(side, depth, padding) for side in sides]
        assert list(output.shape[1:3]) == expected

    check()


def test_invalid_size_names_the_nearest():
    with pytest.raises(
        ValueError, match="no input of side 600. Nearest valid: 588 and"
    ):
        geometry.output_size(600)
    with pytest.raises(ValueError, match="side 64. Nearest valid: 188"):
        geometry.output_size(64)


@pytest.mark.parametrize("depth", [1, 2])
def test_halo_is_as_far_as_an_input_pixel_counts(depth):
    """Change one pixel of the input and see how far the output changes."""
    model = build_unet(
        UNetConfig(depth=depth, base_filters=4, padding="same", norm="none")
    )
    side, rng = 16 * geometry.step(depth), np.random.default_rng(0)
    image = rng.integers(0, 256, (1, side, side, 3)).astype(np.float32)
    reach = 0
    for place in range(side // 2, side // 2 + geometry.step(depth)):
        for value in (0, 255):
            other = image.copy()
            other[0, :, place] = value
            difference = np.abs(model(other) - model(image)).max(axis=(0, 1, 3))
            changed = np.flatnonzero(difference)
            reach = max(reach, np.abs(changed - place).max())
    assert reach <= geometry.halo(depth)
    assert reach > geometry.halo(depth) - geometry.step(depth)
