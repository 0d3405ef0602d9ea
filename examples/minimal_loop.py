"""The U-Net trained without the Trainer: one file, one loop, nothing hidden.

    python examples/minimal_loop.py --data_dir OUT --steps 200

Reads `coco_cats` as TFDS built it, cuts one random tile from each image, and takes one
step of gradient descent on it. What it leaves out on purpose (mirrored borders, resume,
TensorBoard, validation) is what `unet_train` is for.
"""

import argparse
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from unet_core import Geometry, UNetConfig, build_unet, predict_image

IGNORE = 255


def make_tiles(data_dir: str, tile_size: int, margin: int) -> tf.data.Dataset:
    """An endless dataset of tiles uint8 [T, T, 3] and masks uint8 [W, W, 1]."""

    def cut(example: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        # One picture of 4 channels, so that image and mask are cropped together.
        both = tf.concat([example["image"], example["segmentation_mask"]], axis=-1)
        # Images smaller than a tile are padded with ignored pixels.
        missing = tf.maximum(tile_size - tf.shape(both)[:2], 0)
        padding = [[0, missing[0]], [0, missing[1]], [0, 0]]
        both = tf.pad(both, padding, constant_values=IGNORE)
        tile = tf.image.random_crop(both, (tile_size, tile_size, 4))
        window = tile[margin:-margin, margin:-margin]
        return tile[..., :3], window[..., 3:]

    examples = tfds.load("coco_cats", split="train", data_dir=data_dir)
    return examples.repeat().shuffle(64).map(cut)


def make_step(
    model: keras.Model, optimizer: keras.Optimizer
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """One step of gradient descent, compiled into a graph."""

    @tf.function
    def step(tiles: tf.Tensor, masks: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = model(tiles, training=True)
            per_pixel = tf.nn.sigmoid_cross_entropy_with_logits(
                tf.cast(masks == 1, tf.float32), logits
            )
            valid = tf.cast(masks != IGNORE, tf.float32)
            loss = tf.math.divide_no_nan(
                tf.reduce_sum(per_pixel * valid), tf.reduce_sum(valid)
            )
        weights = model.trainable_variables
        optimizer.apply(tape.gradient(loss, weights), weights)
        return loss

    return step


def main() -> None:
    """Trains, then says how many pixels of one validation image are a cat."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", required=True, help="where TFDS built coco_cats")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--tile_size", type=int, default=236)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--base_filters", type=int, default=12)
    options = parser.parse_args()

    keras.utils.set_random_seed(0)
    geometry = Geometry(options.depth)
    geometry.output_size(options.tile_size)  # Refuses what cannot fit.
    config = UNetConfig(
        depth=options.depth, base_filters=options.base_filters, norm_momentum=0.9
    )
    model = build_unet(config)
    step = make_step(model, keras.optimizers.Adam(1e-3))
    tiles = make_tiles(options.data_dir, options.tile_size, geometry.margin)
    for number, batch in enumerate(tiles.batch(4).take(options.steps), start=1):
        loss = step(*batch)
        if number % 10 == 0 or number == options.steps:
            print(f"step {number}  loss {float(loss):.4f}", flush=True)

    validation = tfds.load("coco_cats", split="validation", data_dir=options.data_dir)
    example = next(iter(tfds.as_numpy(validation)))
    found = predict_image(model, example["image"])[..., 0] >= 0.5
    truth = example["segmentation_mask"][..., 0] == 1
    iou = np.count_nonzero(found & truth) / np.count_nonzero(found | truth)
    print(f"{found.mean():.1%} of the first validation image is cat; IoU {iou:.3f}")


if __name__ == "__main__":
    main()
