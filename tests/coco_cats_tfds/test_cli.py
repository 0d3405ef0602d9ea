"""The command `coco-cats`."""

import json
import re

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from coco_cats_tfds.annotations import InstancesIndex
from coco_cats_tfds.cli import main
from coco_cats_tfds.coco_cats_dataset_builder import Builder, CocoCatsConfig
from coco_cats_tfds.contact_sheet import CELL, tint

SQUARE = [[2.0, 2.0, 8.0, 2.0, 8.0, 8.0, 2.0, 8.0]]
WIDE = [[0.0, 4.0, 30.0, 4.0, 30.0, 12.0, 0.0, 12.0]]


def test_sample_writes_and_names_the_next_step(tmp_path, capsys):
    folder = tmp_path / "sample"
    assert main(["sample", str(folder), "--train", "5", "--validation", "5"]) == 0
    assert len(list((folder / "train2017").glob("*.jpg"))) == 5
    assert f"--manual_dir {folder}" in capsys.readouterr().out


def test_sample_of_two_classes_builds_as_it_says(tmp_path, capsys):
    folder, out = tmp_path / "sample", tmp_path / "out"
    arguments = ["sample", str(folder), "--cups", "--train", "5", "--validation", "5"]
    assert main(arguments) == 0
    *command, config, _ = capsys.readouterr().out.splitlines()[-1].split("'")
    assert command == [
        f"  coco-cats build --manual_dir {folder} --data_dir OUT --config "
    ]
    arguments = ["--manual_dir", str(folder), "--data_dir", str(out)]
    assert main(["build", *arguments, "--config", config]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"  cat: \d+ images.*\n  cup: [1-9] images", printed)


def test_sample_refuses_a_folder_in_use(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("keep")
    assert main(["sample", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_faults_are_one_line_and_status_2(tmp_path, capsys):
    assert main(["sample", str(tmp_path / "s"), "--train", "65"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("coco-cats: ")
    assert error.count("\n") == 1


@pytest.fixture
def built(make_coco, tmp_path):
    """Builds a configuration with crowds and small instances; gives root and folder."""

    def build(**fields):
        entries = [
            (1, 17, 0, SQUARE, 36.0),
            (1, 17, 1, WIDE, 240.0),
            (3, 17, 0, WIDE, 240.0),
            (3, 17, 0, SQUARE, 3.0),
            (2, 18, 0, SQUARE, 36.0),
        ]
        annotations = [
            {
                "id": id,
                "image_id": image,
                "category_id": category,
                "iscrowd": iscrowd,
                "segmentation": segmentation,
                "area": area,
            }
            for id, (image, category, iscrowd, segmentation, area) in enumerate(entries)
        ]
        root = make_coco(annotations=annotations)
        config = CocoCatsConfig(name="mine", min_area=10, **fields)
        builder = Builder(data_dir=tmp_path / "out", config=config)
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=root)
        )
        return root, tmp_path / "out"

    return build


def verify(root, out):
    return main(["verify", str(out), "--manual_dir", str(root)])


@pytest.mark.parametrize("crowd", ["ignore", "foreground", "background"])
def test_verify_proves_every_mask(built, crowd, capsys):
    assert verify(*built(crowd=crowd, negatives=1)) == 0
    printed = capsys.readouterr().out
    assert "train: of 4 records 4 masks and 4 images are proven, 0 faults" in printed
    assert "validation: of 4 records 4 masks and 4 images" in printed


def test_verify_of_some_licences(make_coco, tmp_path, capsys):
    root = make_coco()
    for path in (root / "annotations").iterdir():
        content = json.loads(path.read_text())
        for image in content["images"]:
            image["license"] = 4 if image["id"] > 1 else 2
        content["licenses"] = [{"id": 2}, {"id": 4}]
        path.write_text(json.dumps(content))
    config = CocoCatsConfig(name="free", licenses=[4], negatives=1)
    builder = Builder(data_dir=tmp_path / "out", config=config)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=root)
    )
    assert "1 images that have none of the licences" in capsys.readouterr().out
    assert verify(root, tmp_path / "out") == 0
    assert "train: of 2 records 2 masks and 2 images" in capsys.readouterr().out


def test_verify_of_the_format_for_random_access(make_coco, tmp_path, capsys):
    builder = Builder(data_dir=tmp_path, file_format="array_record")
    root = make_coco()
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=root)
    )
    assert verify(root, tmp_path) == 0
    assert "2 masks and 2 images are proven" in capsys.readouterr().out


def flip_one_pixel(records):
    cell = records[0].features.feature["segmentation_mask"].bytes_list
    mask = tf.io.decode_png(cell.value[0]).numpy()
    mask[7, 11, 0] ^= 1
    cell.value[0] = tf.io.encode_png(mask).numpy()
    return records


def cat_as_255(records):
    cell = records[0].features.feature["segmentation_mask"].bytes_list
    mask = tf.io.decode_png(cell.value[0]).numpy()
    mask[mask == 1] = 255
    cell.value[0] = tf.io.encode_png(mask).numpy()
    return records


def swap_the_images(records):
    first, second = (r.features.feature["image"].bytes_list.value for r in records)
    first[0], second[0] = second[0], first[0]
    return records


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (flip_one_pixel, "differs in 1 pixels; its values are [0, 1"),
        (cat_as_255, "its values are [0, 255]"),
        (swap_the_images, "is not the file "),
        (lambda records: records[:1] * 2, "is there twice"),
    ],
    ids=["one-pixel", "255", "images-swapped", "twice"],
)
def test_verify_finds_what_is_wrong(built, rewrite, change, fault, capsys):
    root, out = built()
    rewrite(out, change)
    assert verify(root, out) == 1
    assert fault in capsys.readouterr().out


def test_verify_finds_an_image_that_was_left_out(built, capsys):
    root, out = built()
    annotations = root / "annotations" / "instances_train2017.json"
    text = annotations.read_text()
    annotations.write_text(text.replace('"category_id": 18', '"category_id": 17'))
    assert verify(root, out) == 1
    assert "image 2 is missing" in capsys.readouterr().out


def test_verify_shares_no_fault_with_the_build(
    make_coco, tmp_path, monkeypatch, capsys
):
    """An index that loses an image is no excuse for a dataset that lacks it."""
    by_image = InstancesIndex.by_image

    def lose(index, category_ids):
        found = by_image(index, category_ids)
        found.pop(3, None)
        return found

    monkeypatch.setattr(InstancesIndex, "by_image", lose)
    root = make_coco()
    Builder(data_dir=tmp_path / "out").download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=root)
    )
    assert verify(root, tmp_path / "out") == 1
    assert "image 3 is missing" in capsys.readouterr().out


def damage_records(root, out):
    (path,) = out.rglob("*train.tfrecord*")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return "cannot be read further"


def lose_records(root, out):
    next(iter(out.rglob("*train.tfrecord*"))).unlink()
    return "cannot be read further"


def empty_a_segmentation(root, out):
    path = root / "annotations" / "instances_train2017.json"
    path.write_text(path.read_text().replace(json.dumps(SQUARE), "[]"))
    return "cannot be drawn"


@pytest.mark.parametrize("harm", [damage_records, lose_records, empty_a_segmentation])
def test_verify_names_what_it_cannot_read(built, harm, capsys):
    root, out = built()
    fault = harm(root, out)
    assert verify(root, out) == 1
    assert fault in capsys.readouterr().out


@pytest.mark.parametrize("harm", ["{", '{"fileFormat": 5}', None])
def test_verify_of_a_damaged_info(built, harm, capsys):
    root, out = built()
    (info,) = out.rglob("dataset_info.json")
    if harm is None:
        metadata = info.with_name("metadata.json")
        metadata.write_text(metadata.read_text().replace("crowd", "crowds"))
    else:
        info.write_text(harm)
    assert verify(root, out) == 2
    assert "does not say what it was built with" in capsys.readouterr().err


def test_verify_from_inside_the_dataset(built, monkeypatch, capsys):
    root, out = built()
    (info,) = out.rglob("dataset_info.json")
    monkeypatch.chdir(info.parent)
    assert main(["verify", ".", "--manual_dir", str(root)]) == 0
    assert str(info.parent) in capsys.readouterr().out


def test_verify_against_what_was_fetched(make_coco, serve, tmp_path, capsys):
    server = serve(make_coco())
    config = CocoCatsConfig(name="net", base_url=server.url)
    Builder(data_dir=tmp_path, config=config).download_and_prepare()
    server.requests.clear()
    assert main(["verify", str(tmp_path), "--base_url", server.url]) == 0
    assert "train: of 2 records 2 masks and 2 images are proven" in (
        capsys.readouterr().out
    )
    assert not server.requests


def test_show_draws_the_sheet(built, tmp_path, capsys):
    _, out = built(negatives=1)
    sheet = tmp_path / "grid.png"
    assert main(["show", str(out), "--output", str(sheet), "--images", "3"]) == 0
    picture = PIL.Image.open(sheet)
    assert picture.width > 2 * CELL
    printed = capsys.readouterr().out
    assert "3 images of " in printed
    assert "train: 4 images (2 of them negatives)" in printed


def test_what_the_sheet_shows():
    photo = np.full((40, 40, 3), 100, np.uint8)
    mask = np.zeros((40, 40), np.uint8)
    mask[5:15, 5:15] = 1
    mask[20:36, 20:36] = 255
    drawn = tint(photo, mask)
    np.testing.assert_array_equal(drawn[mask == 0], 100)
    assert (drawn[mask == 1][:, 0] > 150).all()  # Red.
    changed = (drawn != photo).any(axis=-1)
    assert 0.2 < changed[20:36, 20:36].mean() < 0.3  # Two of eight lines.


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--split", "test"], "has no split 'test', only ['train', 'validation']"),
        (["--config", "pets"], "configuration 'pets' under"),
        (["--config", "*"], "configuration '*' under"),
        (["--images", "0"], "at least 1 image"),
    ],
)
def test_show_refuses(built, tmp_path, capsys, arguments, fault):
    _, out = built()
    assert (
        main(["show", str(out), "--output", str(tmp_path / "x.png"), *arguments]) == 2
    )
    assert fault in capsys.readouterr().err


def test_nothing_built(tmp_path, capsys):
    assert main(["verify", str(tmp_path)]) == 2
    assert "No finished coco_cats dataset under" in capsys.readouterr().err
