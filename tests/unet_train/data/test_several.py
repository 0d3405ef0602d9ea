"""Several datasets at once: discs, of which red is 10 or more, and shards, below."""

import itertools

import numpy as np
import pytest

from unet_train.data.pattern import Pattern
from unet_train.data.share import Share
from unet_train.options import DataOptions

AUGMENTED = {
    "scale_jitter": 0.3, "aspect_jitter": 0.2, "foreground_share": 0.5,
    "color_jitter": 0.2, "copy_paste": 0.5, "border_weight": 5.0, "batch_size": 3,
}  # fmt: skip


def tiles(data, count, **arguments):
    """The first tiles, one by one: image, mask and so on of each."""
    batches = data.train_batches(margin=8, **{"seed": 0, **arguments}).unbatch()
    return list(batches.take(count).as_numpy_iterator())


def is_shard(tile):
    return np.median(tile[0][..., 0]) < 10


def assert_equal(first, second):
    for one, other in zip(first, second, strict=True):
        for part, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, same)


@pytest.mark.parametrize("share", [0.25, 0.3, 0.5])
def test_tiles_are_from_each_in_the_pattern_of_the_shares(make_both, share):
    found = [is_shard(tile) for tile in tiles(make_both(share), 40)]
    parts = round(100 * share)
    assert found == Pattern((100 - parts, parts)).of(range(40)).astype(bool).tolist()
    assert sum(found) == round(40 * share)


@pytest.mark.parametrize("options", [{}, AUGMENTED])
def test_the_tiles_of_the_first_are_those_without_others(make_data, make_both, options):
    mixed = make_both(**options)
    numbers = Pattern(mixed.options.shares).of(range(24))
    own = [tile for tile, n in zip(tiles(mixed, 24), numbers, strict=True) if n == 0]
    assert_equal(own, tiles(make_data(**options), len(own)))


def test_each_image_of_the_others_once_in_a_pass_over_them(make_both):
    data = make_both(0.5, {"train_split": "train[:9]"}, batch_size=1)
    shards = [tile for tile in tiles(data, 36) if is_shard(tile)]
    orders = np.reshape([np.median(image[..., 1]) for image, _ in shards], (2, 9))
    assert set(orders[0]) == set(orders[1])
    assert len(set(orders[0])) == 9
    assert (orders[0] != orders[1]).any()


def test_datasets_of_the_same_images_are_each_in_an_order_of_its_own(make_data):
    same = [{"name": "discs", "share": 1 / 3}] * 2
    data = make_data(also=same, batch_size=1)
    reds = np.array([np.median(tile[0][..., 0]) for tile in tiles(data, 63)])
    numbers = Pattern(data.options.shares).of(range(63))
    orders = {tuple(reds[numbers == number][:7]) for number in range(3)}
    assert len(orders) == 3
    assert all(len(set(order)) == 7 for order in orders)


@pytest.mark.parametrize(
    ("start", "arguments"),
    [(1, {}), (11, {}), (5, {"limit": 4}), (11, {"repeat_batches": 4})],
)
def test_a_later_start_goes_on_with_the_same_tiles(make_both, start, arguments):
    data = make_both(0.3, **AUGMENTED)
    unbroken = tiles(data, 39, **arguments)
    resumed = tiles(data, 39 - 3 * start, start_step=start, **arguments)
    assert_equal(unbroken[3 * start :], resumed)


@pytest.mark.parametrize(("batch_size", "workers", "start"), [(4, 2, 0), (5, 3, 2)])
def test_machines_share_each_batch(make_both, batch_size, workers, start):
    options = {**AUGMENTED, "batch_size": batch_size}
    data = make_both(0.4, **options)
    whole = tiles(data, 4 * batch_size, start_step=start)
    parts = [Share(workers=workers, worker=worker) for worker in range(workers)]
    streams = [
        data.train_batches(margin=8, seed=0, start_step=start, share=part).take(4)
        for part in parts
    ]
    joined = []
    for pieces in zip(*(each.as_numpy_iterator() for each in streams), strict=True):
        assert {len(piece) for piece in pieces} == {3}
        for piece in pieces:
            joined += zip(*piece, strict=True)
    assert_equal(joined, whole)


@pytest.mark.parametrize("share", [0.01, 0.4])
def test_the_first_batches_over_and_over(make_both, share):
    """With a small share there is none of the other dataset in them."""
    data = make_both(share, batch_size=4, copy_paste=0.5)
    first = tiles(data, 8)
    assert any(map(is_shard, first)) == (share == 0.4)
    assert_equal(tiles(data, 24, repeat_batches=2), first * 3)
    assert_equal(tiles(data, 12, repeat_batches=2, start_step=3), (first * 3)[12:])


@pytest.mark.parametrize("arguments", [{}, {"limit": 4}, {"repeat_batches": 2}])
def test_the_first_tiles_and_names_without_the_other_records(
    make_both, parsed, arguments
):
    data = make_both(0.4, copy_paste=0.5, batch_size=3)
    expected = tiles(data, 15, **arguments)
    parsed.clear()
    found = data.first_tiles(15, margin=8, seed=0, **arguments)
    assert len(parsed) == 2 * 15
    assert_equal(zip(*found, strict=True), expected)
    assert len(data.first_tiles(1, margin=8, seed=0)[0]) == 1
    names = [
        data.ids_of_batch(
            step, seed=0, **{"limit": None, "repeat_batches": None, **arguments}
        )
        for step in range(5)
    ]
    for name, tile in zip(itertools.chain(*names), expected, strict=True):
        assert name.startswith("shards: photo_" if is_shard(tile) else "discs: discs-")


def test_names_of_a_later_batch_are_those_of_its_images(make_both):
    data = make_both(0.5, batch_size=4)
    for step in (0, 3, 8):
        names = data.ids_of_batch(step, seed=0, limit=None, repeat_batches=None)
        for name, tile in zip(names, tiles(data, 4, start_step=step), strict=True):
            if is_shard(tile):
                red, green = (int(np.median(tile[0][..., i])) for i in (0, 1))
                assert name == f"shards: photo_{256 * red + green}.jpg"


def test_what_is_pasted_is_of_the_first_dataset(make_both):
    options = {"batch_size": 8, "mirror": False}
    plain = tiles(make_both(0.5, **options), 64)
    pasted = tiles(make_both(0.5, **options, copy_paste=1.0), 64)
    sources = []
    for before, (image, mask) in zip(plain, pasted, strict=True):
        window = image[8:22, 8:22]
        changed = (window != before[0][8:22, 8:22]).any(-1)
        assert (mask[changed] == 1).all()
        reds = set(np.unique(window[changed][:, 0]).tolist())
        assert reds <= set(range(10, 71, 10))
        assert len(reds) <= 1
        assert not reds & {np.median(before[0][..., 0])}  # Another image.
        if is_shard(before):
            sources += reds
    assert len(sources) > 12
    assert len(set(sources)) == 7


def test_a_dataset_beside_itself_is_not_pasted_onto_its_own_images(make_data):
    further = {"name": "discs", "share": 0.5, "foreground": [9], "background": [0, 1]}
    data = make_data(also=[further], copy_paste=1.0, mirror=False)
    others = total = 0
    for (image, mask), number in zip(
        tiles(data, 28), Pattern((1, 1)).of(range(28)), strict=True
    ):
        pasted = image[8:22, 8:22][mask[..., 0] == 1][:, 0]
        if number and len(pasted):
            others += pasted[0] != np.median(image[..., 0])
            total += 1
    assert 0 < total / 2 < others


def test_an_epoch_is_a_pass_over_the_first(make_both):
    data = make_both(0.3, batch_size=2)
    assert data.steps_per_epoch() == 7 / (2 * 0.7) == 5
    assert data.steps_per_epoch(limit=4) == pytest.approx(4 / 1.4)
    seen = [tile for tile in tiles(data, 10) if not is_shard(tile)]
    assert len({np.median(image[..., 0]) for image, _ in seen}) == 7


def test_a_limit_is_of_each(make_both):
    found = tiles(make_both(0.5, batch_size=1), 40, limit=3)
    images = {(is_shard(tile), np.median(tile[0][..., 1])) for tile in found}
    shards = {green for is_one, green in images if is_one}
    assert len(shards) == 3
    reds = {np.median(tile[0][..., 0]) for tile in found if not is_shard(tile)}
    assert len(reds) == 3


def test_every_dataset_holds_out_its_share(make_both):
    data = make_both(0.5, holdout=0.3, batch_size=1)
    held_out = [example.name for example in data.holdout_examples()]
    assert len(held_out) == data.holdout_count() == 2 + 210
    assert [name.split(":")[0] for name in held_out] == ["discs"] * 2 + ["shards"] * 210
    assert [each.name for each in data.holdout_examples(limit=22)] == [
        *held_out[:1], *held_out[2:23],
    ]  # fmt: skip
    trained = {
        name
        for step in range(40)
        for name in data.ids_of_batch(step, seed=0, limit=None, repeat_batches=None)
    }
    assert not trained & set(held_out)
    assert data.steps_per_epoch() == 5 / 0.5


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(None, (3, 40)), (1, (1, 1)), (2, (1, 1)), (20, (1, 19)), (99, (3, 40))],
)
def test_validation_images_of_all(make_both, limit, expected):
    data = make_both()
    everything = [example.id for example in data.examples()]
    found = [example.id for example in data.examples(limit=limit)]
    assert found == [*everything[: expected[0]], *everything[3 : 3 + expected[1]]]
    assert len(everything) == len(set(everything)) == data.count() == 43
    if limit is not None:
        assert [everything[n] for n in data.places_within(limit)] == found


def test_whole_images_at_some_places(make_both, parsed):
    data = make_both()
    everything = list(data.examples())
    parsed.clear()
    places = [40, 1, 3, 2, 17]
    for example, place in zip(data.examples_at(None, places), places, strict=True):
        assert example.id == everything[place].id
        np.testing.assert_array_equal(example.image, everything[place].image)
    assert len(parsed) == len(places)
    assert list(data.examples_at("train", [])) == []


def test_the_same_dataset_twice_has_two_names(make_data):
    further = {"name": "discs", "share": 0.25, "eval_split": "train[:2]"}
    data = make_data(also=[further, {**further, "eval_split": "train[:1]"}])
    assert list(data.datasets) == ["discs", "discs (2)", "discs (3)"]
    assert data.eval_split == "validation, train[:2], train[:1]"
    names = [example.name for example in data.examples()]
    assert len(set(names)) == len(names) == 3 + 2 + 1


def test_a_dataset_has_its_own_values(make_both):
    values = {"foreground": [0], "background": [1], "ignored": [7]}
    pairs = [make_both(0.5), make_both(0.5, values)]
    plain, swapped = (tiles(each, 20) for each in pairs)
    for (image, mask), (_, other) in zip(plain, swapped, strict=True):
        expected = np.where(mask < 2, 1 - mask, mask) if is_shard((image,)) else mask
        np.testing.assert_array_equal(other, expected)
    masks = [list(each.examples())[-1].mask for each in pairs]
    np.testing.assert_array_equal(masks[0], 1 - masks[1])


def test_what_is_pasted_has_the_values_of_the_first(make_both):
    """Shards where all is background: their own labels are of no use for discs."""
    values = {"foreground": [9], "background": [0, 1], "ignored": [255]}
    data = make_both(0.5, values, copy_paste=1.0, batch_size=4)
    found = [mask for image, mask in tiles(data, 40) if is_shard((image,))]
    assert sum((mask == 1).any() for mask in found) > 5


def test_a_feature_of_its_own(make_both):
    with pytest.raises(ValueError, match="'shards' has no feature 'photo'"):
        make_both(further={"image_feature": "photo"})


@pytest.mark.parametrize(
    ("further", "text"),
    [
        ({"eval_split": "validation[3:3]"}, "of 'shards' has no images"),
        ({"train_split": "tests"}, "'shards' has no split 'tests'"),
        ({"foreground": [9], "background": [1]}, r"of 'shards' has the values \[0\]"),
    ],
)
def test_faults_are_found_before_training(make_both, further, text):
    with pytest.raises(ValueError, match=text):
        make_both(further=further).check()


def test_a_strange_value_within_training_names_its_dataset(make_both):
    data = make_both(0.5, {"foreground": [9], "background": [1]})
    with pytest.raises(ValueError, match="In 'shards' a mask of the training split"):
        data.first_tiles(4, margin=8, seed=0)


@pytest.mark.parametrize(
    ("also", "text"),
    [
        ([{"name": "b"}], "`also` needs a `name` and a `share`. Received: {'name'"),
        ([{"name": "b", "share": 0.1, "split": "x"}], "'b' in `also` has the .*split"),
        ([{"name": "b", "share": 0.0}], "`share` of the further dataset 'b' must lie"),
        ([{"name": "b", "share": 0.00004}], "four decimals. Received: 4e-05"),
        (
            [{"name": "b", "share": 0.5}, {"name": "c", "share": 0.5}],
            r"less than 1, or nothing is left for 'a'. Received: \[0.5, 0.5\]",
        ),
        ([{"name": "b", "share": 0.1, "foreground": [0]}], "must name different"),
    ],
)
def test_options_that_are_refused(also, text):
    with pytest.raises(ValueError, match=text):
        DataOptions(name="a", also=also)


def test_what_is_left_out_is_as_for_the_first():
    options = DataOptions(
        name="a", data_dir="A", train_split="t", tile_size=99,
        also=[{"name": "b", "share": 0.2, "foreground": [3]}],
    )  # fmt: skip
    first, second = options.each()
    assert (first.name, first.also, second.also) == ("a", [], [])
    assert (second.name, second.data_dir, second.train_split) == ("b", "A", "t")
    assert (second.foreground, first.foreground, second.tile_size) == ([3], [1], 99)
    assert options.shares == (8000, 2000)


def test_folders_are_kept_absolute(make_both, shards_dir, monkeypatch):
    monkeypatch.chdir(shards_dir.parent)
    data = make_both(further={"data_dir": shards_dir.name})
    assert data.options.also[0].data_dir == str(shards_dir)
