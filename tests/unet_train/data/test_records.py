"""Records in TFDS's order, and those at some places without the others."""

import numpy as np
import pytest

from unet_train.data.records import Records

FEATURES = ["image", "segmentation_mask"]

SPLITS = [
    "train",
    "validation",
    "all",
    "train[:20%]",
    "train[10:50]+validation[3:]",
    "validation+train[5:-60]",
    "train[2shard:7shard]",
    "train[50:]+train[:70]",
    "train[699:]+validation[:1]",
]


def ids(records):
    return [record["tfds_id"].decode() for record in records.as_numpy_iterator()]


@pytest.fixture(scope="module")
def records(shards_dir):
    return Records("shards", str(shards_dir), FEATURES)


@pytest.mark.parametrize("split", SPLITS)
def test_places_are_those_of_the_order(records, split):
    """TFDS reads sixteen of the twenty files in turns, sixteen records of each."""
    stored = ids(records.read(split, named=True))
    assert len(stored) == records.count(split)
    assert ids(records.at(split, range(len(stored)), named=True)) == stored
    places = np.random.default_rng(0).choice(len(stored), 30)
    found = ids(records.at(split, places, named=True))
    assert found == [stored[place] for place in places]


def test_the_order_is_that_of_tfds_itself(records, shards_dir):
    """With its defaults, whatever they are: a run may be older than this version."""
    import tensorflow_datasets as tfds

    plain = tfds.load("shards", data_dir=str(shards_dir), split="train")
    stored = [record["image/filename"].decode() for record in tfds.as_numpy(plain)]
    found = [
        record[records.name_key].decode()
        for record in records.read("train", named=True).as_numpy_iterator()
    ]
    assert found == stored
    assert found != sorted(found, key=lambda name: int(name[6:-4]))


def test_no_other_records_are_parsed(records, parsed):
    list(records.at("train", [699, 3, 4, 5, 3]))
    assert len(parsed) == 5


def test_names_only_where_they_are_asked_for(records):
    (plain,) = records.at("train", [0])
    assert set(plain) == set(FEATURES)
    (named,) = records.at("train", [0], named=True)
    assert set(named) == {*FEATURES, "tfds_id", "image/filename"}


def test_without_names_of_files_the_id_is_the_name(records, data_dir):
    assert records.name_key == "image/filename"
    assert Records("discs", str(data_dir), FEATURES).name_key == "tfds_id"


@pytest.mark.parametrize("split", ["train[:0%]", "train[5:5]", "validation[40:]"])
def test_an_empty_split_is_named(records, split):
    with pytest.raises(ValueError) as error:
        records.read(split)
    assert str(error.value) == (
        f"The split {split!r} of 'shards' has no images. Name another one with"
        " --data.train_split, --data.eval_split or --split; the dataset has"
        " {'train': 700, 'validation': 40}."
    )
