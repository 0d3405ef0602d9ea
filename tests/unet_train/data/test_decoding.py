"""Masks keep their values, whatever they are stored in."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from unet_train import SegmentationData, Trainer
from unet_train.data.decoding import decode_mask, decode_picture
from unet_train.doctor.data import check_values, look_at

VALUES = np.array([[0, 1, 2], [127, 254, 255]])


def encoded(values, dtype):
    return tf.io.encode_png(np.asarray(values, dtype)[..., None])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_labels_of_8_and_of_16_bits(dtype):
    mask = decode_mask(encoded(VALUES, dtype))
    assert mask.dtype == tf.uint8
    np.testing.assert_array_equal(mask[..., 0], VALUES)


def test_of_a_photo_the_upper_bits_are_taken():
    photo = decode_picture(encoded(VALUES * 256 + 7, np.uint16), 1)
    np.testing.assert_array_equal(photo[..., 0], VALUES)


@pytest.mark.parametrize("highest", [256, 300, 65535])
def test_a_label_over_255_is_refused(highest):
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=rf"a value over 255:\D*{highest}\b"
    ):
        decode_mask(encoded([[0, 1, highest]], np.uint16))


@pytest.mark.parametrize("content", [b"", b"\x89PNG", b"no picture", b"\x10" * 40])
def test_no_picture(content):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_mask(content)


class Deep(tfds.core.GeneratorBasedBuilder):
    """Masks of 16 bits; the sixth of each split may have a value over 255."""

    VERSION = tfds.core.Version("1.0.0")
    highest = 1

    def _info(self):
        mask = tfds.features.Image(
            shape=(None, None, 1), dtype=np.uint16, encoding_format="png"
        )
        features = {"image": tfds.features.Image(), "segmentation_mask": mask}
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples() for name in ("train", "validation")}

    def _generate_examples(self):
        for index in range(6):
            mask = np.zeros((40, 40, 1), np.uint16)
            mask[10:30] = self.highest if index == 5 else 1
            yield index, {"image": np.zeros((40, 40, 3), np.uint8),
                          "segmentation_mask": mask}  # fmt: skip


@pytest.fixture
def make_deep(tmp_path):
    def make(highest=1):
        builder = Deep(data_dir=tmp_path / "deep")
        builder.highest = highest
        builder.download_and_prepare()
        return SegmentationData(
            "deep", data_dir=str(tmp_path / "deep"), tile_size=30, batch_size=2,
            holdout=0,
        )  # fmt: skip

    return make


def test_masks_of_16_bits_reach_the_network(make_deep):
    data = make_deep()
    for example in data.examples("train"):
        assert example.mask.dtype == np.uint8
        np.testing.assert_array_equal(np.unique(example.mask), [0, 1])
        assert example.mask.sum() == 20 * 40
    _, masks = next(iter(data.train_batches(margin=8, seed=0)))
    assert np.count_nonzero(masks == 1) > 0
    survey = look_at(data.datasets[data.options.name], 6)
    assert survey.values[:, 1].tolist() == [800] * 12


REFUSAL = (
    "A mask has the value 300, in a picture of 16 bits, and only values up to 255 can"
    " be labels. Build the dataset with masks whose values fit 8 bits"
)


def test_labels_over_255_are_refused_wherever_they_are_read(
    make_deep, make_task, tmp_path
):
    data = make_deep(highest=300)
    with pytest.raises(ValueError, match=REFUSAL):
        list(data.examples("validation"))
    with pytest.raises(ValueError, match=REFUSAL):
        data.first_tiles(6, margin=8, seed=0)
    with pytest.raises(ValueError, match=REFUSAL):
        Trainer(tmp_path / "run", max_steps=3).fit(make_task(), data)
    (finding,) = check_values(look_at(data.datasets[data.options.name], 6))
    assert (finding.verdict, finding.text) == ("fault", REFUSAL)
