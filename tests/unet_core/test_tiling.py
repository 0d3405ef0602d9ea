"""Tiles against one pass over the whole image."""

import itertools
import json
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_core import (
    Geometry,
    TiledPredictor,
    UNetConfig,
    build_unet,
    predict_image,
    presets,
    read_geometry,
    tiling,
)
from unet_core.tile_plan import TilePlanner


def random_model(depth=2, padding="valid", **options):
    """Random weights and random moving statistics, so that nothing is symmetric."""
    config = UNetConfig(depth=depth, base_filters=4, padding=padding, **options)
    return shaken(build_unet(config))


def shaken(model):
    rng = np.random.default_rng(1)
    for variable in model.variables:
        if "moving_mean" in variable.path or "bias" in variable.path:
            variable.assign(rng.normal(scale=0.2, size=variable.shape))
    return model


def random_image(height, width, channels=3):
    shape = (height, width, channels)
    return np.random.default_rng(2).integers(0, 256, shape, np.uint8)


def assert_tiles_agree(model, image, sizes=(288, 350), **options):
    """Tiles of several sizes, batched or not, against the whole pass."""
    whole = predict_image(model, image, tile_size=None, **options)
    assert whole.std() > 0.001  # Else nothing could differ.
    geometry = read_geometry(model)
    for size, budget in zip(sizes, itertools.cycle([1, 1 << 30])):
        tile_size = geometry.nearest_valid_sizes(size)[1]
        tiles = predict_image(
            model, image, tile_size=tile_size, memory_budget=budget, **options
        )
        np.testing.assert_allclose(tiles, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_tiles_equal_the_whole_pass(depth, padding, upsampling):
    # ELU, so that with four filters no unit is dead.
    model = random_model(depth, padding, upsampling=upsampling, activation="elu")
    assert_tiles_agree(model, random_image(300, 417))


@pytest.mark.parametrize("name", sorted(presets.PRESETS))
def test_tiles_equal_the_whole_pass_at_full_width(name):
    """Each preset as it is: sums over up to 1,024 channels.

    In tiles too small for oneDNN's usual convolution at the bottom the same numbers are
    added in another order, and the rounding of float32 shows.
    """
    config = presets.find_preset(name)
    model = shaken(build_unet(config))
    image = random_image(340, 300, config.input_channels)
    large = 364 if config.padding == "valid" else 272
    whole = predict_image(model, image, tile_size=None)
    assert whole.std() > 0.001
    assert_equal_in_tiles(model, image, whole, large, atol=1e-5)
    smallest, height, width = smallest_tile(model)
    corner = np.ascontiguousarray(image[:height, :width])
    whole = predict_image(model, corner, tile_size=None)
    assert_equal_in_tiles(model, corner, whole, smallest, atol=5e-5)


def smallest_tile(model):
    """Its side, and height and width of an image that takes more than one."""
    geometry = read_geometry(model)
    smallest = TilePlanner(geometry).smallest_tile
    inner = smallest - 2 * geometry.margin
    return smallest, inner + 2 * geometry.step, inner + 3 * geometry.step + 1


def assert_equal_in_tiles(model, image, whole, tile_size, *, atol):
    counts = set()
    tiles = predict_image(
        model,
        image,
        tile_size=tile_size,
        progress=lambda done, total: counts.add(total),
    )
    assert min(counts) > 1
    np.testing.assert_allclose(tiles, whole, atol=atol, rtol=0)


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_the_smallest_tiles_leave_no_seam(depth, padding, upsampling):
    """In float64, where rounding hides nothing; only the logits are float32."""
    config = UNetConfig(
        depth=depth, base_filters=4, padding=padding, upsampling=upsampling
    )
    model = shaken(build_unet(config, dtype="float64"))
    smallest, height, width = smallest_tile(model)
    image = random_image(height, width)
    whole = predict_image(model, image, tile_size=None)
    assert whole.std() > 0.001
    assert_equal_in_tiles(model, image, whole, smallest, atol=5e-7)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_tiles_equal_the_whole_pass_on_a_trained_net(padding):
    """Trained until it tells discs from squares, with moving statistics of its own."""
    rng = np.random.default_rng(0)
    config = UNetConfig(depth=3, base_filters=4, padding=padding, norm_momentum=0.5)
    model = build_unet(config)
    margin = read_geometry(model).margin
    side = 140 if padding == "valid" else 136
    y, x = np.mgrid[:side, :side]
    images = rng.integers(0, 120, (24, side, side, 3))
    masks = np.zeros((24, side, side, 1))
    for image, mask in zip(images, masks, strict=True):
        row, column = rng.integers(50, 90, 2)
        disc = (y - row) ** 2 + (x - column) ** 2 < 20**2
        image[disc], mask[disc] = image[disc] + 120, 1
        image[:20, 60:80] += 120  # A square, which is background.
    end = side - margin
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    inner = masks[:, margin:end, margin:end]
    history = model.fit(images, inner, batch_size=4, epochs=12, verbose=0)
    assert history.history["loss"][-1] < 0.7 * history.history["loss"][0]
    assert_tiles_agree(model, random_image(300, 333), sizes=(200, 260))


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("flips", "downs"), [(True, (1, -1)), ("horizontal", (1,))])
def test_flips_are_the_mean_over_the_mirror_images(padding, flips, downs):
    model, image = random_model(2, padding), random_image(150, 201)
    expected = np.mean(
        [
            predict_image(model, image[::down, ::right])[::down, ::right]
            for down in downs
            for right in (1, -1)
        ],
        axis=0,
    )
    found = predict_image(model, image, flips=flips)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(found - predict_image(model, image)).max() > 1e-3
    assert_tiles_agree(model, image, sizes=(100, 120), flips=flips)


def test_flips_that_there_are_not():
    with pytest.raises(ValueError, match="or \"horizontal\". Received: 'vertical'"):
        TiledPredictor(random_model(1), flips="vertical")


def test_progress_counts_tiles_and_ends_with_all():
    model, seen = random_model(1), []
    predictor = TiledPredictor(model, tile_size=60, memory_budget=1, flips=True)
    predictor(random_image(100, 140), progress=lambda *each: seen.append(each))
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert {total for _, total in seen} == {len(seen)}
    assert len(seen) == 4 * 3 * 4  # Tiles contribute 44 pixels.


def test_tiles_are_batched_as_the_budget_allows():
    model, seen = random_model(1), []
    budget = 5 * 60 * 60 * tiling._bytes_a_pixel(model, read_geometry(model))
    predictor = TiledPredictor(model, tile_size=60, memory_budget=budget)
    predictor(random_image(100, 140), progress=lambda done, _: seen.append(done))
    assert seen == [4, 8, 12]  # Powers of two.


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("flips", [False, True])
def test_images_whose_tiles_are_alike_share_passes(padding, flips):
    model, seen = random_model(1, padding, classes=3), []
    tile = Geometry(1, padding).valid_size_for_output(44)
    budget = 6 * tile * tile * tiling._bytes_a_pixel(model, read_geometry(model))
    predictor = TiledPredictor(model, tile_size=tile, memory_budget=budget, flips=flips)
    alone = TiledPredictor(model, tile_size=tile, memory_budget=1, flips=flips)
    sizes = [(44, 44), (44, 30), (44, 44), (100, 90), (43, 44), (44, 30), (44, 44)]
    images = [random_image(*size) + np.uint8(n) for n, size in enumerate(sizes)]
    forward = predictor._probabilities
    predictor._probabilities = lambda tiles: seen.append(tiles.shape) or forward(tiles)
    found = predictor.many(images)
    for image, each in zip(images, found, strict=True):
        np.testing.assert_allclose(each, alone(image), atol=1e-6, rtol=0)
    counts = [shape[0] for shape in seen if shape[1] == shape[2]]
    assert set(counts) <= {1, 2, 4}
    tiles = 4 + predictor._plan(100, 90).count
    assert sum(counts) == tiles * (4 if flips else 1)
    assert len(counts) < sum(counts) / 2
    assert predictor.many([]) == []


def test_one_fault_among_several_images_is_named():
    with pytest.raises(ValueError, match=r"Received uint8 \(8, 8\)"):
        TiledPredictor(random_model(1)).many(
            [random_image(8, 8), np.zeros((8, 8), np.uint8)]
        )


def test_tiles_of_grey_images_go_one_by_one():
    """In a batch, oneDNN would add up the first convolution in another order."""
    seen = []
    predictor = TiledPredictor(random_model(1, input_channels=1), tile_size=60)
    predictor(random_image(100, 140, 1), progress=lambda done, _: seen.append(done))
    assert seen == list(range(1, 13))


def test_the_largest_tile_keeps_within_the_budget():
    model = random_model(1)
    budget = 61 * 61 * tiling._bytes_a_pixel(model, read_geometry(model))
    assert TiledPredictor(model, memory_budget=budget).largest_tile == 60
    padded = random_model(1, padding="same")
    smallest = TiledPredictor(padded, memory_budget=1).largest_tile
    TiledPredictor(padded, tile_size=smallest)
    with pytest.raises(ValueError, match=f"Use {smallest} or more"):
        TiledPredictor(padded, tile_size=smallest - 2)
    grouped = random_model(1, norm="group", groups=2)
    assert TiledPredictor(grouped).largest_tile is None


def test_writes_into_what_it_is_given(tmp_path):
    model, image = random_model(1), random_image(50, 70)
    out = np.memmap(tmp_path / "out", np.float32, "w+", shape=(50, 70, 1))
    assert TiledPredictor(model)(image, out=out) is out
    np.testing.assert_array_equal(out, predict_image(model, image))
    strided = np.zeros((70, 50, 2), np.float32).transpose(1, 0, 2)[..., :1]
    assert predict_image(model, image, out=strided) is strided
    np.testing.assert_array_equal(out, strided)
    with pytest.raises(ValueError, match="Received list"):
        predict_image(model, image, out=[])
    with pytest.raises(
        ValueError, match=r"float32 array \(50, 70, 1\). Received float32 \(50,"
    ):
        TiledPredictor(model)(image, out=np.empty((50, 70), np.float32))


def test_group_norm_takes_whole_images_only():
    model = random_model(1, norm="group", groups=2)
    image = random_image(100, 100)
    whole = predict_image(model, image, tile_size=None)
    np.testing.assert_array_equal(predict_image(model, image), whole)
    # A tile that holds all of the image is one pass.
    np.testing.assert_array_equal(predict_image(model, image, tile_size=150), whole)
    layer = r"norm_1 \(GroupNormalization\)"
    refused = rf"{layer} sees .*100 x 100.*`tile_size=None`.* [\d,]+ bytes"
    with pytest.raises(ValueError, match=refused):
        predict_image(model, image, tile_size=60)
    with pytest.raises(ValueError, match=refused):
        predict_image(model, image, memory_budget=1000)


def test_layer_norm_agrees_in_tiles():
    """In float64: where its four channels are nearly alike it magnifies rounding."""
    config = UNetConfig(depth=2, base_filters=4, norm="layer")
    model = shaken(build_unet(config, dtype="float64"))
    assert_tiles_agree(model, random_image(200, 150), (100, 120))


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("budget", [1, 9_000])
def test_a_budget_too_small_for_any_tile(padding, budget):
    model, image = random_model(2, padding), random_image(120, 90)
    with pytest.raises(
        ValueError, match=r"fewer than a tile .*least [\d,]+ bytes"
    ) as it:
        predict_image(model, image, memory_budget=budget)
    enough = int(re.search(r"least ([\d,]+)", str(it.value))[1].replace(",", ""))
    predict_image(model, image, memory_budget=enough)


@pytest.mark.parametrize("budget", [0, -5, float("nan"), True, None, "2GB"])
def test_what_is_no_budget(budget):
    with pytest.raises(ValueError, match=r"number of bytes, such as .* Received: "):
        TiledPredictor(random_model(1), memory_budget=budget)


@pytest.mark.parametrize("budget", [8e9, 1e5, float("inf"), np.float32(1e6)])
def test_budgets_of_any_kind_of_number(budget):
    model, image = random_model(1), random_image(60, 70)
    found = predict_image(model, image, memory_budget=budget)
    np.testing.assert_allclose(found, predict_image(model, image), atol=1e-5)


@pytest.mark.parametrize("tile_size", [64.0, "full", "Auto", (60, 60), True, 0, -4])
def test_what_is_no_tile_size(tile_size):
    with pytest.raises(ValueError, match=r'whole number .* Or "auto", or None for one'):
        TiledPredictor(random_model(1), tile_size=tile_size)


def test_tile_sizes_of_numpy():
    model, image = random_model(2), random_image(90, 100)
    found = predict_image(model, image, tile_size=np.int64(60))
    np.testing.assert_array_equal(found, predict_image(model, image, tile_size=60))
    for too_small in (10, 20, 40):
        with pytest.raises(ValueError, match="all border|Nearest valid"):
            TiledPredictor(model, tile_size=np.int64(too_small))


def test_models_that_end_in_probabilities():
    """A sigmoid of a sigmoid is above one half everywhere."""
    model = random_model(1)
    with_layer = keras.layers.Activation("sigmoid", name="last")(model.output)
    with pytest.raises(ValueError, match="'last' .* applies a sigmoid.* logits"):
        TiledPredictor(keras.Model(model.input, with_layer))
    model = random_model(1, classes=3)
    with pytest.raises(ValueError, match="'last' .* applies a softmax"):
        TiledPredictor(
            keras.Model(model.input, keras.layers.Softmax(name="last")(model.output))
        )
    convolution = keras.layers.Conv2D(1, 1, activation="sigmoid", name="last")
    top = model.get_layer("logits").input
    with pytest.raises(ValueError, match="'last' .* applies a sigmoid"):
        TiledPredictor(keras.Model(model.input, convolution(top)))


def test_further_heads_are_left_aside():
    model = random_model(2, deep_supervision=1)
    assert len(model.outputs) == 2
    assert predict_image(model, random_image(40, 30)).shape == (40, 30, 1)


MEMORY = """
import json, sys
import numpy as np
from unet_core import TiledPredictor, UNetConfig, build_unet

def memory(kind):
    for line in open("/proc/self/status"):
        if line.startswith(kind):
            return int(line.split()[1]) * 1024

options, dtype, side, budget = json.loads(sys.argv[1])
config = UNetConfig(**options)
image = np.zeros((side, side, config.input_channels), np.uint8)
image[::2] = 7
predictor = TiledPredictor(build_unet(config, dtype=dtype), memory_budget=budget)
predictor(image[:200, :200])
open("/proc/self/clear_refs", "w").write("5")  # Forgets the peak so far.
before = memory("VmRSS")
result = predictor(image)
print(memory("VmHWM") - before - result.nbytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("options", "dtype", "side", "budget"),
    [
        ({"depth": 1, "base_filters": 2}, None, 10_000, 256 << 20),
        ({"depth": 3, "base_filters": 16}, None, 1500, 200 << 20),
        (
            {"depth": 2, "base_filters": 4, "input_channels": 60, "classes": 60},
            "float64",
            900,
            200 << 20,
        ),
        (
            {"depth": 3, "base_filters": 16, "norm": "layer", "padding": "same"},
            "mixed_float16",
            1500,
            300 << 20,
        ),
        (
            {
                "depth": 3,
                "base_filters": 16,
                "upsampling": "resize",
                "stochastic_depth": 0.2,
                "activation": "gelu",
            },
            "mixed_bfloat16",
            1500,
            200 << 20,
        ),
    ],
    ids=["100-megapixels", "float32", "channels", "layer", "bfloat16"],
)
def test_memory_stays_within_the_budget(options, dtype, side, budget):
    """The peak of a process, beside the image and the result."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, json.dumps([options, dtype, side, budget])],
        capture_output=True,
        text=True,
        check=True,
    )
    assert budget / 8 < int(done.stdout) < budget


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_every_size_of_image(padding):
    model = random_model(1, padding)
    tiled = TiledPredictor(model, tile_size=38 if padding == "valid" else 36)
    whole = TiledPredictor(model, tile_size=None)

    @settings(max_examples=60, deadline=None)
    @given(st.integers(1, 90), st.integers(1, 90))
    def check(height, width):
        image = random_image(height, width)
        result = tiled(image)
        assert result.shape == (height, width, 1)
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, whole(image), atol=1e-5, rtol=0)

    check()


def test_prediction_is_where_the_pixel_is():
    """The whole pass equals the plain model on a hand-mirrored image."""
    model = random_model(1)
    image = random_image(20, 30)
    padded = np.pad(image, ((8, 8), (8, 8), (0, 0)), mode="reflect")
    size = [Geometry(1).valid_size_for_output(side) for side in (20, 30)]
    assert size == list(padded.shape[:2])
    logits = model(padded[np.newaxis])[0].numpy()
    np.testing.assert_allclose(
        predict_image(model, image), 1 / (1 + np.exp(-logits)), atol=1e-6
    )


def test_classes_sum_to_one():
    model = random_model(1, classes=3)
    probabilities = predict_image(model, random_image(25, 40))
    assert probabilities.shape == (25, 40, 3)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_auto_takes_tiles_where_one_pass_is_too_large(padding):
    model, image = random_model(2, padding), random_image(700, 500)
    budget = 200 * 200 * tiling._bytes_a_pixel(model, read_geometry(model))
    predictor = TiledPredictor(model, memory_budget=budget)
    seen = []
    forward = predictor._probabilities
    predictor._probabilities = lambda tiles: seen.append(tiles.shape) or forward(tiles)
    result = predictor(image)
    assert len(seen) > 1
    assert all(count * height * width <= 200 * 200 for count, height, width, _ in seen)
    whole = predict_image(model, image, tile_size=None)
    np.testing.assert_allclose(result, whole, atol=1e-5, rtol=0)
    seen.clear()
    predictor(image[:90, :80])
    assert len(seen) == 1


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("shape", [(3, 700), (700, 20), (1, 300), (300, 1)])
def test_auto_on_long_narrow_images(padding, shape):
    model, image = random_model(2, padding), random_image(*shape)
    budget = 60 * 60 * tiling._bytes_a_pixel(model, read_geometry(model))
    whole = predict_image(model, image, tile_size=None)
    found = predict_image(model, image, memory_budget=budget)
    np.testing.assert_allclose(found, whole, atol=1e-5, rtol=0)


def test_one_graph_for_photos_of_all_sizes():
    predictor = TiledPredictor(random_model(1))
    for size in ((10, 10), (33, 47), (64, 20)):
        predictor(random_image(*size))
    assert predictor._probabilities.experimental_get_tracing_count() == 1


def test_images_of_other_libraries(tmp_path):
    model, image = random_model(1), random_image(30, 40)
    expected = predict_image(model, image)
    file = np.memmap(tmp_path / "image", np.uint8, "w+", shape=image.shape)
    file[:] = image
    file.flags.writeable = False
    for same in (tf.constant(image), np.asfortranarray(image), file):
        np.testing.assert_array_equal(predict_image(model, same), expected)


@pytest.mark.parametrize(
    ("image", "fault"),
    [
        ("photo.jpg", r"one image \[H, W, 3\]. Received .*\(\)"),
        (
            np.zeros((8, 8, 1), np.uint8),
            r"one image \[H, W, 3\].*uint8 \(8, 8, 1\).*convert",
        ),
        (np.zeros((8, 8), np.uint8), r"\(8, 8\)"),
        (np.zeros((0, 8, 3), np.uint8), r"\(0, 8, 3\)"),
        (np.zeros((8, 8, 3), np.float32), "uint8, 0 to 255. Received float32"),
    ],
)
def test_images_that_do_not_fit(image, fault):
    with pytest.raises(ValueError, match=fault):
        predict_image(random_model(1), image)


@pytest.mark.parametrize(
    ("padding", "tile_size", "fault"),
    [
        ("valid", 100, "Nearest valid: 188"),
        ("valid", 188, "all border.*Use 204 or more"),
        ("same", 200, "Nearest valid: 192 and 208"),
        ("same", 192, "all border.*Use 208 or more"),
    ],
)
def test_tile_sizes_that_do_not_fit(padding, tile_size, fault):
    with pytest.raises(ValueError, match=fault):
        TiledPredictor(random_model(4, padding), tile_size=tile_size)
