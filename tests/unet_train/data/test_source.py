"""Batches as a pure function of the step, and whole images."""

import hashlib
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


@pytest.mark.parametrize("start", [1, 4, 9])
def test_a_later_start_goes_on_with_the_same_batches(make_data, start):
    """Batches of 2 of 7 images: they straddle the epochs."""
    data = make_data(
        scale_jitter=0.3, aspect_jitter=0.2, foreground_share=0.5, color_jitter=0.3,
        image_size=50,
        rotation=10.0, elastic=2.0, copy_paste=0.5, cutout=0.4, blur=1.0, flip=True,
    )  # fmt: skip
    assert_equal(batches(data, 12)[start:], batches(data, 12 - start, start_step=start))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rotation": 10.0, "color_jitter": 0.3, "blur": 1.0, "cutout": 0.4},
        {"border_weight": 10.0, "elastic": 2.0},
    ],
)
def test_what_a_device_finishes_are_the_batches(make_data, options):
    """With border weights, which it cannot compute, there is nothing left to do."""
    data = make_data(**options)
    finished, unfinished = (
        next(iter(data.train_batches(margin=8, seed=0, finished=each)))
        for each in (True, False)
    )
    done = "border_weight" in options
    assert (unfinished[0].dtype.name, len(unfinished)) == (
        ("uint8", 3) if done else ("int32", 2)
    )
    found = data.finish(unfinished, margin=8)
    for one, other in zip(found, finished, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("options", "arguments", "digest"),
    [
        ({}, {}, "058968292393344a"),
        ({"copy_paste": 0.5, "flip": True}, {"start_step": 6}, "468e4f82fc9dff06"),
        ({"shuffle_buffer": 3, "batch_size": 3}, {"limit": 5}, "11aaa3f97d545502"),
        ({"copy_paste": 1.0}, {"limit": 5, "repeat_batches": 2}, "5b33c9661dfcebad"),
    ],
)
def test_the_tiles_of_a_seed_are_what_they_always_were(
    make_data, options, arguments, digest
):
    """Recorded before there was more than one dataset; only whole pixels are moved."""
    found = hashlib.sha256()
    for batch in batches(make_data(**options), 9, seed=5, **arguments):
        for part in batch:
            found.update(part.tobytes())
    assert found.hexdigest()[:16] == digest


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


def test_strange_mask_values_are_refused(make_data):
    data = make_data(foreground=[3], background=[0], ignored=[2])
    with pytest.raises(ValueError, match=r"values \[1, 255\], but foreground is \[3\]"):
        next(data.examples("train"))


def test_values_of_masks_by_name(make_data):
    plain = next(make_data().examples("train")).mask
    swapped = make_data(foreground=[0, 255], background=[1], ignored=[])
    mask = next(swapped.examples("train")).mask
    np.testing.assert_array_equal(mask, plain != 1)
    for (_, one), (_, other) in zip(
        batches(make_data(), 4), batches(swapped, 4), strict=True
    ):
        # Beyond the image nothing is known, whatever the dataset calls it.
        assert ((one == 1) <= (other == 0)).all()
        assert ((one == 0) <= (other == 1)).all()


def test_a_feature_that_is_not_there_is_named(make_data):
    with pytest.raises(ValueError, match=r"no feature 'masks', only \['image'"):
        make_data(mask_feature="masks")


def parts_of(data, workers, replicas, count):
    """What each machine reads, step by step: lists of pieces."""
    from unet_train.data.share import Share

    found = []
    for worker in range(workers):
        share = Share(workers=workers, worker=worker, replicas=replicas)
        pieces = batches(data, count * replicas, share=share)
        found.append(
            [pieces[i : i + replicas] for i in range(0, len(pieces), replicas)]
        )
    return found


@pytest.mark.parametrize(
    ("batch_size", "workers", "replicas"),
    [(4, 2, 1), (4, 1, 2), (3, 1, 2), (5, 2, 2), (7, 3, 1), (8, 2, 2)],
)
def test_machines_and_devices_share_each_batch(
    make_data, batch_size, workers, replicas
):
    """Without overlap, without loss, in order; uneven batches too."""
    data = make_data(batch_size=batch_size, color_jitter=0.2)
    whole = batches(data, 5)
    parts = parts_of(data, workers, replicas, 5)
    for step, batch in enumerate(whole):
        pieces = [piece for machine in parts for piece in machine[step]]
        assert all(len(piece[0]) for piece in pieces)
        for index in (0, 1):
            joined = np.concatenate([piece[index] for piece in pieces])
            np.testing.assert_array_equal(joined, batch[index])


def test_more_devices_than_examples_are_refused(make_data):
    from unet_train.data.share import Share

    with pytest.raises(ValueError, match="A batch of 2 does not go round 4 devices"):
        batches(make_data(batch_size=2), 1, share=Share(workers=2, replicas=2))


def test_a_limit_takes_the_first_images(make_data):
    data = make_data(batch_size=1)
    seen = {index_of(images[0]) for images, _ in batches(data, 12, limit=3)}
    first = [index_of(each.image) for each in data.examples("train", limit=3)]
    assert seen == set(first)
    assert data.steps_per_epoch(limit=3) == 3
    assert data.steps_per_epoch() == 7


@pytest.mark.parametrize("start", [0, 1, 2, 5])
def test_the_first_batches_over_and_over(make_data, start):
    data = make_data(batch_size=4, scale_jitter=0.2)
    first = batches(data, 2)
    found = batches(data, 5, repeat_batches=2, start_step=start)
    assert_equal(found, [first[(start + step) % 2] for step in range(5)])


@pytest.mark.parametrize("repeat", [None, 2])
def test_ids_of_a_batch(make_data, repeat):
    data = make_data(batch_size=3)
    stored = [index_of(each.image) for each in data.examples("train")]
    arguments = {"limit": 5, "repeat_batches": repeat}
    for step, (images, _) in enumerate(batches(data, 5, **arguments)):
        ids = data.ids_of_batch(step, seed=0, **arguments)
        # TFDS's ids end with the place of the example in its file.
        assert [stored[int(each.rsplit("__")[-1])] for each in ids] == [
            index_of(image) for image in images
        ]


def test_copy_paste_brings_foreground_of_another_image(make_data):
    options = {"batch_size": 7, "mirror": False, "image_size": 30}
    plain = batches(make_data(**options), 2)
    pasted = batches(make_data(**options, copy_paste=1.0), 2)
    more = 0
    for (images, masks), (new_images, new_masks) in zip(plain, pasted, strict=True):
        changed = (masks != new_masks)[..., 0]
        more += changed.sum()
        assert (new_masks[changed] == 1).all()
        window = (slice(None), slice(8, 22), slice(8, 22))
        kept = new_masks[..., 0] != 1
        np.testing.assert_array_equal(images[window][kept], new_images[window][kept])
        for index in range(7):
            # The red channel tells of which image a pixel is: of one or two.
            red = np.unique(new_images[index][..., 0] // 10)
            assert 1 <= len(red) <= 2
    assert more > 100


def test_weights_of_the_border_between_objects(make_data):
    from unet_train.data.border import border_weights

    data = make_data(border_weight=10.0, border_sigma=3.0, copy_paste=1.0)
    largest = 0.0
    for _, masks, weights in batches(data, 8):
        assert weights.shape == masks.shape
        for mask, found in zip(masks, weights, strict=True):
            expected = border_weights(mask, weight=10.0, sigma=3.0)
            np.testing.assert_array_equal(found, expected)
            largest = max(largest, found.max())
    assert largest > 1.5


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("mirror", False),
        ("color_jitter", 0.3),
        ("scale_jitter", 0.3),
        ("aspect_jitter", 0.3),
        ("foreground_share", 1.0),
        ("image_size", 44),
        ("flip", True),
        ("rotation", 20.0),
        ("elastic", 2.0),
        ("blur", 1.5),
        ("cutout", 0.5),
        ("copy_paste", 0.9),
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


def test_of_held_out_images_no_others_are_parsed(make_shards, parsed):
    data = make_shards(holdout=0.05)
    stored = [example.id for example in data.examples("train")]
    parsed.clear()
    assert [example.id for example in data.holdout_examples()] == stored[-35:]
    assert len(parsed) == 35
    parsed.clear()
    held_out = list(data.holdout_examples(limit=3))
    assert [example.id for example in held_out] == stored[-35:-32]
    assert len(parsed) == 3


def test_held_out_images_of_a_part_of_a_split(make_shards):
    split = "train[10:50]+validation[:20]"
    data = make_shards(train_split=split, holdout=0.1)
    stored = [example.id for example in data.examples(split)]
    assert [example.id for example in data.holdout_examples()] == stored[-6:]


def test_whole_images_at_some_places(make_shards, parsed):
    data = make_shards()
    stored = list(data.examples("validation"))
    parsed.clear()
    found = list(data.examples_at("validation", [39, 0, 17]))
    for example, place in zip(found, [39, 0, 17], strict=True):
        assert example.name == stored[place].name
        np.testing.assert_array_equal(example.image, stored[place].image)
        np.testing.assert_array_equal(example.mask, stored[place].mask)
    assert len(parsed) == 3
    assert list(data.examples_at("validation", [])) == []


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"copy_paste": 0.5, "color_jitter": 0.3},
        {"shuffle_buffer": 50, "border_weight": 10.0},
        {"batch_size": 1, "limit": 5},
        {"batch_size": 3, "limit": 20, "repeat_batches": 2},
    ],
)
def test_the_first_tiles_without_the_other_records(make_shards, parsed, options):
    arguments = {
        key: options[key] for key in ("limit", "repeat_batches") if key in options
    }
    data = make_shards(**{k: v for k, v in options.items() if k not in arguments})
    tiles = data.train_batches(margin=4, seed=3, **arguments).unbatch().batch(16)
    expected = [part.numpy() for part in next(iter(tiles))]
    parsed.clear()
    found = data.first_tiles(16, margin=4, seed=3, **arguments)
    assert len(parsed) == 16 * (2 if "copy_paste" in options else 1)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_names_of_a_batch_without_the_other_records(make_shards, parsed):
    """Red and green tell the number of the image, which is in the file's name."""
    data = make_shards()
    for step, (images, _) in enumerate(batches(data, 3)):
        parsed.clear()
        names = data.ids_of_batch(step, seed=0, limit=None, repeat_batches=None)
        assert len(parsed) == 4
        reds, greens = (np.median(images[..., c], axis=(1, 2)) for c in (0, 1))
        numbers = (256 * reds + greens).astype(int)
        assert names == [f"photo_{number}.jpg" for number in numbers]


@pytest.mark.parametrize(
    "splits", [{"train_split": "train[:0%]"}, {"eval_split": "validation[3:3]"}]
)
def test_an_empty_split_is_found_before_training(make_data, splits):
    (split,) = splits.values()
    with pytest.raises(ValueError) as error:
        make_data(**splits).check()
    assert f"The split {split!r} of 'discs' has no images. Name" in str(error.value)


def test_a_map_of_instances_is_looked_at_before_training(make_data):
    """A photo is none."""
    with pytest.raises(ValueError, match="is no grey PNG. Build the dataset with"):
        make_data(border_weight=1.0, instance_feature="image").check()


def test_a_feature_that_is_no_picture_is_named(make_data):
    with pytest.raises(ValueError, match="holds no pictures"):
        make_data(mask_feature="image/id")
