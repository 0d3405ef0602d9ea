"""Coverage-guided fuzzing of what reads annotations: no crash, no hang, no wrong mask.

    pip install atheris
    python benchmarks/fuzz_annotations.py [--seconds 60]

Bytes become an instances file, a segmentation, or a compressed RLE. Each must be
refused with our error or give a mask; an RLE must give the mask that pycocotools gives.
Prints one JSON line; a fault ends with the input that caused it.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile

import msgspec
import numpy as np
from pycocotools import mask as coco_mask

HEIGHT, WIDTH = 24, 32

_SEEDS = {
    "polygon": b"\x00[[2.0, 2.0, 8.0, 2.0, 8.5, 8.0]]",
    "rle": b'\x00{"counts": [10, 20, 738], "size": [24, 32]}',
    "compressed": (
        b'\x00{"counts": "S36b000000000000000000000000000000m8", "size": [24, 32]}'
    ),
    "counts": b"\x01S36b000000000000000000000000000000m8",
    "file": (
        b'\x02{"images": [{"id": 1, "file_name": "a", "height": 24, "width": 32}],'
        b' "annotations": [{"id": 1, "image_id": 1, "category_id": 17, "iscrowd": 0,'
        b' "segmentation": [[2, 2, 8, 2, 8, 8]]}],'
        b' "categories": [{"id": 17, "name": "cat"}]}'
    ),
}


def check(data: bytes) -> None:
    """One input: the first byte says what the others are."""
    from coco_cats_tfds.annotations import Annotation, InstancesIndex
    from coco_cats_tfds.choice import Choice
    from coco_cats_tfds.errors import CocoDataError
    from coco_cats_tfds.masks import decode_segmentation, draw_mask
    from coco_cats_tfds.selection import select

    kind, content = data[:1], data[1:]
    try:
        if kind == b"\x02":
            index = InstancesIndex(content, origin="fuzz")
            for record in select(index, Choice(min_area=3, negatives=1)).records:
                height, width = record.image.height, record.image.width
                if height * width <= 1 << 20:
                    draw_mask(record.annotations, height=height, width=width)
            return
        if kind == b"\x01":
            counts = content.decode("latin-1")
            content = msgspec.json.encode({"counts": counts, "size": [HEIGHT, WIDTH]})
        annotation = Annotation(1, 1, 17, msgspec.Raw(content))
        found = decode_segmentation(annotation, height=HEIGHT, width=WIDTH)
    except CocoDataError:
        return
    assert found.shape == (HEIGHT, WIDTH)
    segmentation = json.loads(content)
    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], str):
        expected = coco_mask.decode(
            {"size": [HEIGHT, WIDTH], "counts": segmentation["counts"].encode()}
        )
        assert np.array_equal(found, expected), data


def fuzz() -> None:
    """In the process that libFuzzer ends."""
    import atheris

    with atheris.instrument_imports(include=["coco_cats_tfds"]):
        import coco_cats_tfds.masks
        import coco_cats_tfds.selection  # noqa: F401
    atheris.Setup(sys.argv[:1] + sys.argv[2:], check)
    atheris.Fuzz()


def main() -> int:
    """Runs the fuzzer and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, seed in _SEEDS.items():
            with open(f"{folder}/{name}", "wb") as file:
                file.write(seed)
        done = subprocess.run(
            [
                *(sys.executable, __file__, "--in-process", folder),
                *(f"-max_total_time={options.seconds}", "-timeout=5", "-max_len=4096"),
                f"-artifact_prefix={tempfile.gettempdir()}/",
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
    runs = re.search(r"Done (\d+) runs in (\d+) second", done.stderr)
    if done.returncode or not runs:
        print(done.stderr[-4000:], file=sys.stderr)
        return 1
    count, seconds = map(int, runs.groups())
    record = {"benchmark": "fuzz_annotations", "seconds": seconds, "inputs": count}
    print(json.dumps(record | {"faults": 0}))
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--in-process"]:
        fuzz()
    else:
        sys.exit(main())
