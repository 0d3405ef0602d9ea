"""Tiles of images that are given as arrays."""

import pytest
import tensorflow as tf

from unet_train.data.tiles import make_tile
from unet_train.options import DataOptions


@pytest.fixture(scope="session")
def tile_of():
    """Makes a tile of an image and its mask; uint8 arrays. It is not mirrored."""

    def make(image, mask, seed, *, margin, **options):
        record = {
            "image": tf.io.encode_png(image),
            "segmentation_mask": tf.io.encode_png(mask),
        }
        options = DataOptions(**{"mirror": False, **options})
        seed = tf.constant([seed, 1])
        tile, labels = make_tile([record], options, margin=margin, seed=seed)
        return tile.numpy(), labels.numpy()

    return make
