"""The order of records, on numbers in place of them."""

import numpy as np
import tensorflow as tf

from unet_train.data.order import Order


def test_each_block_is_shuffled_in_its_own_way():
    order = Order(count=64, seed=0, shuffle_buffer=16)
    records = tf.data.Dataset.range(64)
    numbers = [int(number) for _, number in order.arrange(records).take(64)]
    blocks = np.reshape(numbers, (4, 16))
    for index, block in enumerate(blocks):
        assert set(block) == set(range(16 * index, 16 * index + 16))
    ways = {tuple(block - 16 * index) for index, block in enumerate(blocks)}
    assert len(ways) == 4
