"""Classes: their names, where they are from, what is refused."""

import numpy as np
import pytest
import tensorflow as tf

from unet_train import SegmentationData
from unet_train.data.border import border_weights
from unet_train.data.labels import (
    labels_of_mask,
    labels_of_tensor,
    require_logits,
    with_labels,
)
from unet_train.options import DataOptions

PETS = {"cat": [1, 7], "dog": [3]}


def test_values_become_labels_in_the_order_of_the_names():
    options = DataOptions(labels=PETS, background=[0, 2])
    mask = np.array([0, 1, 2, 3, 7, 255], np.uint8)
    expected = [0, 1, 0, 2, 1, 255]
    assert labels_of_mask(mask, options).tolist() == expected
    assert labels_of_tensor(tf.constant(mask), options).numpy().tolist() == expected
    with pytest.raises(ValueError, match=r"the values \[4\], but foreground is.*cat"):
        labels_of_mask(np.array([4], np.uint8), options)
    assert options.class_names == ("cat", "dog")
    assert DataOptions().class_names == ("foreground",)


def test_the_dataset_names_them(make_shapes):
    data = make_shapes()
    assert data.options.labels == {"disc": [1], "square": [2], "bar": [3]}
    labels = {int(v) for each in data.examples() for v in np.unique(each.mask)}
    assert labels == {0, 1, 2, 3, 255}
    one = make_shapes(foreground=[1, 3], background=[0, 2])
    assert one.options.labels is None
    some = make_shapes(labels={"bar": [3]}, background=[0, 1, 2])
    assert {int(v) for each in some.examples() for v in np.unique(each.mask)} <= {
        *(0, 1, 255)
    }
    with pytest.raises(ValueError, match=r"have 'disc' as \[3\], and the dataset"):
        make_shapes(labels={"bar": [1], "disc": [3]}, background=[0, 2])


def test_a_dataset_without_names_has_one_class(make_data):
    assert make_data().options.labels is None
    assert make_data(labels={"disc": [1]}).options.class_names == ("disc",)


def test_further_datasets(make_shapes, data_dir):
    discs = {"name": "discs", "share": 0.5, "data_dir": str(data_dir)}
    with pytest.raises(ValueError, match="'discs' in `also` names none. Give that one"):
        make_shapes(also=[discs])
    data = make_shapes(also=[{**discs, "labels": {"square": [1]}}])
    assert isinstance(data, SegmentationData)
    options = data.datasets["discs"].options
    assert options.labels == {"disc": [], "square": [1], "bar": []}
    masks = [each.mask for each in data.datasets["discs"].examples()]
    assert {int(v) for mask in masks for v in np.unique(mask)} == {0, 2, 255}
    with pytest.raises(ValueError, match=r"has the classes \['cat'\], and the first"):
        make_shapes(also=[{**discs, "labels": {"cat": [1]}}])
    with pytest.raises(ValueError, match="has a `foreground`, and the first one"):
        DataOptions(labels=PETS, also=[{**discs, "foreground": [1]}])
    also = [{**discs, "labels": {"cat": [1]}}]
    with pytest.raises(ValueError, match=r"\['discs'\] in `also` have `labels`, and"):
        make_shapes(foreground=[1, 2, 3], also=also)


def test_one_dataset_may_count_in_another_order():
    also = [{"name": "more", "share": 0.5}]
    options = DataOptions(also=also)
    names = ["background", "cat", "dog"], ["background", "dog", "cat"]
    first, more = with_labels(options, names).each()
    assert first.labels == {"cat": [1], "dog": [2]}
    assert more.labels == {"cat": [2], "dog": [1]}


@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        ({"cat": [1], "dog": [1]}, "`labels`, .* must name different values"),
        ({"cat": [1], "dog": [0]}, "must name different values"),
        ({"cat": [1], "dog": [300]}, r"lie in 0..255. Received: \[1, 300"),
        ({"cat": [1], "Cat": [2]}, "must be printable and differ"),
        ({"cat": [1], "background": [2]}, 'none be "background"'),
        ({"cat ": [1]}, "without spaces around"),
        ({"": [1]}, "must be printable"),
        ({}, "must name 1 to 253 classes.*Received: 0"),
        ({f"c{n}": [] for n in range(254)}, "1 to 253 classes.*Received: 254"),
    ],
)
def test_impossible_classes(labels, fault):
    with pytest.raises(ValueError, match=fault):
        DataOptions(labels=labels)


def test_as_many_logits_as_classes():
    require_logits(1, ["cat"])
    require_logits(3, ["cat", "dog"])
    with pytest.raises(ValueError, match="has 2 logits.*2 classes, cat, dog, for"):
        require_logits(2, ["cat", "dog"])


def test_objects_of_two_classes_are_two():
    """So the background between them counts more, and where they touch they are two."""
    mask = np.zeros((1, 9, 1), np.uint8)
    mask[0, [1, 5]] = 1
    one_class = border_weights(mask, weight=10.0, sigma=5.0)
    mask[0, 5] = 2
    np.testing.assert_array_equal(
        border_weights(mask, weight=10.0, sigma=5.0), one_class
    )
    mask[0, 1:3] = [[1], [2]]
    mask[0, 5] = 0
    assert border_weights(mask, weight=10.0, sigma=5.0)[0, 0, 0] > 1
