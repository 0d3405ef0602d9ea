"""Batches as a pure function of the step, and whole images."""

import itertools

import numpy as np
import pytest


def batches(data, count, **arguments):
    dataset = data.train_batches(margin=8, **{"seed": 0, **arguments})
    return [
        tuple(part.numpy() for part in batch)
        for batch in itertools.islice(dataset, count)
    ]


def index_of(tile):
    """The disc images carry their index in the red channel."""
    return int(np.median(tile[..., 0])) // 10 - 1


def assert_equal(first, second):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


def test_shapes(make_data):
    images, masks = batches(make_data(), 1)[0]
    assert images.shape == (2, 30, 30, 3)
    assert masks.shape == (2, 14, 14, 1)
    assert images.dtype == masks.dtype == np.uint8


def test_every_image_once_an_epoch_in_a_new_order(make_data):
    data = make_data(batch_size=1)
    order = [index_of(images[0]) for images, _ in batches(data, 21)]
    epochs = [order[start : start + 7] for start in (0, 7, 14)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


@pytest.mark.parametrize("start", [1, 3, 4, 7, 9])
def test_a_later_start_goes_on_with_the_same_batches(make_data, start):
    """Batches of 2 of 7 images: they straddle the epochs."""
    data = make_data(scale_jitter=0.3, color_jitter=0.3, image_size=50)
    assert_equal(batches(data, 12)[start:], batches(data, 12 - start, start_step=start))


def test_the_global_seed_does_not_matter_and_ours_does(make_data):
    import tensorflow as tf

    data = make_data()
    tf.random.set_seed(1)
    first = batches(data, 4)
    tf.random.set_seed(0)
    assert_equal(first, batches(data, 4))
    other = batches(data, 4, seed=1)
    assert any((a[0] != b[0]).any() for a, b in zip(first, other, strict=True))


def test_an_example_differs_from_epoch_to_epoch(make_data):
    seen = {}
    for images, _ in batches(make_data(batch_size=1), 28):
        seen.setdefault(index_of(images[0]), []).append(images[0])
    for tiles in seen.values():
        assert len({tile.tobytes() for tile in tiles}) > 1


def test_whole_images_keep_their_resolution(make_data, draw_disc):
    examples = list(make_data(image_size=20).examples("validation"))
    drawn = [draw_disc(index) for index in range(7, 10)]
    expected = {image.tobytes(): mask for image, mask in drawn}
    assert len(examples) == 3
    for example in examples:
        np.testing.assert_array_equal(example.mask, expected[example.image.tobytes()])


def test_limit_of_whole_images(make_data):
    assert len(list(make_data().examples("train", limit=2))) == 2


def test_unknown_split_names_those_there_are(make_data):
    with pytest.raises(ValueError, match=r"no split 'test', only \['train', 'valid"):
        make_data().count("test")


def test_part_of_a_split(make_data):
    assert make_data().count("train[:3]") == 3


def test_unknown_dataset_tells_how_to_build_it(tmp_path):
    from unet_train import SegmentationData

    with pytest.raises(ValueError, match="no dataset 'coco_kats'.*tfds build coco_kat"):
        SegmentationData("coco_kats", data_dir=str(tmp_path))


def test_strange_mask_values_are_refused():
    from unet_train.data import _check_mask

    with pytest.raises(ValueError, match=r"the values \[7, 128\]. Masks hold 0"):
        _check_mask(np.array([0, 1, 255, 128, 7], np.uint8), "x")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("mirror", False),
        ("color_jitter", 0.3),
        ("scale_jitter", 0.3),
        ("image_size", 44),
    ],
)
def test_every_option_changes_the_tiles(make_data, option, value):
    plain = batches(make_data(), 7)
    changed = batches(make_data(**{option: value}), 7)
    assert any((a[0] != b[0]).any() for a, b in zip(plain, changed, strict=True))


def test_a_small_buffer_shuffles_within_blocks(make_data):
    data = make_data(batch_size=1, shuffle_buffer=3)
    order = [index_of(images[0]) for images, _ in batches(data, 7)]
    stored = [index_of(example.image) for example in data.examples("train")]
    for start in (0, 3, 6):
        assert set(order[start : start + 3]) == set(stored[start : start + 3])


def test_data_dir_is_kept_as_an_absolute_path(make_data, data_dir, monkeypatch):
    monkeypatch.chdir(data_dir.parent)
    data = make_data(data_dir=data_dir.name)
    assert data.options.data_dir == str(data_dir)
