"""Whole photos and tiles at the preset `blog_2018`, against the machine and PyTorch.

    pip install torch
    python benchmarks/predict.py [--megapixels 12] [--precisions float32 bfloat16]

Ours: a JPEG of that many pixels, decoded, predicted in tiles, stitched. Its rate is the
work of all passes, borders included, by the time from file to mask; the peak is that of
a large matrix product in the same run. PyTorch has the same network (channels_last,
inference mode, the same weights' shapes); it predicts a tile of 572 and then the photo,
decoded once more and cut into the very tiles that ours takes. Prints one JSON line.
"""

import argparse
import io
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
import tensorflow as tf

from unet_core import Geometry, Summary, TiledPredictor, build_unet, presets
from unet_core.tile_plan import TilePlan

CONFIG = presets.blog_2018()


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megapixels", type=float, default=12)
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--memory_gib", type=float, default=3)
    parser.add_argument("--turns", type=int, default=5, help="of tiles of 572")
    options = parser.parse_args()
    record: dict[str, Any] = {"benchmark": "predict", **vars(options)}
    for precision in options.precisions:
        record[precision] = measure(precision, options)
    print(json.dumps(record))


def measure(precision: str, options: argparse.Namespace) -> dict[str, Any]:
    """Everything at one precision; rates in GFLOP a second."""
    dtype = precision if precision == "float32" else f"mixed_{precision}"
    model = build_unet(CONFIG, dtype=dtype)
    tile = np.random.default_rng(0).integers(0, 256, (1, 572, 572, 3), np.uint8)
    work = Summary.of(CONFIG, 572).forward_gflop
    turns: dict[str, Callable[[], object]] = {"peak": matrix_product(precision)}
    forward = TiledPredictor(model)._probabilities
    turns["ours"] = lambda: forward(tile).numpy()
    if peer := torch_forward(precision):
        turns["torch"] = lambda: peer(tile)
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for turn in range(options.turns + 1):
        for name, run in turns.items():
            start = time.perf_counter()
            run()
            if turn:  # The first compiles.
                seconds[name].append(time.perf_counter() - start)
    fastest = {name: min(each) for name, each in seconds.items()}
    peak = _PRODUCT_GFLOP / fastest["peak"]
    found: dict[str, Any] = {"peak": round(peak)}
    for name in turns.keys() - {"peak"}:
        rate = work / statistics.median(seconds[name])
        found[f"{name}_572"] = round(rate)
        found[f"{name}_572_of_peak"] = round(rate / peak, 3)
    if "torch" in turns:
        ratio = statistics.median(seconds["torch"]) / statistics.median(seconds["ours"])
        found["times_as_fast_as_torch"] = round(ratio, 2)
    photo = photo_jpeg(options.megapixels)
    predictor = TiledPredictor(model, memory_budget=int(options.memory_gib * 1024**3))
    predictor(np.zeros((200, 200, 3), np.uint8))
    start = time.perf_counter()
    image = np.asarray(PIL.Image.open(io.BytesIO(photo)))
    mask = predictor(image)[..., 0] > 0.5
    elapsed = time.perf_counter() - start
    assert mask.shape == image.shape[:2]
    plan = predictor._plan(*image.shape[:2])
    executed = plan.count * Summary.of(CONFIG, (plan.height, plan.width)).forward_gflop
    geometry = Geometry.of(CONFIG)
    whole = tuple(map(geometry.valid_size_for_output, image.shape[:2]))
    needed = Summary.of(CONFIG, (whole[0], whole[1])).forward_gflop
    found |= {
        "photo_seconds": round(elapsed, 1),
        "photo_tiles": [plan.count, plan.height, plan.width],
        "photo": round(executed / elapsed),
        "photo_of_peak": round(executed / elapsed / peak, 3),
        "photo_of_peak_without_overlap": round(needed / elapsed / peak, 3),
    }
    if peer:
        start = time.perf_counter()
        torch_photo(peer, photo, plan, geometry.margin)
        found["photo_seconds_torch"] = round(time.perf_counter() - start, 1)
    return found


def torch_photo(
    peer: Callable[[Any], Any], photo: bytes, plan: TilePlan, margin: int
) -> Any:
    """A mask by the peer, with the tiles of ours."""
    image = np.asarray(PIL.Image.open(io.BytesIO(photo)))
    bottom = plan.rows[-1].start + plan.height - image.shape[0]
    right = plan.columns[-1].start + plan.width - image.shape[1]
    sides = (margin, bottom), (margin, right), (0, 0)
    mirrored = np.pad(image, sides, mode="reflect")
    mask = np.empty(image.shape[:2], bool)
    for y, x in plan.tiles:
        top, left = y.start + margin, x.start + margin
        tile = mirrored[top : top + plan.height, left : left + plan.width]
        output = peer(tile[np.newaxis])[0]
        mask[y.output, x.output] = output[y.taken, x.taken] > 0.5
    return mask


_SIDE = 4096
_PRODUCT_GFLOP = 2 * _SIDE**3 / 1e9


def matrix_product(precision: str) -> Callable[[], object]:
    """A product of two matrices of 4096 x 4096."""
    dtype = tf.as_dtype(precision)
    left, right = (tf.cast(tf.random.normal((_SIDE, _SIDE)), dtype) for _ in range(2))
    return lambda: tf.linalg.matmul(left, right)[0, 0].numpy()


def photo_jpeg(megapixels: float) -> bytes:
    """A JPEG of 4:3."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    width = round(megapixels * 1e6 / height)
    noise = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3))
    photo = PIL.Image.fromarray(noise.astype(np.uint8)).resize((width, height))
    stream = io.BytesIO()
    photo.save(stream, "JPEG")
    return stream.getvalue()


def torch_forward(precision: str) -> Callable[[Any], Any] | None:
    """The same network in PyTorch, if installed: uint8 [N, H, W, 3] to float32."""
    try:
        import torch
    except ImportError:
        return None
    from torch import nn

    torch.set_num_threads(os.cpu_count() or 1)

    def stage(into: int, out: int) -> Any:
        return nn.Sequential(
            *(nn.Conv2d(into, out, 3), nn.ReLU(), nn.BatchNorm2d(out)),
            *(nn.Conv2d(out, out, 3), nn.ReLU(), nn.BatchNorm2d(out)),
        )

    class UNet(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            sides = [CONFIG.base_filters * 2**level for level in range(5)]
            self.down = nn.ModuleList(map(stage, [3, *sides[:3]], sides[:4]))
            self.bottom = stage(sides[3], sides[4])
            self.up = nn.ModuleList(
                nn.Sequential(
                    nn.ConvTranspose2d(2 * side, side, 2, 2), nn.BatchNorm2d(side)
                )
                for side in sides[:4]
            )
            self.join = nn.ModuleList(stage(2 * side, side) for side in sides[:4])
            self.head = nn.Conv2d(sides[0], 1, 1)

        def forward(self, x: Any) -> Any:
            skips = []
            for level in self.down:
                x = level(x)
                skips.append(x)
                x = nn.functional.max_pool2d(x, 2)
            x = self.bottom(x)
            for up, join in zip(self.up[::-1], self.join[::-1], strict=True):
                x, skip = up(x), skips.pop()
                crop = (skip.shape[-1] - x.shape[-1]) // 2
                skip = skip[..., crop:-crop, crop:-crop]
                x = join(torch.cat([skip, x], 1))
            return self.head(x)

    dtype = getattr(torch, precision)
    model = UNet().eval().to(dtype=dtype, memory_format=torch.channels_last)

    def run(tiles: Any) -> Any:
        pixels = torch.from_numpy(tiles.astype(np.float32) / 127.5 - 1)
        pixels = pixels.permute(0, 3, 1, 2)
        pixels = pixels.to(dtype=dtype, memory_format=torch.channels_last)
        with torch.inference_mode():
            return torch.sigmoid(model(pixels).float())[:, 0].numpy()

    return run


if __name__ == "__main__":
    main()
