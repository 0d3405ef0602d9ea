"""Tiles of one record: what is done to the image is done to its mask, and the same way.

The images are drawn so that their red channel tells the label of each pixel.
"""

import io

import numpy as np
import PIL.Image
import pytest
import scipy.ndimage
import tensorflow as tf
from tensorflow.python.framework.kernels import get_registered_kernels_for_op

from unet_train.data.border import border_weights
from unet_train.data.labels import explained
from unet_train.data.tiles import cut_tile, finish, make_tile
from unet_train.options import DataOptions

TILE, MARGIN = 24, 4
SEEDS = range(24)


@pytest.fixture(scope="module")
def record():
    """A square that lies in the upper left of an image as large as the window."""
    side = TILE - 2 * MARGIN
    mask = np.zeros((side, side, 1), np.uint8)
    mask[1:6, 2:6] = 1
    image = np.repeat(mask * 200, 3, axis=-1)
    return {
        "image": tf.io.encode_png(image),
        "segmentation_mask": tf.io.encode_png(mask),
    }


def tiles(records, **options):
    """A tile for each seed: its window of the image, and its mask."""
    options = DataOptions(tile_size=TILE, **{"mirror": False, **options})
    make = tf.function(
        lambda seed: make_tile(records, options, margin=MARGIN, seed=seed)
    )
    for seed in SEEDS:
        image, mask = make(tf.constant([seed, 7]))
        window = image[MARGIN : TILE - MARGIN, MARGIN : TILE - MARGIN]
        assert mask.shape == (*window.shape[:2], 1)
        yield window.numpy(), mask.numpy()[..., 0]


@pytest.mark.parametrize(
    ("options", "corners"),
    [
        ({}, {"upper left"}),
        ({"mirror": True}, {"upper left", "upper right"}),
        ({"flip": True}, {"upper left", "lower left"}),
        (
            {"mirror": True, "flip": True},
            {"upper left", "upper right", "lower left", "lower right"},
        ),
    ],
)
def test_image_and_mask_are_turned_together(record, options, corners):
    seen = set()
    for window, mask in tiles([record], **options):
        np.testing.assert_array_equal(window[..., 0] > 100, mask == 1)
        rows, columns = np.nonzero(mask == 1)
        vertical = "upper" if rows.mean() < len(mask) / 2 else "lower"
        horizontal = "left" if columns.mean() < len(mask) / 2 else "right"
        seen.add(f"{vertical} {horizontal}")
    assert seen == corners


@pytest.mark.parametrize(
    "options",
    [
        {"scale_jitter": 0.5},
        {"aspect_jitter": 0.5},
        {"rotation": 40.0},
        {"elastic": 3.0},
        {"image_size": 40},
    ],
)
def test_they_are_scaled_and_bent_together(record, options):
    """At the edge of the square a pixel may be on either side."""
    for window, mask in tiles([record], mirror=True, flip=True, **options):
        known = mask != 255
        differ = (window[..., 0] > 100) != (mask == 1)
        inside, outside = (
            scipy.ndimage.binary_dilation(each, np.ones((3, 3)))
            for each in (mask == 1, mask != 1)
        )
        edge = inside & outside
        assert not (differ & known & ~edge).any()


def test_what_is_pasted_brings_its_label(record):
    other = np.zeros((16, 16, 1), np.uint8)
    other[9:14, 9:14] = 1
    pasted = {
        "image": tf.io.encode_png(np.repeat(other * 250, 3, axis=-1)),
        "segmentation_mask": tf.io.encode_png(other),
    }
    counts = set()
    for window, mask in tiles([record, pasted], copy_paste=0.5):
        np.testing.assert_array_equal(window[..., 0] > 100, mask == 1)
        counts.add(int((mask == 1).sum()))
    assert counts == {20, 45}  # One square, or both.


def test_color_and_blur_leave_the_mask_alone(record):
    plain = [mask for _, mask in tiles([record])]
    varied = [mask for _, mask in tiles([record], color_jitter=0.5, blur=2.0)]
    np.testing.assert_array_equal(plain, varied)


def test_jitter_of_the_aspect_squeezes_as_likely_as_it_stretches(record):
    """The image is as large as the window: what it lacks after it is ignored."""
    sizes = [
        ((mask != 255).any(1).sum(), (mask != 255).any(0).sum())
        for _, mask in tiles([record], aspect_jitter=1.0)
    ]
    rows, columns = np.transpose(sizes)
    assert (np.maximum(rows, columns) == 16).all()
    for side in (rows, columns):
        assert side.min() in (11, 12)  # 16 over the root of two, or not much more.
        assert 4 <= (side < 16).sum() <= 20


def numbered_record(rows, shade, bits=16):
    """Two boxes side by side, that touch, one in green and one in blue."""
    side = TILE - 2 * MARGIN
    mask = np.zeros((side, side, 1), np.uint8)
    image = np.zeros((side, side, 3), np.uint8)
    numbers = np.zeros((side, side, 1), np.uint16 if bits == 16 else np.uint8)
    for number, columns in enumerate((slice(2, 5), slice(5, 10)), 1):
        square = rows, columns
        mask[square], numbers[square] = 1, number
        image[(*square, number)] = shade
    return {
        "image": tf.io.encode_png(image),
        "segmentation_mask": tf.io.encode_png(mask),
        "instance_map": tf.io.encode_png(numbers),
    }


INSTANCES = {
    "border_weight": 10.0, "instance_feature": "instance_map", "tile_size": TILE,
    "mirror": True, "flip": True,
}  # fmt: skip


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"copy_paste": 0.5},
        {"cutout": 0.7},
        {"rotation": 30.0, "elastic": 1.0},
        {"image_size": 22},
    ],
)
@pytest.mark.parametrize("bits", [8, 16])
def test_instances_go_where_the_image_goes(given, bits):
    """Pasted ones have the same numbers, and are others all the same."""
    records = [
        numbered_record(slice(3, 8), 240, bits),
        numbered_record(slice(6, 10), 120, bits),
    ]
    options = DataOptions(**INSTANCES, **given)
    make = tf.function(
        lambda seed: make_tile(records, options, margin=MARGIN, seed=seed)
    )
    matter, off, off_without = 0, 0.0, 0.0
    for seed in SEEDS:
        image, mask, weights = (each.numpy() for each in make(tf.constant([seed, 7])))
        colors = image[MARGIN : TILE - MARGIN, MARGIN : TILE - MARGIN, 1:]
        numbers = 1 + colors.argmax(-1, keepdims=True)
        if "copy_paste" in given:
            numbers += 2 * (colors.max(-1, keepdims=True) < 180)
        both = np.concatenate([mask, numbers], -1)
        expected = border_weights(both, weight=10.0, sigma=5.0)
        apart = border_weights(mask, weight=10.0, sigma=5.0)
        matter += np.abs(expected - apart).max() > 1
        off += np.abs(weights - expected).sum()
        off_without += np.abs(weights - apart).sum()
    assert matter > len(SEEDS) / 2
    assert off < off_without / 1000


def test_what_is_pasted_may_have_no_numbers():
    base, other = (
        numbered_record(slice(3, 8), 240),
        numbered_record(slice(10, 13), 240),
    )
    del other["instance_map"]
    options = DataOptions(**INSTANCES, copy_paste=1.0)
    pasted = DataOptions(**{**INSTANCES, "instance_feature": ""})
    _, mask, weights = make_tile(
        [base, other], options, margin=MARGIN, seed=tf.constant([3, 7]), pasted=pasted
    )
    found = np.unique(np.asarray(mask), return_counts=True)
    assert (np.asarray(mask) == 1).sum() == 40 + 24, found
    without = border_weights(np.asarray(mask), weight=10.0, sigma=5.0)
    assert np.abs(np.asarray(weights) - without).max() > 1


def test_instances_without_border_weights_are_refused():
    with pytest.raises(ValueError, match="`instance_feature` 'instance_map' is what"):
        DataOptions(instance_feature="instance_map")


def test_instances_are_not_read_where_nothing_is_learnt():
    also = [{"name": "further", "share": 0.5, "instance_feature": "numbers"}]
    options = DataOptions(**INSTANCES, also=also)
    for name in (None, "further", "another"):
        each = options.alone(name).each()
        assert [one.instance_feature for one in each] == [""] * len(each), name
    assert [one.name for one in options.alone(None).each()] == ["coco_cats", "further"]


def encoded_by_pillow(mode, format="PNG"):
    picture = PIL.Image.new(mode, (10, 10))
    if mode == "P":
        picture.putpalette([each for n in range(256) for each in (n, 0, 255 - n)])
    stream = io.BytesIO()
    picture.save(stream, format)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (encoded_by_pillow("P"), "no grey PNG"),
        (encoded_by_pillow("RGB"), "no grey PNG"),
        (encoded_by_pillow("L", "JPEG"), "no grey PNG"),
        (b"", "no grey PNG"),
        (encoded_by_pillow("L"), "another size"),
    ],
)
def test_what_is_no_map_of_instances_is_refused(encoded, message):
    record = {**numbered_record(slice(3, 8), 240), "instance_map": encoded}
    arguments = [record], DataOptions(**INSTANCES)
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        make_tile(*arguments, margin=MARGIN, seed=tf.constant([3, 7]))
    assert message in str(explained(raised.value))
    assert "leave --data.instance_feature out" in str(explained(raised.value))


EVERYTHING = {
    "flip": True, "scale_jitter": 0.3, "rotation": 15.0, "elastic": 3.0,
    "color_jitter": 0.3, "blur": 1.0, "cutout": 0.3, "copy_paste": 0.5,
    "foreground_share": 0.5,
}  # fmt: skip
ON_DEVICES = [{}, {"cutout": 0.3}, {"rotation": 15.0}, EVERYTHING]


def some_cut(record, count, options):
    cut = [
        cut_tile([record] * 2, options, margin=MARGIN, seed=tf.constant([seed, 7]))
        for seed in range(count)
    ]
    return tf.nest.map_structure(lambda *each: tf.stack(each), *cut)


@pytest.mark.parametrize("options", ON_DEVICES)
def test_a_batch_is_finished_as_each_tile_would_be_and_compiled_too(record, options):
    options = DataOptions(tile_size=TILE, **options)
    pixels, drawn = some_cut(record, 5, options)
    for jit_compile in (False, True):
        compute = tf.function(
            lambda *batch: finish(*batch, options, margin=MARGIN),
            jit_compile=jit_compile,
        )
        images, masks = compute(pixels, drawn)
        for seed in range(5):
            seeds = tf.constant([seed, 7])
            alone = make_tile([record] * 2, options, margin=MARGIN, seed=seeds)
            np.testing.assert_array_equal(masks[seed], alone[1])
            np.testing.assert_allclose(images[seed], alone[0], atol=jit_compile)


def registered(name):
    return get_registered_kernels_for_op(name).kernel


def graph_of_finish(record, options):
    options = DataOptions(tile_size=TILE, **options)
    batch = some_cut(record, 2, options)
    finished = tf.function(lambda *batch: finish(*batch, options, margin=MARGIN))
    return finished.get_concrete_function(*batch).graph


@pytest.mark.skipif(
    not any(each.device_type == "GPU" for each in registered("MatMul")),
    reason="this TensorFlow is built without GPUs",
)
@pytest.mark.parametrize("options", ON_DEVICES)
def test_a_gpu_finishes_tiles_without_the_host(monkeypatch, record, options):
    """By what TensorFlow has registered, which can be read without one.

    It has no kernel for some (to gather bytes), and computes others on the host, whose
    results are then copied (to add int32).
    """
    gpu = tf.config.LogicalDevice("/device:GPU:0", "GPU")
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda: [gpu])
    graph, found = graph_of_finish(record, options), 0
    for operation in graph.get_operations():
        if operation.type in ("Const", "Placeholder", "NoOp"):
            continue
        sizes = [each.shape.num_elements() for each in operation.outputs]
        if max(sizes) < TILE:
            continue  # Shapes, ends of slices.
        kernels = [
            kernel
            for kernel in registered(operation.type)
            if kernel.device_type == "GPU" and takes(kernel, operation)
        ]
        assert kernels, operation.type
        on_host = set(kernels[0].host_memory_arg)
        outputs = {each.name for each in operation.op_def.output_arg}
        assert not on_host & outputs, operation
        found += 1
    assert found >= 2


def takes(kernel, operation):
    return all(
        operation.node_def.attr[each.name].type in each.allowed_values.list.type
        for each in kernel.constraint
    )
