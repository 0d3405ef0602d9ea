"""100,000 images: until the first batch, until a resume goes on, memory, speed.

    python benchmarks/many_records.py [--records 100000]

Reading records at their places in the files against reading them one after the other
into a buffer, as it is done where files lie elsewhere (and was done everywhere before).
Each is measured in a process of its own, by turns. Prints one JSON line. The images are
small, so that reading decides, not decoding.
"""

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds

from unet_train import SegmentationData
from unet_train.data.records import Records

SIDE = 96
BATCH = 8


class Many(tfds.core.GeneratorBasedBuilder):
    """The same picture and mask again and again, with a number of its own."""

    VERSION = tfds.core.Version("1.0.0")
    records = 100_000

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(SIDE, SIDE, 3), encoding_format="jpeg"),
            "segmentation_mask": tfds.features.Image(
                shape=(SIDE, SIDE, 1), encoding_format="png"
            ),
            "image/id": tfds.features.Scalar(np.int64),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {"train": self._make(self.records), "validation": self._make(20)}

    def _generate_examples(self) -> None:
        """Made in `_make`."""

    def _make(self, count: int) -> Iterator[tuple[int, dict[str, Any]]]:
        noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[20:60, 20:60] = 1
        image, drawn = _encoded(noise, "JPEG"), _encoded(mask, "PNG")
        for number in range(count):
            yield (
                number,
                {"image": image, "segmentation_mask": drawn, "image/id": number},
            )


def _encoded(pixels: np.ndarray[Any, Any], kind: str) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def main() -> None:
    """Builds, measures each way by turns, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--measure", nargs=2, help="a folder and a way, in a process")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure)))
        return
    found: dict[str, list[dict[str, float]]] = {"at_places": [], "in_a_row": []}
    with tempfile.TemporaryDirectory() as folder:
        Many.records = options.records
        Many(data_dir=folder).download_and_prepare(
            download_config=tfds.download.DownloadConfig(num_shards=20)
        )
        for _ in range(options.turns):
            for way, results in found.items():
                command = [sys.executable, __file__, "--measure", folder, way]
                told = subprocess.run(command, capture_output=True, text=True)
                results.append(json.loads(told.stdout.strip().splitlines()[-1]))
    best = {
        way: {name: min(each[name] for each in results) for name in results[0]}
        for way, results in found.items()
    }
    record = {"benchmark": "many_records", "records": options.records, **best}
    print(json.dumps(record))


def measure(folder: str, way: str) -> dict[str, float]:
    """Seconds until batches come, seconds for 100 more, megabytes."""
    if way == "in_a_row":
        Records.reader = lambda self, split: None  # type: ignore[method-assign]
    start = time.perf_counter()
    data = SegmentationData(
        "many", data_dir=folder, tile_size=SIDE, batch_size=BATCH, holdout=0
    )
    batches = iter(data.train_batches(margin=0, seed=0))
    next(batches)
    first = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(100):
        next(batches)
    more = time.perf_counter() - start
    start = time.perf_counter()
    late = int(0.9 * data.count("train") / BATCH)
    next(iter(data.train_batches(margin=0, seed=0, start_step=late)))
    return {
        "first_batch_seconds": round(first, 2),
        "hundred_batches_seconds": round(more, 2),
        "resume_at_0.9_seconds": round(time.perf_counter() - start, 2),
        "peak_megabytes": round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        ),
    }


if __name__ == "__main__":
    main()
