"""A build is deterministic, counts what it does, and is finished or not there."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time

import msgspec
import PIL.Image
import pytest
import tensorflow_datasets as tfds
from etils import epath

from coco_cats_tfds import CocoDataError
from coco_cats_tfds.annotations import Annotation, Image, ImageRecord
from coco_cats_tfds.choice import Choice
from coco_cats_tfds.coco_cats_dataset_builder import Builder, CocoCatsConfig
from coco_cats_tfds.sources import FileSource, FolderSource


def build(root, data_dir, **fields):
    config = CocoCatsConfig(name="mine", **fields)
    builder = Builder(data_dir=data_dir, config=config)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=root)
    )
    return builder


def digests(data_dir):
    """A hash of every file of the only dataset under a folder, the info's apart."""
    (info,) = data_dir.rglob("dataset_info.json")
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in info.parent.iterdir()
        if path != info  # It names the folder.
    }


def in_process(program, *arguments):
    """Runs a program in a process of its own, with another hash seed."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


BUILD = """
import json, sys
import tensorflow_datasets as tfds
from coco_cats_tfds.coco_cats_dataset_builder import Builder, CocoCatsConfig
root, data_dir, workers, *fields = sys.argv[1:]
fields = json.loads(fields[0]) if fields else {}
config = CocoCatsConfig(name="mine", workers=int(workers), **fields)
Builder(data_dir=data_dir, config=config).download_and_prepare(
    download_config=tfds.download.DownloadConfig(manual_dir=root)
)
"""


def test_the_same_bytes_in_every_process_with_any_number_of_workers(
    make_coco, tmp_path
):
    root = make_coco()
    found = []
    for workers in (0, 1, 2, 5):
        data_dir = tmp_path / f"out{workers}"
        _, errors = in_process(BUILD, root, data_dir, workers).communicate()
        found.append(digests(data_dir))
        assert found[0] == found[-1], errors.decode()[-2000:]
    assert len(found[0]) == 4  # Two splits, features.json and metadata.json.


def test_the_same_bytes_from_a_folder_from_zips_and_from_the_net(
    make_coco, serve, tmp_path
):
    root = make_coco()
    build(root, tmp_path / "folder")
    config = CocoCatsConfig(name="mine", base_url=serve(root).url)
    Builder(data_dir=tmp_path / "net", config=config).download_and_prepare()
    zips = tmp_path / "zips"
    zips.mkdir()
    for name in ("train2017", "val2017", "annotations"):
        target = "annotations_trainval2017" if name == "annotations" else name
        shutil.make_archive(str(zips / target), "zip", root, name)
    build(zips, tmp_path / "zipped")
    expected = digests(tmp_path / "folder")
    assert digests(tmp_path / "net") == expected
    assert digests(tmp_path / "zipped") == expected


def test_the_same_bytes_of_everything_that_can_be_recorded(make_coco, tmp_path):
    root = make_coco()
    fields = {
        "categories": {"pet": ["cat", "dog"], "toy": ["teddy bear"]},
        "negatives": 1,
        "attribution": True,
        "instances": True,
    }
    found = []
    for workers in (1, 3):
        data_dir = tmp_path / f"out{workers}"
        arguments = (root, data_dir, workers, json.dumps(fields))
        _, errors = in_process(BUILD, *arguments).communicate()
        found.append(digests(data_dir))
        assert found[0] == found[-1], errors.decode()[-2000:]
    assert len(found[0]) == 5  # The names of the labels too.


BLOCK_BEAM = """
import sys
sys.modules["apache_beam"] = None
"""


def test_no_beam_is_needed(make_coco, tmp_path):
    process = in_process(BLOCK_BEAM + BUILD, make_coco(), tmp_path / "out", 0)
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()[-2000:]
    assert digests(tmp_path / "out")


def test_beam_in_several_processes_gives_the_same_bytes(make_coco, tmp_path):
    beam = pytest.importorskip("apache_beam")
    root = make_coco()
    (root / "train2017" / "000000000003.jpg").write_bytes(b"")
    plain = build(root, tmp_path / "plain", on_invalid="omit", negatives=1)
    config = CocoCatsConfig(name="mine", on_invalid="omit", negatives=1, beam=True)
    builder = Builder(data_dir=tmp_path / "beam", config=config)
    options = beam.options.pipeline_options.PipelineOptions(
        runner="DirectRunner",
        direct_running_mode="multi_processing",
        direct_num_workers=2,
    )
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(
            manual_dir=root, beam_options=options
        )
    )
    assert digests(tmp_path / "beam") == digests(tmp_path / "plain")
    assert not list((tmp_path / "beam").glob("**/*.pickle"))
    assert builder.info.metadata == plain.info.metadata
    (invalid,) = builder.info.metadata["counts"]["train"]["invalid"]
    assert invalid["image"] == 3


def test_the_graph_of_the_pipeline_does_not_grow_with_the_annotations(tmp_path):
    beam = pytest.importorskip("apache_beam")
    from coco_cats_tfds import beam_pipeline

    def graph_bytes(count):
        outline = [float(number) for number in range(200)]
        names = [f"{number:012d}.jpg" for number in range(count)]
        records = [
            ImageRecord(
                Image(id=number, file_name=name, height=480, width=640),
                (Annotation(id=number, image_id=number, category_id=17,
                            segmentation=msgspec.Raw(msgspec.json.encode([outline]))),),
            )
            for number, name in enumerate(names)
        ]  # fmt: skip
        source = FileSource(dict(enumerate(names)))
        pipeline = beam.Pipeline()
        _ = pipeline | beam_pipeline.generate_examples(
            records, source, Choice(), folder=epath.Path(tmp_path / str(count))
        )
        return pipeline.to_runner_api().ByteSize()

    few, many = graph_bytes(10), graph_bytes(20_000)
    # The names of 40 files of records, at most.
    assert many < few + 40 * 500
    assert many < 100_000


def test_everything_is_counted_printed_and_recorded(make_coco, tmp_path, capsys):
    outside = [[100.0, 100.0, 120.0, 100.0, 120.0, 120.0]]
    square = [[2.0, 2.0, 8.0, 2.0, 8.0, 8.0, 2.0, 8.0]]
    crowd = [[0.0, 10.0, 30.0, 10.0, 30.0, 20.0, 0.0, 20.0]]
    root = make_coco(
        annotations=[
            {"id": id, "image_id": image, "category_id": category, "iscrowd": iscrowd}
            | {"segmentation": segmentation, "area": area}
            for id, image, category, iscrowd, segmentation, area in [
                (1, 1, 17, 0, square, 36.0),
                (2, 1, 17, 0, outside, 400.0),
                (3, 1, 17, 1, crowd, 300.0),
                (4, 2, 17, 0, square, 4.0),
                (5, 3, 17, 0, [[1.0, 1.0, 5.0, 5.0]], 16.0),
                (6, 4, 18, 0, square, 36.0),
            ]
        ]
    )
    builder = build(root, tmp_path / "out", min_area=10, on_invalid="omit")
    printed = capsys.readouterr().out
    counts = builder.info.metadata["counts"]["train"]
    invalid = counts.pop("invalid")
    assert counts == {
        "images": 1,
        "negatives": 0,
        "negatives_lacking": 0,
        "instances": 2,
        "crowds": 1,
        "too_small": 0,
        "pixels": 600,
        "foreground": 36,
        "ignored": 300,
        "unseen": [2],
        "turned": [],
        "left_out": {
            "show none of the categories": 1,
            "show only instances under min_area": 1,
        },
    }
    assert [each["image"] for each in invalid] == [3]
    for line in (
        "train: 1 images (0 of them negatives), 2 instances, 1 crowds; 6.00% of the"
        " pixels foreground, 50.00% ignored",
        "noticed: 1 annotations cover no pixel of their image: ids 2",
        "left out: 1 images that show only instances under min_area",
        "left out: 1 images that show none of the categories",
        "left out: 1 that cannot be used:",
        "Annotation 5 of image 3 has a segmentation that does not decode",
    ):
        assert line in printed


def test_bad_records_stop_the_build_unless_told_otherwise(make_coco, tmp_path):
    root = make_coco()
    (root / "train2017" / "000000000003.jpg").write_bytes(b"")
    with pytest.raises(CocoDataError, match="Image 3, .*is not a JPEG"):
        build(root, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.tfrecord*"))
    builder = build(root, tmp_path / "out", on_invalid="omit")
    assert builder.info.splits["train"].num_examples == 1


@pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
def test_an_exif_orientation_that_leaves_the_size(
    make_coco, tmp_path, orientation, capsys
):
    """Mirrored, upside down, or turned and square: the outlines may be of either."""
    root = make_coco()
    path = root / "train2017" / "000000000003.jpg"
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.new("RGB", (30, 20)).save(path, exif=exif)
    fault = 'Image 3, .*0003.jpg, has an EXIF orientation.*"orientation": "stored"'
    with pytest.raises(CocoDataError, match=fault):
        build(root, tmp_path / "stop")
    builder = build(root, tmp_path / "omit", on_invalid="omit")
    (invalid,) = builder.info.metadata["counts"]["train"]["invalid"]
    assert invalid["image"] == 3
    builder = build(root, tmp_path / "stored", orientation="stored")
    assert builder.info.metadata["counts"]["train"]["turned"] == [3]
    assert builder.info.metadata["choice"]["orientation"] == "stored"
    assert "1 images have an EXIF orientation" in capsys.readouterr().out
    annotations = root / "annotations" / "instances_train2017.json"
    content = json.loads(annotations.read_text())
    content["images"][2]["coco_url"] = "http://images.cocodataset.org/train2017/3.jpg"
    annotations.write_text(json.dumps(content))
    builder = build(root, tmp_path / "coco")
    assert builder.info.metadata["counts"]["train"]["turned"] == [3]


@pytest.mark.parametrize("beam", [False, True])
def test_a_split_of_which_nothing_can_be_used(make_coco, tmp_path, beam):
    root = make_coco()
    for path in (root / "train2017").iterdir():
        path.write_bytes(b"")
    fault = "Not one image of the split can be used.* first fault: Image 1, "
    with pytest.raises(Exception, match=fault):
        build(root, tmp_path / "out", on_invalid="omit", beam=beam)
    assert not list((tmp_path / "out").rglob("*.tfrecord*"))


def test_negatives_that_are_not_there(make_coco, tmp_path, capsys):
    build(make_coco(), tmp_path / "out", negatives=10)
    assert "18 more negatives were asked for" in capsys.readouterr().out


def test_every_choice_is_in_the_info(make_coco, tmp_path):
    choice = {
        "categories": ["animal"],
        "crowd": "foreground",
        "min_area": 2.0,
        "negatives": 0.5,
        "negatives_like": ["teddy bear"],
        "licenses": [],
        "on_invalid": "omit",
    }
    build(make_coco(), tmp_path, **choice)
    _, info = tfds.load("coco_cats/mine", data_dir=tmp_path, with_info=True)
    assert info.metadata["choice"] == choice


def test_a_killed_build_leaves_nothing_finished(make_coco, tmp_path):
    root, out = make_coco(), tmp_path / "out"
    pause = (
        "import time, coco_cats_tfds.sources as s\n"
        "read = s.FolderSource.read\n"
        "def slow(self, image):\n"
        "    if image.id == 3: print('now', flush=True); time.sleep(60)\n"
        "    return read(self, image)\n"
        "s.FolderSource.read = slow\n"
    )
    process = in_process(pause + BUILD, root, out, 1)
    assert b"now\n" in iter(process.stdout.readline, b"")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert list(out.rglob("*incomplete*"))
    builder = Builder(data_dir=out, config=CocoCatsConfig(name="mine"))
    assert not builder.is_prepared()
    assert build(root, out).info.splits["train"].num_examples == 2


def test_a_stopped_build_does_not_read_on(make_coco, tmp_path, monkeypatch):
    """After a fault the images that follow are not read to the end."""
    ids = range(1, 400)
    annotations = [
        {
            "id": id,
            "image_id": id,
            "category_id": 17,
            "segmentation": [[2, 2, 9, 2, 9, 9]],
        }
        for id in ids
    ]
    images = [
        {"id": id, "file_name": f"{id}.jpg", "height": 20, "width": 30} for id in ids
    ]
    root = make_coco(annotations=annotations)
    path = root / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"images": images}))
    read = []

    def no_image(self, image):
        read.append(image.id)
        time.sleep(0.001)
        raise CocoDataError(f"image {image.id} is gone")

    monkeypatch.setattr(FolderSource, "read", no_image)
    with pytest.raises(CocoDataError, match="image 1 is gone"):
        build(root, tmp_path / "out", workers=2)
    assert len(read) < 50


@pytest.mark.parametrize("crowd", ["ignore", "foreground", "background"])
def test_records_are_hardly_larger_than_the_jpegs(test_data, tmp_path, crowd):
    """Real photographs of every category: at most 3% are added by masks and frames."""
    root = test_data / "coco_real"
    builder = build(root, tmp_path, categories=["person", "cat", "dog"], crowd=crowd)
    jpegs = sum(
        (root / folder / example["image/filename"].decode()).stat().st_size
        for split, folder in (("train", "train2017"), ("validation", "val2017"))
        for example in tfds.as_numpy(builder.as_dataset(split=split))
    )
    records = sum(path.stat().st_size for path in tmp_path.rglob("*.tfrecord*"))
    assert jpegs < records < 1.03 * jpegs


def test_negatives_that_look_alike_on_real_photographs(test_data, tmp_path):
    builder = build(
        test_data / "coco_real",
        tmp_path,
        negatives=0.5,
        negatives_like=["dog", "bear", "teddy bear"],
    )
    for split in ("train", "validation"):
        assert builder.info.metadata["counts"][split]["negatives"] == 3
        masks = [
            example["segmentation_mask"]
            for example in tfds.as_numpy(builder.as_dataset(split=split))
        ]
        assert sum(not mask.any() for mask in masks) == 3
        assert len(masks) == 9
