"""Images a second into TFRecords: ours, the way of 2018, and a plain pycocotools loop.

    pip install opencv-python-headless
    python benchmarks/build.py [--images 1000] [--workers 1 2]

Makes a COCO folder of 640 x 480 JPEGs, as large on average as COCO's, with one or two
outlines each. Every way runs in a process of its own; the clock starts after imports
and stops when the records are on disk. Prints one JSON line.

- ours: reads, decodes every JPEG to check it, draws, writes JPEG bytes and a PNG mask
  in shuffled, counted, reproducible shards
- original: OpenCV decodes; raw pixels and raw mask go into one file
- loop: unchecked JPEG bytes and TensorFlow's PNG of pycocotools' mask, into one file
"""

import argparse
import json
import math
import os
import pathlib
import random
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np
import PIL.Image
import skimage.data

_HEAD = """
import json, os, pathlib, sys, time
import numpy as np
import tensorflow as tf
from pycocotools.coco import COCO
root, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])

def feature(value):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

def records(split, coco, make):
    with tf.io.TFRecordWriter(str(out / split)) as writer:
        for image in coco.loadImgs(coco.getImgIds(catIds=[17])):
            mask = np.zeros((image["height"], image["width"]), np.uint8)
            for each in coco.loadAnns(coco.getAnnIds(imgIds=image["id"], catIds=[17])):
                mask |= coco.annToMask(each)
            features = tf.train.Features(feature=make(image, mask))
            writer.write(tf.train.Example(features=features).SerializeToString())

def build():
    for split in ("train2017", "val2017"):
        records(split, COCO(root / "annotations" / f"instances_{split}.json"),
                lambda *each: make(root / split, *each))
"""
_TAIL = """
tf.io.encode_png(np.zeros((8, 8, 1), np.uint8))  # TensorFlow starts up.
start = time.perf_counter()
build()
seconds = time.perf_counter() - start
size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
print(json.dumps([seconds, size]))
"""
_PROGRAMS = {
    "original": """
import cv2
def make(folder, image, mask):
    pixels = cv2.imread(str(folder / image["file_name"]))
    return {"imageContent": feature(pixels.tobytes()),
            "maskContent": feature(mask.tobytes())}
""",
    "loop": """
def make(folder, image, mask):
    return {"image": feature((folder / image["file_name"]).read_bytes()),
            "mask": feature(tf.io.encode_png(mask[..., None]).numpy())}
""",
    "ours": """
import tensorflow_datasets as tfds
from coco_cats_tfds.coco_cats_dataset_builder import Builder, CocoCatsConfig
def build():
    config = CocoCatsConfig(name="benchmark", workers=int(sys.argv[3]))
    Builder(data_dir=out, config=config).download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=root))
""",
}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    runs = {"original": ("original", 1), "loop": ("loop", 1)}
    runs |= {f"ours_{workers}": ("ours", workers) for workers in options.workers}
    seconds, sizes = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder, "coco")
        jpegs = write_coco(root, options.images)
        for name, (program, workers) in runs.items():
            with tempfile.TemporaryDirectory(dir=folder) as out:
                done = subprocess.run(
                    [
                        *(sys.executable, "-c", _HEAD + _PROGRAMS[program] + _TAIL),
                        *(str(root), out, str(workers)),
                    ],
                    check=True,
                    stdout=subprocess.PIPE,
                )
            seconds[name], sizes[name] = json.loads(done.stdout.splitlines()[-1])
    speed = {name: options.images / value for name, value in seconds.items()}
    record = {
        "benchmark": "build",
        **vars(options),
        "jpeg_kb": round(jpegs / options.images / 1000),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "images_a_second": {name: round(value) for name, value in speed.items()},
        "size_by_jpegs": {name: round(size / jpegs, 3) for name, size in sizes.items()},
        "ratio_to_original": {
            name: round(value / speed["original"], 2) for name, value in speed.items()
        },
    }
    print(json.dumps(record))


def write_coco(root: pathlib.Path, count: int) -> int:
    """A folder with `count` images, a tenth of them for validation; bytes of JPEGs."""
    photos = list(make_photos(root / "photos"))
    rng = random.Random(0)
    total = 0
    first = 1
    for split, images in (("train2017", count - count // 10), ("val2017", count // 10)):
        (root / split).mkdir()
        entries: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for image_id in range(first, first + images):
            photo = rng.choice(photos)
            name = f"{image_id:012d}.jpg"
            os.link(photo, root / split / name)
            total += photo.stat().st_size
            size = {"height": 480, "width": 640}
            entries.append({"id": image_id, "file_name": name, **size})
            for _ in range(rng.choice((1, 1, 1, 1, 1, 2))):
                annotations.append(
                    {
                        "id": len(annotations),
                        "image_id": image_id,
                        "category_id": 17,
                        "iscrowd": 0,
                        "segmentation": [outline(rng)],
                    }
                )
        first += images
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{split}.json").write_text(
            json.dumps(
                {
                    "images": entries,
                    "annotations": annotations,
                    "categories": [{"id": 17, "name": "cat"}],
                }
            )
        )
    return total


def make_photos(folder: pathlib.Path) -> list[pathlib.Path]:
    """Crops of the photographs in scikit-image's wheel, with a camera's grain."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    paths = []
    for index in range(24):
        name = ("chelsea", "coffee", "astronaut")[index % 3]
        photo = PIL.Image.fromarray(getattr(skimage.data, name)())
        left, top = rng.integers(0, 40, 2)
        box = (left, top, photo.width - 40 + left, photo.height - 40 + top)
        photo = photo.crop(box).resize((640, 480), PIL.Image.Resampling.BICUBIC)
        grain = rng.normal(0, 9, (480, 640, 3))
        pixels = (np.asarray(photo) + grain).clip(0, 255).astype(np.uint8)
        paths.append(folder / f"{index}.jpg")
        PIL.Image.fromarray(pixels).save(paths[-1], quality=94)
    return paths


def outline(rng: random.Random) -> list[float]:
    """A closed, wavy outline of some 40 points, the size of a cat in COCO."""
    x, y = rng.uniform(120, 520), rng.uniform(120, 360)
    radius, waves = rng.uniform(40, 160), rng.uniform(0.05, 0.3)
    points = []
    for step in range(40):
        angle = 2 * math.pi * step / 40
        distance = radius * (1 + waves * math.sin(5 * angle) + rng.uniform(-0.05, 0.05))
        points += [x + distance * math.cos(angle), y + distance * math.sin(angle)]
    return [round(value, 2) for value in points]


if __name__ == "__main__":
    main()
