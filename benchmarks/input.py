"""Whether the input keeps up with the step: images a second at the original setting.

    pip install torch
    python benchmarks/input.py [--coco COCO] [--tile_size 572]

COCO is a folder in COCO's layout; without one it is the embedded sample. Contenders, in
turns and in one run, each giving tiles and masks in batches:

- ours: JPEG and PNG decoded, random tile, mirroring, mirrored borders; also with every
  augmentation switched on, and of that the part which the host does where a GPU trains;
- the original's records of 2018: raw pixels, cut or padded about the centre;
- a PyTorch `DataLoader` over pycocotools with a worker a core, random crop, no more.

The step's appetite is measured in the same run: images a second that the network of
the original setting consumes on this machine, and how long it waits for its input when
ours feeds it. Prints one JSON line.
"""

import argparse
import json
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import PIL.Image
import tensorflow as tf
import tensorflow_datasets as tfds

from coco_cats_tfds.sample import write_sample
from unet_core import UNetConfig, build_unet
from unet_train import SegmentationData, SegmentationTask
from unet_train.task.layers import speed_up
from unet_train.training.loop import INPUT_WAIT, make_train_loop

EVERYTHING: dict[str, Any] = {
    "flip": True,
    "scale_jitter": 0.3,
    "rotation": 15.0,
    "elastic": 10.0,
    "color_jitter": 0.3,
    "blur": 1.0,
    "cutout": 0.3,
    "copy_paste": 0.5,
}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--coco", type=pathlib.Path)
    parser.add_argument("--tile_size", type=int, default=572)
    parser.add_argument("--base_filters", type=int, default=64)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--images", type=int, default=200, help="in one turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="for the appetite")
    options = parser.parse_args()
    task = SegmentationTask(
        build_unet(UNetConfig(depth=options.depth, base_filters=options.base_filters))
    )
    with tempfile.TemporaryDirectory() as folder:
        build(options, pathlib.Path(folder))
        records = pathlib.Path(folder, "raw.tfrecord")
        raw_bytes = write_raw(options, records)
        sources: dict[str, Callable[[], Iterator[Any]]] = {
            "ours": lambda: ours(options, task.margin),
            "ours_everything_on": lambda: ours(options, task.margin, **EVERYTHING),
            "ours_everything_on_host": lambda: ours(
                options, task.margin, finished=False, **EVERYTHING
            ),
            "raw_records_of_2018": lambda: raw(options, task.margin, records),
        }
        if peer := torch_loader(options):
            sources["torch_dataloader"] = peer
        rates: dict[str, list[float]] = {name: [] for name in sources}
        for _ in range(options.turns):
            for name, make in sources.items():
                rates[name].append(measure(make(), options.images))
        appetite, wait = consume(options, task)
    speed = {name: statistics.median(each) for name, each in rates.items()}
    record = {
        "benchmark": "input",
        "photos": "sample" if options.coco.parent == pathlib.Path(folder) else "own",
        **{
            key: value
            for key, value in vars(options).items()
            if key not in ("coco", "data_dir")
        },
        "images_a_second": {name: round(value, 1) for name, value in speed.items()},
        "times_as_fast_as": {
            name: round(speed["ours"] / value, 2)
            for name, value in speed.items()
            if name != "ours"
        },
        "raw_record_bytes_an_image": raw_bytes,
        "step_images_a_second": round(appetite, 3),
        "times_the_appetite": round(speed["ours"] / appetite, 1),
        "share_of_step_waited": round(wait, 5),
    }
    print(json.dumps(record))


def build(options: argparse.Namespace, folder: pathlib.Path) -> None:
    """Has TFDS build the dataset; sets `data_dir`, and `coco` if it is the sample."""
    options.data_dir = str(folder / "tfds")
    if options.coco is None:
        options.coco = folder / "coco"
        write_sample(options.coco)
    tfds.builder("coco_cats", data_dir=options.data_dir).download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=options.coco)
    )


def measure(batches: Iterator[Any], images: int) -> float:
    """Images a second; what starting up takes is left out."""
    for _ in range(5):
        next(batches)
    start = time.perf_counter()
    for _ in range(images):
        next(batches)
    return images / (time.perf_counter() - start)


def make_data(options: argparse.Namespace, **augmentation: Any) -> SegmentationData:
    """The dataset with tiles of the original setting."""
    return SegmentationData(
        "coco_cats",
        data_dir=options.data_dir,
        tile_size=options.tile_size,
        **augmentation,
    )


def ours(
    options: argparse.Namespace,
    margin: int,
    finished: bool = True,
    **augmentation: Any,
) -> Iterator[Any]:
    """Batches of one tile."""
    data = make_data(options, **augmentation)
    return iter(data.train_batches(margin=margin, seed=0, finished=finished))


def consume(options: argparse.Namespace, task: SegmentationTask) -> tuple[float, float]:
    """The step's images a second, and the share of its time that it waits."""
    task.set_precision("mixed_bfloat16")
    task.build_optimizer()
    speed_up(task.model, on_cpu=not tf.config.list_physical_devices("GPU"))
    loop = make_train_loop(task.train_step, task.log_names)
    batches = ours(options, task.margin)
    loop(batches, tf.constant(1))
    start = time.perf_counter()
    waited = loop(batches, tf.constant(options.steps))[1][INPUT_WAIT].numpy().sum()
    seconds = time.perf_counter() - start
    return options.steps / seconds, float(waited) / seconds


def write_raw(options: argparse.Namespace, path: pathlib.Path) -> int:
    """The original's records: shape, raw RGB, raw mask. Returns bytes an image."""
    count = 0
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in make_data(options).examples("train", limit=100):
            features = {
                "shape": tf.train.Feature(
                    int64_list=tf.train.Int64List(value=example.image.shape)
                ),
                "image": _bytes(example.image),
                "mask": _bytes(example.mask),
            }
            record = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(record.SerializeToString())
            count += 1
    return path.stat().st_size // count


def _bytes(array: np.ndarray[Any, Any]) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[array.tobytes()]))


def raw(options: argparse.Namespace, margin: int, path: pathlib.Path) -> Iterator[Any]:
    """The original's way to feed: parse, cut or pad about the centre."""
    tile, window = options.tile_size, options.tile_size - 2 * margin

    def parse(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        found = tf.io.parse_single_example(
            record,
            {
                "shape": tf.io.FixedLenFeature([3], tf.int64),
                "image": tf.io.FixedLenFeature([], tf.string),
                "mask": tf.io.FixedLenFeature([], tf.string),
            },
        )
        shape = found["shape"]
        image = tf.reshape(tf.io.decode_raw(found["image"], tf.uint8), shape)
        mask = tf.io.decode_raw(found["mask"], tf.uint8)
        mask = tf.reshape(mask, [shape[0], shape[1], 1])
        return (
            tf.image.resize_with_crop_or_pad(image, tile, tile),
            tf.image.resize_with_crop_or_pad(mask, window, window),
        )

    records = tf.data.TFRecordDataset(str(path)).repeat()
    parsed = records.map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    return iter(parsed.batch(1).prefetch(tf.data.AUTOTUNE))


def torch_loader(options: argparse.Namespace) -> Callable[[], Iterator[Any]] | None:
    """A `DataLoader` as its tutorials have it, if PyTorch is installed."""
    try:
        import torch
    except ImportError:
        return None
    from pycocotools.coco import COCO

    coco = COCO(options.coco / "annotations" / "instances_train2017.json")
    category = coco.getCatIds(catNms=["cat"])
    images = coco.loadImgs(coco.getImgIds(catIds=category))
    side = options.tile_size

    class Cats(torch.utils.data.Dataset):  # type: ignore[misc,name-defined]
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            record = images[index]
            path = options.coco / "train2017" / record["file_name"]
            image = np.asarray(PIL.Image.open(path).convert("RGB"))
            height, width = record["height"], record["width"]
            mask = np.zeros((height, width), np.uint8)
            for each in coco.loadAnns(coco.getAnnIds(record["id"], category)):
                mask |= coco.annToMask(each)
            missing = [max(0, side - height), max(0, side - width)]
            around = [(0, missing[0]), (0, missing[1])]
            image = np.pad(image, [*around, (0, 0)])
            mask = np.pad(mask, around)
            rng = np.random.default_rng()
            top = rng.integers(max(height, side) - side + 1)
            left = rng.integers(max(width, side) - side + 1)
            image = image[top : top + side, left : left + side]
            mask = mask[top : top + side, left : left + side]
            return torch.from_numpy(image.copy()), torch.from_numpy(mask.copy())

    def make() -> Iterator[Any]:
        while True:
            yield from torch.utils.data.DataLoader(
                Cats(), batch_size=1, shuffle=True, num_workers=2
            )

    return make


if __name__ == "__main__":
    main()
