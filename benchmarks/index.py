"""Our index of an instances file against `pycocotools.coco.COCO`: seconds and memory.

    python benchmarks/index.py [--annotations 860001] [--turns 3]

Makes a file as large as COCO's `instances_train2017.json` (118,287 images, 860,001
annotations, about 473 MB), loads it and looks up the cats with each, in processes of
their own that take turns. Prints one JSON line; memory is the growth of the process's
peak, in MB, by loading.
"""

import argparse
import json
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile

_OURS = """
from coco_cats_tfds.annotations import InstancesIndex
from coco_cats_tfds.choice import Choice
from coco_cats_tfds.selection import select
def load(path):
    return len(select(InstancesIndex.load(path), Choice()).records)
"""
_PEER = """
from pycocotools.coco import COCO
def load(path):
    coco = COCO(path)
    images = coco.getImgIds(catIds=[17])
    return len([coco.loadAnns(coco.getAnnIds(imgIds=i, catIds=[17])) for i in images])
"""
_MEASURE = """
import contextlib, io, json, resource, sys, time
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, start = peak(), time.perf_counter()
with contextlib.redirect_stdout(io.StringIO()):
    found = load(sys.argv[1])
print(json.dumps([time.perf_counter() - start, peak() - before, found]))
"""


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=118_287)
    parser.add_argument("--annotations", type=int, default=860_001)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    programs = {"ours": _OURS + _MEASURE, "pycocotools": _PEER + _MEASURE}
    results: dict[str, list[list[float]]] = {name: [] for name in programs}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "instances.json")
        write_instances(path, options.images, options.annotations)
        megabytes = path.stat().st_size / 1e6
        for _ in range(options.turns):
            for name, program in programs.items():
                done = subprocess.run(
                    [sys.executable, "-c", program, str(path)],
                    check=True,
                    stdout=subprocess.PIPE,
                )
                results[name].append(json.loads(done.stdout))
    found = {runs[0][2] for runs in results.values()}
    assert len(found) == 1, f"They disagree on the number of cat images: {found}"
    seconds, memory = (
        {name: statistics.median(run[i] for run in runs) for name, runs in items}
        for i, items in ((0, results.items()), (1, results.items()))
    )
    record = {
        "benchmark": "index",
        **vars(options),
        "file_mb": round(megabytes),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "memory_mb": {name: round(value) for name, value in memory.items()},
        "times_faster": round(seconds["pycocotools"] / seconds["ours"], 1),
        "share_of_memory": round(memory["ours"] / memory["pycocotools"], 3),
    }
    print(json.dumps(record))


def write_instances(path: pathlib.Path, images: int, annotations: int) -> None:
    """A file with the fields, and about the lengths, of COCO's own."""
    rng = random.Random(0)
    with path.open("w") as file:
        file.write('{"info": {"year": 2017}, "licenses": [], "images": [')
        for image in range(1, images + 1):
            name = f"{image:012d}.jpg"
            entry = {
                "license": 3,
                "file_name": name,
                "coco_url": f"http://images.example.org/train2017/{name}",
                "height": 480,
                "width": 640,
                "date_captured": "2013-11-14 11:18:45",
                "flickr_url": f"http://farm9.example.org/8186/{name}",
                "id": image,
            }
            file.write((", " if image > 1 else "") + json.dumps(entry))
        file.write('], "annotations": [')
        for annotation in range(annotations):
            points = rng.choice((8, 12, 16, 24, 37, 47))
            polygon = [round(rng.uniform(0, 480), 2) for _ in range(2 * points)]
            entry = {
                "segmentation": [polygon],
                "area": round(rng.uniform(10, 90_000), 4),
                "iscrowd": 0,
                "image_id": rng.randint(1, images),
                "bbox": [polygon[0], polygon[1], polygon[2], polygon[3]],
                # One in 180 is a cat, as in COCO.
                "category_id": rng.choice((17, *[1] * 179)),
                "id": annotation + 1,
            }
            file.write((", " if annotation else "") + json.dumps(entry))
        categories = [
            {"supercategory": "person", "id": 1, "name": "person"},
            {"supercategory": "animal", "id": 17, "name": "cat"},
        ]
        file.write(f'], "categories": {json.dumps(categories)}}}')


if __name__ == "__main__":
    main()
