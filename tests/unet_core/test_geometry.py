"""Sizes, against a walk through the figure and against the running graph."""

import collections
import doctest
import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_core import Geometry, UNetConfig, build_unet, read_geometry, stages, summary
from unet_core import geometry as geometry_module

KINDS = list(itertools.product(["valid", "same"], ["transposed", "resize"]))
geometries = st.builds(
    Geometry,
    depth=st.integers(1, 7),
    padding=st.sampled_from(["valid", "same"]),
    upsampling=st.sampled_from(["transposed", "resize"]),
)


def walk(size, geometry):
    """The figure, step by step: output and crops, or None if the size does not fit."""
    takes = 0 if geometry.padding == "same" else 2
    up_takes = takes if geometry.upsampling == "resize" else 0
    skips = []
    for _ in range(geometry.depth):
        size -= 2 * takes
        if size <= 0 or size % 2:
            return None
        skips.append(size)
        size //= 2
    size -= 2 * takes
    crops = []
    for skip in reversed(skips):
        size = 2 * size - up_takes
        if size <= 0:
            return None
        crops.append((skip - size) // 2)
        assert (skip - size) % 2 == 0
        size -= 2 * takes
    return (size, tuple(reversed(crops))) if size > 0 else None


def test_numbers_of_the_paper():
    paper = Geometry()
    assert paper.output_size(572) == 388
    assert paper.margin == 92
    assert paper.crop_sizes == (88, 40, 16, 4)
    assert paper.step == 16
    assert paper.smallest_valid_size == 188
    assert paper.nearest_valid_sizes(572) == (572, 572)
    assert paper.nearest_valid_sizes(573) == (572, 588)
    assert paper.nearest_valid_sizes(100) == (None, 188)
    assert paper.valid_size_for_output(388) == 572
    assert paper.valid_size_for_output(389) == 588


@pytest.mark.parametrize("depth", range(1, 9))
def test_closed_forms(depth):
    """Those of the documentation."""
    step = 2**depth
    for upsampling, cells, less in (("transposed", 6, 4), ("resize", 7, 5)):
        margin = cells * step - less
        valid = Geometry(depth, "valid", upsampling)
        same = Geometry(depth, "same", upsampling)
        assert (valid.margin, same.margin) == (margin, 0)
        assert (valid.step, same.step) == (step, step)
        assert (valid.smallest_valid_size + 4) % step == 0
        assert same.smallest_valid_size == step
        assert valid.halo == same.halo == margin + step - 1


@pytest.mark.parametrize(("padding", "upsampling"), KINDS)
@pytest.mark.parametrize("depth", range(1, 9))
def test_every_size_against_the_walk(depth, padding, upsampling):
    geometry = Geometry(depth, padding, upsampling)
    for size in range(1, 4000):
        expected = walk(size, geometry)
        assert geometry.is_valid_size(size) == (expected is not None)
        if expected:
            assert (geometry.output_size(size), geometry.crop_sizes) == expected


@given(geometries, st.integers(1, 5000))
def test_nearest_valid_sizes(geometry, size):
    below, above = geometry.nearest_valid_sizes(size)
    assert above >= size
    assert geometry.is_valid_size(above)
    smallest = geometry.smallest_valid_size
    assert above == smallest or not any(
        geometry.is_valid_size(each) for each in range(size, above)
    )
    if below is not None:
        assert below <= size
        assert geometry.is_valid_size(below)
        assert above - below in (0, geometry.step)


@functools.cache
def symbolic(geometry):
    """A graph of one filter, whose shapes Keras infers without running it."""
    return build_unet(
        UNetConfig(
            depth=geometry.depth,
            base_filters=1,
            norm="none",
            padding=geometry.padding,
            upsampling=geometry.upsampling,
        )
    )


@given(geometries, st.integers(0, 400), st.integers(0, 400))
@settings(max_examples=600, deadline=None)
def test_hundreds_of_sizes_against_the_graph(geometry, more_rows, more_columns):
    """Keras's own inference of shapes, through every layer."""
    sides = [
        geometry.smallest_valid_size + more * geometry.step
        for more in (more_rows, more_columns)
    ]
    shape = symbolic(geometry).compute_output_shape((1, *sides, 3))
    assert shape == (1, *map(geometry.output_size, sides), 1)


@pytest.mark.parametrize(("padding", "upsampling"), KINDS)
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_hundreds_of_sizes_against_the_running_graph(depth, padding, upsampling):
    """From the smallest size on, the graph runs where a size is valid, nowhere else."""
    geometry = Geometry(depth, padding, upsampling)
    smallest, step = geometry.smallest_valid_size, geometry.step
    signature = tf.TensorSpec((None, None, None, 3), tf.float32)
    graph = tf.function(symbolic(geometry), input_signature=[signature])
    valid = st.integers(0, 6).map(lambda more: smallest + more * step)
    seen = collections.Counter()

    @settings(max_examples=80, deadline=None)
    @given(valid | st.integers(smallest, smallest + 6 * step), valid)
    def check(height, width):
        image = tf.zeros((1, height, width, 3))
        valid_size = geometry.is_valid_size(height)
        if valid_size:
            inner = map(geometry.output_size, (height, width))
            assert graph(image).shape == (1, *inner, 1)
        else:
            with pytest.raises(tf.errors.InvalidArgumentError, match="[Cc]oncat"):
                graph(image)
        seen[valid_size] += 1

    check()
    assert min(seen[True], seen[False]) > 5, seen


@given(geometries)
@settings(max_examples=40, deadline=None)
def test_the_geometry_is_read_off_the_model(geometry):
    assert read_geometry(symbolic(geometry)) == geometry


def test_invalid_size_names_the_nearest():
    with pytest.raises(
        ValueError, match="no input of size 600. Nearest valid: 588 and"
    ):
        Geometry().output_size(600)
    with pytest.raises(ValueError, match="size 64. Nearest valid: 188"):
        Geometry().output_size(64)


def test_an_invalid_shape_names_both_sides():
    with pytest.raises(
        ValueError,
        match="height 426. Nearest valid: 412 and 428, nor of width 9. .* 188. Crop",
    ):
        Geometry().output_shape(426, 9)
    assert Geometry().output_shape(572, 588) == (388, 404)


@given(geometries, st.integers(0, 5), st.data())
@settings(max_examples=150, deadline=None)
def test_sizes_of_further_heads_against_the_graph(geometry, more, data):
    level = data.draw(st.integers(0, geometry.depth - 1))
    size = geometry.smallest_valid_size + more * geometry.step
    model = symbolic(geometry)
    # The head is a convolution 1x1 on this.
    stage = keras.Model(model.input, model.get_layer(f"decoder_{level}_conv_2").output)
    shape = stage.compute_output_shape((1, size, size, 3))
    assert shape[1] == geometry.head_size(size, level)


def test_heads_that_there_are_not():
    assert [Geometry().head_size(572, level) for level in range(4)] == [
        388,
        196,
        100,
        52,
    ]
    for level in (-1, 4):
        with pytest.raises(ValueError, match=f"0 to 3 for depth 4. Received: {level}"):
            Geometry().head_size(572, level)
    with pytest.raises(ValueError, match="Nearest valid"):
        Geometry().head_size(570, 1)


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_zeros_around_a_tile_reach_as_far_as_its_seam(depth, upsampling):
    """Not less, or tiles would differ; not a cell more, or work would be wasted."""
    geometry = Geometry(depth, "same", upsampling)
    model = positive(symbolic(geometry))
    stage = keras.Model(model.input, model.get_layer("decoder_0_conv_2").output)
    seam, step = geometry.seam, geometry.step
    # Dark, which gives 0, but for what lies around the tile.
    image = np.full((1, step, 4 * seam + 2 * step, 3), 127, np.float32)
    tile = slice(step, -step)
    image[:, :, :step] = image[:, :, -step:] = 255
    reached = np.asarray(stage(image))[0, 0, tile, 0] > 0
    assert not np.asarray(stage(image[:, :, tile])).any()
    assert not reached[seam:-seam].any()
    assert reached[seam - step : seam].any()
    assert reached[-seam : step - seam].any()


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"depth": 0}, "`depth` must be a whole number of at least 1. Received: 0"),
        ({"depth": 2.0}, "Received: 2.0"),
        ({"depth": "4"}, "Received: '4'"),
        ({"padding": "full"}, r"`padding` must be one of \['valid', 'same'\]"),
        (
            {"upsampling": "bilinear"},
            r"`upsampling` must be one of \['transposed', 're",
        ),
    ],
)
def test_what_is_no_geometry(fields, fault):
    with pytest.raises(ValueError, match=fault):
        Geometry(**fields)


def positive(model):
    """Every weight positive and no bias: whatever can count gives more than 0."""
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        values = rng.uniform(0.5, 1, variable.shape)
        variable.assign(0 * values if "bias" in variable.path else values)
    return model


@pytest.mark.parametrize(("padding", "upsampling"), KINDS)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_receptive_field_of_every_pixel_of_a_cell(depth, padding, upsampling):
    """Pixels of the input that change an output pixel, by a pulse at each of them."""
    geometry = Geometry(depth, padding, upsampling)
    model = positive(symbolic(geometry))
    # Rows do not matter: one row of cells, many columns.
    width = geometry.valid_size_for_output(2 * geometry.halo + 3 * geometry.step)
    height = geometry.smallest_valid_size
    output = geometry.output_size(width)
    first = -(-geometry.halo // geometry.step) * geometry.step
    base = np.full((1, height, width, 3), 127.0, np.float32)  # Below 0 once scaled.
    assert not np.asarray(model(base)).any()
    for pixel in range(first, first + geometry.step):
        assert pixel < output
        seen = []
        field = geometry.receptive_field(pixel)
        for column in (field.start - 1, field.start, field.stop - 1, field.stop):
            pulse = base.copy()
            pulse[0, :, column + geometry.margin] = 255
            seen.append(bool(np.asarray(model(pulse))[0, 0, pixel, 0]))
        assert seen == [False, True, True, False], (pixel, field)


@given(geometries, st.integers(0, 3000))
def test_the_halo_holds_every_receptive_field(geometry, pixel):
    field = geometry.receptive_field(pixel)
    assert pixel - field.start <= geometry.halo
    assert field.stop - 1 - pixel <= geometry.halo
    shifted = geometry.receptive_field(pixel + geometry.step)
    assert shifted.start - field.start == geometry.step
    assert len(shifted) == len(field)


def test_receptive_field_of_the_paper():
    fields = [Geometry().receptive_field(pixel) for pixel in range(16)]
    assert {len(field) for field in fields} == {188, 204}
    assert min(field.start for field in fields) == -92
    assert Geometry().receptive_field(0) == range(-92, 96)


@pytest.mark.parametrize("module", [geometry_module, stages, summary])
def test_examples_in_docstrings(module):
    results = doctest.testmod(module)
    assert results.attempted
    assert not results.failed
