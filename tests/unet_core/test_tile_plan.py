"""Plans of tiles: each pixel once, on the pooling grid, within the budget, cheapest."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_core import Geometry
from unet_core.tile_plan import TilePlanner

geometries = st.builds(
    Geometry,
    depth=st.integers(1, 5),
    padding=st.sampled_from(["valid", "same"]),
    upsampling=st.sampled_from(["transposed", "resize"]),
)
sides = st.integers(1, 1500)


def check_axis(geometry, size, tile, spans):
    """Each pixel once, from tiles on the grid, where nothing beyond a tile counts."""
    whole = geometry.valid_size_for_output(size)
    first, last = -geometry.margin, whole - geometry.margin - tile
    pixels = [range(size)[span.output] for span in spans]
    assert list(itertools.chain(*pixels)) == list(range(size))
    for span, used in zip(spans, pixels, strict=True):
        assert (span.start - first) % geometry.step == 0
        assert first <= span.start <= last
        assert span.offset == used.start - span.start - geometry.margin
        # What a tile lacks is beyond the image, where the whole pass lacks it too.
        if span.start > first:
            assert geometry.receptive_field(used.start).start >= span.start
        if span.start < last:
            field = geometry.receptive_field(used.stop - 1)
            assert field.stop <= span.start + tile


def check_plan(geometry, height, width, plan):
    assert geometry.is_valid_size(plan.height)
    assert geometry.is_valid_size(plan.width)
    check_axis(geometry, height, plan.height, plan.rows)
    check_axis(geometry, width, plan.width, plan.columns)
    assert plan.count == len(list(plan.tiles))


@given(geometries, sides, sides, st.floats(1, 40))
@settings(max_examples=400, deadline=None)
def test_the_cheapest_plan(geometry, height, width, share):
    planner = TilePlanner(geometry)
    pixels = int(share * planner.smallest_tile**2)
    plan = planner.cheapest(height, width, pixels)
    check_plan(geometry, height, width, plan)
    assert plan.pixels <= pixels
    whole = planner.one_pass(height, width)
    if whole.pixels <= pixels:
        assert plan == whole


@given(geometries, sides, sides, st.integers(0, 60))
@settings(max_examples=150, deadline=None)
def test_plans_of_a_given_size(geometry, height, width, more):
    planner = TilePlanner(geometry)
    side = planner.smallest_tile + more * geometry.step
    plan = planner.of_size(height, width, side)
    check_plan(geometry, height, width, plan)
    assert max(plan.height, plan.width) <= side


@given(
    geometries.filter(lambda geometry: geometry.depth < 4),
    st.integers(1, 400),
    st.integers(1, 400),
    st.floats(1, 20),
)
@settings(max_examples=100, deadline=None)
def test_no_other_shape_of_tile_is_cheaper(geometry, height, width, share):
    planner = TilePlanner(geometry)
    pixels = int(share * planner.smallest_tile**2)
    plan = planner.cheapest(height, width, pixels)

    def candidates(size):
        whole = geometry.valid_size_for_output(size)
        tiles = range(planner.smallest_tile, whole, geometry.step)
        return [
            (tile, len(list(planner._spans(size, tile)))) for tile in [*tiles, whole]
        ]

    least = min(
        tile_height * tile_width * rows * columns
        for tile_height, rows in candidates(height)
        for tile_width, columns in candidates(width)
        if tile_height * tile_width <= pixels
    )
    assert plan.count * plan.pixels == least


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("depth", [3, 4])
@pytest.mark.parametrize("shape", [(20_000, 1), (1, 20_000), (700, 900), (5, 5)])
def test_the_smallest_budget_is_the_smallest_tile(depth, padding, shape):
    planner = TilePlanner(Geometry(depth, padding))
    smallest = planner.smallest_tile**2
    assert planner.cheapest(*shape, smallest).pixels <= smallest
    if min(shape) > 100:
        assert planner.cheapest(*shape, smallest - 1) is None
