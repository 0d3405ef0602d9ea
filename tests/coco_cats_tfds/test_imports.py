"""Photos and labels as tools write them, brought into COCO's layout."""

import base64
import io
import json
import os

import numpy as np
import PIL.Image
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from coco_cats_tfds import CocoDataError
from coco_cats_tfds.cli import main
from coco_cats_tfds.imports import import_photos

HEIGHT, WIDTH = 40, 60
SQUARE = [10.0, 5.0, 30.0, 5.0, 30.0, 25.0, 10.0, 25.0]
TRIANGLE = [35.0, 10.0, 55.0, 30.0, 35.0, 30.0]
OBJECTS = {
    "a.jpg": [("cat", SQUARE)],
    "b.jpg": [("cat", TRIANGLE), ("dog", SQUARE)],
    "c.jpg": [],
}


def save(path, pixels=None, orientation=None, **options):
    """A photo; of noise if nothing is said."""
    if pixels is None:
        rng = np.random.default_rng(sum(path.name.encode()))
        pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    exif = PIL.Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path, exif=exif, **options)
    return path


@pytest.fixture
def photos(tmp_path):
    for name in OBJECTS:
        save(tmp_path / "photos" / name)
    return tmp_path / "photos"


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def coco_of(objects, size=(WIDTH, HEIGHT), names=None):
    """COCO's instances; `names` are those of the files, if others than the photos'."""
    ids = {"cat": 3, "dog": 7}
    content = {
        "images": [],
        "annotations": [],
        "categories": [{"id": id, "name": name} for name, id in ids.items()],
    }
    for number, (photo, shapes) in enumerate(objects.items()):
        name = (names or {}).get(photo, photo)
        width, height = size
        content["images"].append(
            {"id": number, "file_name": name, "width": width, "height": height}
        )
        for category, polygon in shapes:
            segmentation = polygon if isinstance(polygon, dict) else [polygon]
            content["annotations"].append(
                {
                    "id": len(content["annotations"]),
                    "image_id": number,
                    "category_id": ids[category],
                    "segmentation": segmentation,
                    "iscrowd": 0,
                }
            )
    return content


def as_coco(folder):
    return [write_json(folder / "result.json", coco_of(OBJECTS))]


def as_coco_with_folders(folder):
    names = {"a.jpg": "images/a.jpg", "b.jpg": "upload\\1\\b.jpg"}
    content = coco_of(OBJECTS, names=names)
    return [write_json(folder / "instances_default.json", content)]


def as_labelme(folder):
    for photo, shapes in OBJECTS.items():
        content = {"imagePath": photo, "imageWidth": WIDTH, "imageHeight": HEIGHT}
        content["shapes"] = [
            {"label": name, "points": points(polygon), "shape_type": "polygon"}
            for name, polygon in shapes
        ]
        write_json(folder / f"{photo[0]}.json", content)
    return [folder]


def points(polygon):
    return np.reshape(polygon, (-1, 2)).tolist()


def as_via(folder):
    content = {}
    for photo, shapes in OBJECTS.items():
        regions = [
            {
                "shape_attributes": {
                    "name": "polygon",
                    "all_points_x": polygon[0::2],
                    "all_points_y": polygon[1::2],
                },
                "region_attributes": {"animal": name},
            }
            for name, polygon in shapes
        ]
        content[f"{photo}123"] = {"filename": photo, "size": 123, "regions": regions}
    return [write_json(folder / "via.json", {"_via_img_metadata": content})]


def as_yolo(folder):
    folder.mkdir()
    for photo, shapes in OBJECTS.items():
        lines = [
            " ".join([str(["cat", "dog"].index(name)), *map(str, relative(polygon))])
            for name, polygon in shapes
        ]
        (folder / f"{photo[0]}.txt").write_text("\n".join(lines) + "\n")
    (folder / "classes.txt").write_text("cat\ndog\n")
    return [folder]


def relative(polygon):
    return (np.array(polygon) / np.tile([WIDTH, HEIGHT], len(polygon) // 2)).tolist()


def mask_of(polygon, height=HEIGHT, width=WIDTH):
    rle = coco_mask.merge(coco_mask.frPyObjects([polygon], height, width))
    return coco_mask.decode(rle).astype(bool)


def read(folder):
    """Of each photo the masks of its categories, and the split; by its name."""
    found = {}
    for split in ("train2017", "val2017"):
        coco = COCO(str(folder / "annotations" / f"instances_{split}.json"))
        for image in coco.imgs.values():
            with PIL.Image.open(folder / split / image["file_name"]) as picture:
                assert picture.size == (image["width"], image["height"])
            annotations = coco.imgToAnns[image["id"]]
            masks = {
                coco.cats[each["category_id"]]["name"]: coco.annToMask(each) > 0
                for each in annotations
            }
            for each in annotations:
                mask = coco.annToMask(each)
                assert each["area"] == mask.sum()
            found[image["file_name"]] = masks, split
    return found


def as_label_studios_coco(folder):
    """Its names, and no size of the photo without a label."""
    content = coco_of(OBJECTS)
    for image in content["images"]:
        if not OBJECTS[image["file_name"]]:
            image["width"] = image["height"] = None
        image["file_name"] = f"/data/upload/1/{image['file_name']}"
    assert None in {image["width"] for image in content["images"]}
    return [write_json(folder / "result.json", content)]


def as_label_studios_yolo(folder):
    folder.mkdir()
    as_yolo(folder / "labels")
    (folder / "labels" / "classes.txt").rename(folder / "classes.txt")
    write_json(folder / "notes.json", {"categories": [], "info": {}})
    return [folder]


def as_ultralytics(folder):
    """As CVAT and Roboflow export it."""
    folder.mkdir()
    as_yolo(folder / "labels")
    (folder / "labels" / "classes.txt").unlink()
    (folder / "data.yaml").write_text("names: {0: cat, 1: dog}\ntrain: train.txt\n")
    (folder / "train.txt").write_text("images/a.jpg\n")
    return [folder]


def as_cocos_folder(folder):
    write_json(folder / "captions_train.json", {"images": [], "annotations": [{}]})
    write_json(folder / "panoptic_train.json", {"images": [], "annotations": [{}]})
    write_json(folder / "instances_default.json", coco_of(OBJECTS))
    return [folder]


@pytest.mark.parametrize(
    "write",
    [
        *(as_coco, as_coco_with_folders, as_labelme, as_via, as_yolo),
        *(as_label_studios_coco, as_label_studios_yolo, as_ultralytics),
        as_cocos_folder,
    ],
)
def test_outlines_of_every_tool_are_the_same_pixels(write, photos, tmp_path):
    output = tmp_path / "mine"
    report = import_photos([photos], write(tmp_path / "labels"), output)
    found = read(output)
    assert set(found) == set(OBJECTS)
    for photo, shapes in OBJECTS.items():
        masks, split = found[photo]
        assert set(masks) == {name for name, _ in shapes}
        for name, polygon in shapes:
            np.testing.assert_array_equal(masks[name], mask_of(polygon))
        copied = (output / split / photo).read_bytes()
        assert copied == (photos / photo).read_bytes()
    assert (report.photos.total(), report.encoded) == (3, 0)
    assert report.objects == {"cat": 2, "dog": 1}


@pytest.mark.parametrize(
    ("values", "mode", "suffix"),
    [
        ((0, 255, 0), "L", ""),
        ((0, 1, 0), "L", "_mask"),
        ((0, 1, 2), "P", ""),
        ((0, 2, 255), "L", ""),
    ],
)
@pytest.mark.parametrize("beside", [False, True])
def test_masks(values, mode, suffix, beside, photos, tmp_path):
    folder = photos if beside else tmp_path / "masks"
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    kept = {}
    for photo in OBJECTS:
        mask = rng.choice(np.array(values, np.uint8), (HEIGHT, WIDTH))
        picture = PIL.Image.fromarray(mask)
        if mode == "P":
            picture.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0])
        picture.save(folder / f"{photo[0]}{suffix}.png")
        kept[photo] = mask
    import_photos([photos], [folder], tmp_path / "mine", names=["cat", "dog"])
    found = read(tmp_path / "mine")
    assert set(found) == set(kept)
    foreground = [value for value in values if value not in (0, 255)]
    for photo, mask in kept.items():
        masks, split = found[photo]
        if not foreground:
            np.testing.assert_array_equal(masks["cat"], mask == 255)
            continue
        content = json.loads(
            (tmp_path / f"mine/annotations/instances_{split}.json").read_text()
        )
        names = {each["id"]: each["name"] for each in content["categories"]}
        ids = {each["file_name"]: each["id"] for each in content["images"]}
        drawn = [a for a in content["annotations"] if a["image_id"] == ids[photo]]
        for value in foreground:
            (one,) = [
                each
                for each in drawn
                if not each["iscrowd"]
                and names[each["category_id"]] == ["cat", "dog"][value - 1]
            ]
            pixels = coco_mask.decode(one["segmentation"])
            np.testing.assert_array_equal(pixels, mask == value)
        crowds = [each for each in drawn if each["iscrowd"]]
        assert len(crowds) == (0 if 255 not in values else 2)
        for each in crowds:
            pixels = coco_mask.decode(each["segmentation"])
            np.testing.assert_array_equal(pixels, mask == 255)


def as_shown(pixels, orientation):
    """What a viewer shows of stored pixels [H, W], by EXIF's own words."""
    return {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.T,
        6: pixels[::-1].T,
        7: pixels[::-1, ::-1].T,
        8: pixels[:, ::-1].T,
    }[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("made_on", ["stored", "upright"])
@pytest.mark.parametrize("shape", [(40, 56), (40, 40)])
@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_turned_photos_and_their_labels(orientation, made_on, shape, kind, tmp_path):
    """The object is white: where it is after the import, and where the label is."""
    stored = np.zeros(shape, bool)
    stored[8:16, 8:32] = stored[8:24, 8:16] = True
    upright = as_shown(stored, orientation)
    labelled = stored if made_on == "stored" else upright
    height, width = labelled.shape
    pixels = np.repeat(stored[..., None] * np.uint8(255), 3, axis=2)
    save(tmp_path / "photos" / f"a.{kind}", pixels, orientation)
    save(tmp_path / "photos" / "z.jpg", pixels)
    rle = coco_mask.encode(np.asfortranarray(labelled, np.uint8))
    rle["counts"] = rle["counts"].decode()
    content = coco_of({f"a.{kind}": [("cat", rle)]}, (width, height))
    content["images"].append(
        {"id": 5, "file_name": "z.jpg", "width": shape[1], "height": shape[0]}
    )
    labels = write_json(tmp_path / "labels.json", content)

    def bring(**options):
        return import_photos([tmp_path / "photos"], [labels], tmp_path / "m", **options)

    tells = orientation == 1 or (orientation > 4 and shape[0] != shape[1])
    if not tells:
        with pytest.raises(CocoDataError, match=rf"1 photos.*a\.{kind}.*--orientation"):
            bring()
        assert not (tmp_path / "m").exists()
        report = bring(orientation=made_on)
    else:
        # What the sizes tell goes before what was said.
        report = bring(orientation="upright" if made_on == "stored" else "stored")
    masks, split = read(tmp_path / "m")["a.jpg"]
    np.testing.assert_array_equal(masks["cat"], upright)
    with PIL.Image.open(tmp_path / "m" / split / "a.jpg") as picture:
        assert picture.getexif().get(0x0112, 1) == 1
        shown = np.asarray(picture.convert("L")) > 127
    np.testing.assert_array_equal(shown, upright)
    assert report.turned == (orientation != 1)
    assert report.encoded == (orientation != 1 or kind == "png")


@pytest.mark.parametrize("made_on", ["stored", "upright"])
def test_outlines_without_a_recorded_size_on_a_turned_photo(made_on, tmp_path):
    for name in OBJECTS:
        orientation = 6 if name == "a.jpg" else None
        save(tmp_path / "photos" / name, orientation=orientation)
    labels = as_yolo(tmp_path / "labels")
    import_photos([tmp_path / "photos"], labels, tmp_path / "mine", orientation=made_on)
    masks, _ = read(tmp_path / "mine")["a.jpg"]
    if made_on == "stored":
        expected = as_shown(mask_of(SQUARE), 6)
    else:
        shares = np.reshape(relative(SQUARE), (-1, 2)) * [HEIGHT, WIDTH]
        expected = mask_of(shares.ravel().tolist(), height=WIDTH, width=HEIGHT)
    np.testing.assert_array_equal(masks["cat"], expected)


def test_the_split_stays_when_photos_are_added(tmp_path):
    names = [f"cat{number}.jpg" for number in range(60)]
    for name in names:
        save(tmp_path / "photos" / name, np.zeros((8, 8, 3), np.uint8))

    def split(count, output, **options):
        objects = {name: [("cat", [1, 1, 5, 1, 5, 5])] for name in names[:count]}
        labels = write_json(tmp_path / "labels.json", coco_of(objects, (8, 8)))
        import_photos([tmp_path / "photos"], [labels], tmp_path / output, **options)
        return {name: side for name, (_, side) in read(tmp_path / output).items()}

    few, every = split(40, "few"), split(60, "every")
    assert few == {name: every[name] for name in few}
    share = [*every.values()].count("val2017") / 60
    assert 0.05 < share < 0.4
    half = split(60, "half", validation=0.5)
    assert 0.25 < [*half.values()].count("val2017") / 60 < 0.7
    # Whoever validates at 0.2 does so at 0.5.
    assert every.items() >= {n: s for n, s in half.items() if s == "train2017"}.items()
    groups = split(60, "groups", group_by=r"cat(\d)")
    by_digit = {}
    for name, side in groups.items():
        by_digit.setdefault(name[3], set()).add(side)
    assert all(len(sides) == 1 for sides in by_digit.values())
    assert {*groups.values()} == {"train2017", "val2017"}


def test_two_photos_are_on_two_sides(tmp_path):
    objects = {name: OBJECTS[name] for name in ("a.jpg", "b.jpg")}
    for name in objects:
        save(tmp_path / "photos" / name)
    labels = write_json(tmp_path / "labels.json", coco_of(objects))
    report = import_photos([tmp_path / "photos"], [labels], tmp_path / "mine")
    assert report.photos == {"train": 1, "validation": 1}


def test_folders_that_tell_the_split(tmp_path):
    """As Roboflow writes them, with the same name in two of them."""
    for folder in ("train", "valid", "test"):
        save(tmp_path / "all" / folder / "a.jpg")
        content = coco_of({"a.jpg": OBJECTS["a.jpg"]})
        write_json(tmp_path / "all" / folder / "_annotations.coco.json", content)
    report = import_photos([tmp_path / "all"], [tmp_path / "all"], tmp_path / "mine")
    assert report.photos == {"train": 1, "validation": 1}
    assert report.left == {"photos of a split for tests": 1}
    assert report.by == "the names of the labels' folders"
    for split, folder in (("train2017", "train"), ("val2017", "valid")):
        (path,) = (tmp_path / "mine" / split).iterdir()
        assert path.read_bytes() == (tmp_path / f"all/{folder}/a.jpg").read_bytes()


@pytest.mark.parametrize("names", ["[cat, dog]", "{0: cat, 1: dog}"])
def test_folders_of_labels_and_photos_in_those_that_tell_the_split(names, tmp_path):
    """As Roboflow exports YOLO's text."""
    sides = {"a": "train", "train_b": "valid", "c": "test"}
    for name, side in sides.items():
        save(tmp_path / side / "images" / f"{name}.jpg")
        labels = tmp_path / side / "labels"
        labels.mkdir()
        values = " ".join(map(str, relative(SQUARE)))
        (labels / f"{name}.txt").write_text(f"1 {values}\n")
    (tmp_path / "data.yaml").write_text(f"names: {names}\n")
    (tmp_path / "README.roboflow.txt").write_text("Exported.\n")
    output = tmp_path / "mine"
    import_photos([tmp_path], [tmp_path], output)
    found = read(output)
    splits = {name: split for name, (_, split) in found.items()}
    assert splits == {"a.jpg": "train2017", "train_b.jpg": "val2017"}
    assert [*found["a.jpg"][0]] == ["dog"]


def test_a_photo_of_a_train_is_on_no_side_by_its_name(tmp_path):
    """labelme writes a file for each photo, with the photo's name."""
    for folder, name in (("train", "a"), ("valid", "train_b")):
        save(tmp_path / folder / f"{name}.jpg")
        content = {
            "imagePath": f"{name}.jpg", "imageWidth": WIDTH, "imageHeight": HEIGHT,
            "shapes": [{"label": "cat", "points": points(TRIANGLE)}],
        }  # fmt: skip
        write_json(tmp_path / folder / f"{name}.json", content)
    import_photos([tmp_path], [tmp_path], tmp_path / "mine")
    splits = {name: split for name, (_, split) in read(tmp_path / "mine").items()}
    assert splits == {"a.jpg": "train2017", "train_b.jpg": "val2017"}


@pytest.mark.parametrize("text", ["nc: 1", "names: {1: cat}", "- cat", "names: ["])
def test_a_data_yaml_that_names_nothing(text, photos, tmp_path):
    (folder,) = as_ultralytics(tmp_path / "labels")
    (folder / "data.yaml").write_text(text + "\n")
    with pytest.raises(CocoDataError, match=r"data.yaml has no `names`.*--names"):
        import_photos([photos], [folder], tmp_path / "mine")


def test_what_lies_beside_instances_is_told(photos, tmp_path):
    report = import_photos([photos], as_cocos_folder(tmp_path / "a"), tmp_path / "mine")
    assert report.left == {"JSON files of COCO's other tasks": 2}


def test_labels_that_are_called_as_notes_are(tmp_path):
    """labelme's of such photos, and masks of others."""
    names = ["notes", "stuff_1", "instances_1"]
    for name in names:
        save(tmp_path / "photos" / f"{name}.jpg")
        mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
        save(tmp_path / "masks" / f"{name}.png", mask)
    report = import_photos(
        [tmp_path / "photos"], [tmp_path / "masks"], tmp_path / "mine", names=["cat"]
    )
    assert report.objects == {"cat": 3}
    assert not report.left
    for name in names[:2]:
        shapes = [{"label": "cat", "points": np.reshape(SQUARE, (-1, 2)).tolist()}]
        content = {"imagePath": f"{name}.jpg", "shapes": shapes}
        content |= {"imageWidth": WIDTH, "imageHeight": HEIGHT}
        write_json(tmp_path / "labels" / f"{name}.json", content)
    report = import_photos(
        [tmp_path / "photos"], [tmp_path / "labels"], tmp_path / "other"
    )
    assert report.objects == {"cat": 2}


def test_one_name_for_two_photos(photos, tmp_path):
    save(tmp_path / "others" / "a.jpg")
    labels = as_coco(tmp_path / "labels")
    with pytest.raises(CocoDataError, match=r"'a\.jpg', which may be .*photos.*others"):
        import_photos([photos, tmp_path / "others"], labels, tmp_path / "mine")


def test_what_is_left_out_is_told(photos, tmp_path, capsys):
    content = coco_of({**OBJECTS, "nowhere.jpg": []})
    labels = write_json(tmp_path / "labels.json", content)
    save(photos / "unlabelled.jpg")
    mine = str(tmp_path / "mine")
    arguments = [str(photos), "--annotations", str(labels), "--output", mine]
    assert main(["import", *arguments, "--categories", "cat"]) == 0
    printed = capsys.readouterr().out
    for line in (
        "objects: 2 cat",
        "left out: 1 objects of other categories",
        "left out: 1 labels without a photo: nowhere.jpg",
        "left out: 1 photos without labels: unlabelled.jpg",
        f"coco-cats build --manual_dir {mine} --data_dir OUT\n",
    ):
        assert line in printed
    assert main(["import", *arguments]) == 2
    assert "mine is there already" in capsys.readouterr().err


BOX = (30, 20, 12, 8)


def crowds_in(folder, photo):
    """The pixels of a photo that are not to count, [H, W]."""
    found = np.zeros((HEIGHT, WIDTH), bool)
    for split in ("train2017", "val2017"):
        coco = COCO(folder / "annotations" / f"instances_{split}.json")
        for image in coco.imgs.values():
            ids = coco.getAnnIds(image["id"]) if image["file_name"] == photo else []
            for each in coco.loadAnns(ids):
                if each["iscrowd"]:
                    found |= coco.annToMask(each) > 0
    return found


def coco_with_a_box(folder):
    content = coco_of(OBJECTS)
    box = {**content["annotations"][0], "id": 90, "image_id": 2, "segmentation": []}
    content["annotations"].append({**box, "bbox": BOX})
    return write_json(folder / "labels.json", content)


def yolo_with_a_box(folder):
    as_yolo(folder)
    x, y, width, height = BOX
    values = np.divide([x + width / 2, y + height / 2, width, height], [60, 40] * 2)
    (folder / "c.txt").write_text(" ".join(map(str, [0, *values])))
    return folder


@pytest.mark.parametrize("write", [coco_with_a_box, yolo_with_a_box])
def test_a_box_without_an_outline_is_neither_cat_nor_background(
    write, photos, tmp_path, capsys
):
    labels, mine = write(tmp_path / "labels"), tmp_path / "mine"
    arguments = [str(photos), "-a", str(labels), "--output", str(mine)]
    assert main(["import", *arguments]) == 0
    assert "ignored in training: 1 crowds, or boxes of" in capsys.readouterr().out
    box = np.zeros((HEIGHT, WIDTH), bool)
    box[20:28, 30:42] = True
    np.testing.assert_array_equal(crowds_in(mine, "c.jpg"), box)
    config = {"name": "mine", "categories": ["cat"], "negatives": 1}
    out = str(tmp_path / "out")
    build = ["--manual_dir", str(mine), "--data_dir", out, "--config"]
    assert main(["build", *build, json.dumps(config)]) == 0
    assert capsys.readouterr().out.count("(0 of them negatives)") == 2


def test_an_object_without_outline_and_box_may_be_anywhere(photos, tmp_path):
    content = coco_of(OBJECTS)
    lost = {**content["annotations"][0], "id": 90, "segmentation": []}
    content["annotations"].append(lost)
    labels = write_json(tmp_path / "labels.json", content)
    report = import_photos([photos], [labels], tmp_path / "mine")
    assert report.ignored == 1
    assert crowds_in(tmp_path / "mine", "a.jpg").all()
    masks, _ = read(tmp_path / "mine")["a.jpg"]
    assert "cat" in masks


def test_a_photo_with_a_point_alone_is_left_out(photos, tmp_path):
    """There may be a cat on it."""
    as_labelme(tmp_path / "labels")
    path = tmp_path / "labels" / "c.json"
    point = {"label": "cat", "points": [[9, 9]], "shape_type": "point"}
    write_json(path, {**json.loads(path.read_text()), "shapes": [point]})
    report = import_photos([photos], [tmp_path / "labels"], tmp_path / "mine")
    assert "c.jpg" not in read(tmp_path / "mine")
    assert report.left["photos with marks, and no pixels of an object"] == 1


@pytest.mark.parametrize("kind", ["labelme", "circle", "ellipse"])
def test_circles_and_ellipses_are_outlines(kind, photos, tmp_path):
    if kind == "labelme":
        circle = {"label": "cat", "points": [[30, 20], [30, 30]]}
        content = {"imagePath": "a.jpg", "imageWidth": WIDTH, "imageHeight": HEIGHT}
        content["shapes"] = [{**circle, "shape_type": "circle"}]
    else:
        shape = {"name": kind, "cx": 30, "cy": 20, "r": 10, "rx": 10, "ry": 10}
        region = {"shape_attributes": shape, "region_attributes": {"a": "cat"}}
        content = {"1": {"filename": "a.jpg", "regions": [region]}}
    path = write_json(tmp_path / "labels" / "a.json", content)
    other = coco_of({"b.jpg": []})
    others = write_json(tmp_path / "b.json", other)
    import_photos([photos], [path, others], tmp_path / "mine")
    masks, _ = read(tmp_path / "mine")["a.jpg"]
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    disc = (columns + 0.5 - 30) ** 2 + (rows + 0.5 - 20) ** 2 < 100
    assert np.count_nonzero(masks["cat"] != disc) < 30  # Of 314, along the edge.


def test_masks_in_which_255_may_be_either_are_refused(photos, tmp_path):
    save(tmp_path / "m" / "a.png", np.tile(np.uint8([0, 1]), (HEIGHT, WIDTH // 2)))
    ends = np.tile(np.uint8([0, 255]), (HEIGHT, WIDTH // 2))
    save(tmp_path / "m" / "b.png", ends)
    with pytest.raises(CocoDataError, match=r"b\.png has the values \[0, 255\], and"):
        import_photos([photos], [tmp_path / "m"], tmp_path / "mine", names=["cat"])
    # Where one has both, it is known what 255 is.
    both = np.tile(np.uint8([0, 1, 255]), (HEIGHT, WIDTH // 3))
    save(tmp_path / "m" / "c.png", both)
    report = import_photos([photos], [tmp_path / "m"], tmp_path / "mine", names=["cat"])
    assert report.objects == {"cat": 2}
    np.testing.assert_array_equal(crowds_in(tmp_path / "mine", "b.jpg"), ends == 255)


@pytest.mark.parametrize("mode", ["LA", "RGB", "RGBA"])
def test_masks_that_are_grey_in_colours(mode, photos, tmp_path):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:9, :9] = 255
    folder = tmp_path / "found"
    for photo in "ab":
        # As `unet-train predict` leaves them.
        save(folder / f"{photo}_overlay.png")
        picture = PIL.Image.fromarray(mask).convert(mode)
        picture.save(folder / f"{photo}_mask.png")
    report = import_photos([photos], [folder], tmp_path / "mine", names=["cat"])
    masks, _ = read(tmp_path / "mine")["a.jpg"]
    np.testing.assert_array_equal(masks["cat"], mask == 255)
    assert report.left == {"PNGs beside those called _mask": 2}
    if mode != "RGB":
        picture.putpixel((0, 0), (*picture.getpixel((0, 0))[:-1], 7))
        picture.save(folder / "b_mask.png")
        with pytest.raises(CocoDataError, match=r"b_mask\.png has the mode .*transp"):
            import_photos([photos], [folder], tmp_path / "other", names=["cat"])


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_masks_below_the_folder_that_is_given_for_the_photos(kind, tmp_path):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:9, :9] = 255
    for photo in "ab":
        save(tmp_path / "all" / "images" / f"{photo}.{kind}")
        save(tmp_path / "all" / "masks" / f"{photo}.png", mask)
    masks = tmp_path / "all" / "masks"
    report = import_photos(
        [tmp_path / "all"], [masks], tmp_path / "mine", names=["cat"]
    )
    assert report.objects == {"cat": 2}
    assert report.photos.total() == 2
    assert not report.without_labels


def test_what_two_files_say_alike_is_taken_once(photos, tmp_path):
    first = write_json(tmp_path / "a.json", coco_of(OBJECTS))
    more = {**OBJECTS, "c.jpg": [("dog", TRIANGLE)]}
    second = write_json(tmp_path / "b.json", coco_of(more))
    report = import_photos([photos], [first, second], tmp_path / "mine")
    assert report.objects == {"cat": 2, "dog": 2}
    assert report.left == {"objects that another file has, too": 3}


def test_names_that_tools_change(tmp_path):
    """Capital letters, and what Label Studio puts before an uploaded file's name."""
    save(tmp_path / "photos" / "A.JPG")
    save(tmp_path / "photos" / "b.jpg")
    save(tmp_path / "photos" / "0123abcd-c.jpg")
    names = {"b.jpg": "5f3e2a10-b.jpg", "c.jpg": "0123abcd-c.jpg"}
    labels = write_json(tmp_path / "labels.json", coco_of(OBJECTS, names=names))
    report = import_photos([tmp_path / "photos"], [labels], tmp_path / "mine")
    assert not report.without_photo
    assert not report.without_labels


def test_a_class_that_is_called_background(photos, tmp_path, capsys):
    as_labelme(tmp_path / "labels")
    path = tmp_path / "labels" / "c.json"
    shape = {"label": "background", "points": points(SQUARE), "shape_type": "polygon"}
    write_json(path, {**json.loads(path.read_text()), "shapes": [shape]})
    mine = str(tmp_path / "mine")
    arguments = [str(photos), "-a", str(tmp_path / "labels"), "--output", mine]
    assert main(["import", *arguments]) == 0
    assert '"categories": ["cat", "dog"]' in capsys.readouterr().out


def test_a_tiff_that_was_turned(tmp_path):
    """Pillow turns its pixels when they are read."""
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    save(tmp_path / "photos" / "a.tif", pixels, orientation=6)
    save(tmp_path / "photos" / "b.jpg")
    content = coco_of({"a.tif": [("cat", SQUARE)]}, (HEIGHT, WIDTH))  # Upright.
    labels = [write_json(tmp_path / "a.json", content)]
    labels.append(write_json(tmp_path / "b.json", coco_of({"b.jpg": []})))
    import_photos([tmp_path / "photos"], labels, tmp_path / "mine")
    (path,) = (tmp_path / "mine").glob("*/a.jpg")
    expected = np.rot90(pixels, -1).astype(int)
    with PIL.Image.open(path) as picture:
        assert np.abs(np.asarray(picture) - expected).mean() < 20
    masks, _ = read(tmp_path / "mine")["a.jpg"]
    expected = mask_of(SQUARE, WIDTH, HEIGHT)
    np.testing.assert_array_equal(masks["cat"], expected)


def test_yolo_as_others_write_it(tmp_path):
    """A list of the photos, names of the classes, a mark of UTF-8, nothing found."""
    for name in ("a.jpg", "b.jpg"):
        save(tmp_path / "photos" / name, orientation=3)
    folder = tmp_path / "labels"
    as_yolo(folder)
    (folder / "classes.txt").rename(folder / "obj.names")
    (folder / "train.txt").write_text("data/a.jpg\ndata/b.jpg\n")
    (folder / "c.txt").unlink()
    (folder / "b.txt").write_text("")
    text = (folder / "a.txt").read_text()
    (folder / "a.txt").write_text(text, "utf-8-sig")
    bring = [tmp_path / "photos"], [folder], tmp_path / "mine"
    with pytest.raises(CocoDataError, match="1 photos are turned .* shows it: a.jpg"):
        import_photos(*bring)
    report = import_photos(*bring, orientation="upright")
    assert report.objects == {"cat": 1}
    assert report.photos.total() == 2
    (folder / "a.txt").write_bytes(b"0 \xff")
    with pytest.raises(CocoDataError, match=r"a\.txt is no text in UTF-8"):
        import_photos([tmp_path / "photos"], [folder], tmp_path / "other")


def test_vias_boxes_to_tick(photos, tmp_path):
    region = via_region({"animal": {"cat": True, "dog": False}})
    region["b"] = {"filename": "b.jpg", "regions": []}
    labels = write_json(tmp_path / "via.json", region)
    report = import_photos([photos], [labels], tmp_path / "mine")
    assert report.objects == {"cat": 1}


def test_what_is_no_regular_file(photos, tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(CocoDataError, match=r"pipe\.json is no regular file"):
        import_photos([photos], [tmp_path / "pipe.json"], tmp_path / "mine")
    with pytest.raises(CocoDataError, match=r"has no label files"):
        import_photos([photos], [tmp_path], tmp_path / "mine")


def write_split(folder, sides):
    """A folder for each side, with photos and their labels."""
    for side, names in sides.items():
        for name in names:
            save(folder / side / name)
        content = coco_of({name: [("cat", SQUARE)] for name in names})
        write_json(folder / side / "_annotations.coco.json", content)


def test_photos_to_test_on_are_not_trained_on(tmp_path):
    write_split(
        tmp_path / "all", {"train": ["a.jpg", "b.jpg", "c.jpg"], "test": ["d.jpg"]}
    )
    for options in ({}, {"validation": 0.5}):
        mine = tmp_path / f"mine_{len(options)}"
        report = import_photos([tmp_path / "all"], [tmp_path / "all"], mine, **options)
        assert set(read(mine)) == {"a.jpg", "b.jpg", "c.jpg"}
        assert report.left == {"photos of a split for tests": 1}
    # Who names nothing but them means them.
    test = tmp_path / "all" / "test"
    save(test / "e.jpg")
    content = coco_of({name: [("cat", SQUARE)] for name in ("d.jpg", "e.jpg")})
    write_json(test / "_annotations.coco.json", content)
    import_photos([test], [test], tmp_path / "tests")
    assert set(read(tmp_path / "tests")) == {"d.jpg", "e.jpg"}


def test_folders_that_tell_the_side_of_some_photos_only(tmp_path):
    write_split(
        tmp_path / "all", {"train": ["a.jpg"], "val": ["b.jpg"], "x": ["c.jpg"]}
    )
    both = [tmp_path / "all"], [tmp_path / "all"]
    with pytest.raises(CocoDataError, match=r"of 2 photos, not that of c\.jpg"):
        import_photos(*both, tmp_path / "mine")
    import_photos(*both, tmp_path / "mine", validation=0.4)
    assert len(read(tmp_path / "mine")) == 3


def test_a_group_on_two_sides_by_the_names_of_folders(tmp_path):
    sides = {"train": ["day1_a.jpg", "day2_a.jpg"], "val": ["day1_b.jpg"]}
    write_split(tmp_path / "all", sides)
    both = [tmp_path / "all"], [tmp_path / "all"]
    with pytest.raises(CocoDataError, match=r"'day1' is on two sides, train and val"):
        import_photos(*both, tmp_path / "mine", group_by=r"day\d")
    import_photos(*both, tmp_path / "mine", group_by=r"day\d", validation=0.5)
    split = {name: side for name, (_, side) in read(tmp_path / "mine").items()}
    assert split["day1_a.jpg"] == split["day1_b.jpg"] != split["day2_a.jpg"]


def test_one_name_in_the_folders_of_two_sides(tmp_path):
    """Which photo is meant follows from the side that the label file is of."""
    root = tmp_path / "all"
    for side, polygon in (("train", SQUARE), ("val", TRIANGLE)):
        save(root / "images" / side / "a.jpg")
        content = coco_of({"a.jpg": [("cat", polygon)]})
        write_json(root / "annotations" / f"instances_{side}.json", content)
    report = import_photos([root / "images"], [root / "annotations"], tmp_path / "mine")
    assert report.by == "the names of the labels' folders"
    found = {split: masks for masks, split in read(tmp_path / "mine").values()}
    np.testing.assert_array_equal(found["train2017"]["cat"], mask_of(SQUARE))
    np.testing.assert_array_equal(found["val2017"]["cat"], mask_of(TRIANGLE))


def test_what_was_imported_is_built_and_proven(photos, tmp_path, capsys):
    labels = [str(each) for each in as_labelme(tmp_path / "labels")]
    mine, out = str(tmp_path / "mine"), str(tmp_path / "out")
    main(["import", str(photos), "--annotations", *labels, "--output", mine])
    line = capsys.readouterr().out.splitlines()[-1]
    config = line[line.index("{") : line.rindex("}") + 1]
    assert json.loads(config)["categories"] == ["cat", "dog"]
    build = ["build", "--manual_dir", mine, "--data_dir", out, "--config", config]
    assert main(build) == 0
    assert main(["verify", out, "--manual_dir", mine]) == 0
    assert "0 faults" in capsys.readouterr().out


def test_labelme_rectangles_masks_and_others(photos, tmp_path):
    part = np.zeros((6, 9), np.uint8)
    part[2:, 3:] = 255
    stream = io.BytesIO()
    PIL.Image.fromarray(part).save(stream, "PNG")
    shapes = [
        ("rectangle", [[5, 4], [20, 14]], None),
        ("mask", [[30, 20], [38, 25]], base64.b64encode(stream.getvalue()).decode()),
        ("line", [[1, 1], [2, 2]], None),
    ]
    content = {"imagePath": "../photos/a.jpg", "imageWidth": WIDTH}
    content |= {"imageHeight": HEIGHT, "shapes": []}
    for (kind, corners, mask), label in zip(shapes, ["box", "blob", "x"], strict=True):
        shape = {"label": label, "points": corners, "shape_type": kind, "mask": mask}
        content["shapes"].append(shape)
    write_json(tmp_path / "labels" / "a.json", content)
    other = {**content, "imagePath": "b.jpg", "shapes": []}
    write_json(tmp_path / "labels" / "b.json", other)
    report = import_photos([photos], [tmp_path / "labels"], tmp_path / "mine")
    masks, _ = read(tmp_path / "mine")["a.jpg"]
    box, blob = np.zeros((2, HEIGHT, WIDTH), bool)
    box[4:14, 5:20] = True
    blob[22:26, 33:39] = True
    np.testing.assert_array_equal(masks["box"], box)
    np.testing.assert_array_equal(masks["blob"], blob)
    assert report.left == {"labelme shapes of type 'line'": 1}


def via_region(attributes):
    shape = {"name": "rect", "x": 1, "y": 1, "width": 5, "height": 5}
    region = {"shape_attributes": shape, "region_attributes": attributes}
    return {"a": {"filename": "a.jpg", "regions": [region]}}


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("x.json", "{", r"x\.json is no JSON"),
        ("x.json", "[]", r"x\.json has no labels that are known"),
        ("x.json", '{"shapes": [{}], "imagePath": "a.jpg"}', r"x\.json is damaged"),
        ("x.json", json.dumps(via_region({"a": "1", "b": "2"})), r"--attribute"),
        ("x.json", json.dumps(via_region({})), r"--attribute"),
        ("x.json", json.dumps(coco_of(OBJECTS, (9, 9))), r"60 x 40.*made for 9 x 9"),
        ("x.json", json.dumps(coco_of({"q.jpg": []})), r"None of the 3 photos has"),
        ("x.json", json.dumps(coco_of({"a.jpg": []})), r"There is no outline in"),
        ("a.txt", "0 0.1 0.2 0.3", r"a\.txt, line 1"),
        ("a.txt", "0 0 0 .5 0 99 99", r"a\.txt, line 1"),
        ("a.txt", "cat 0 0 1 0 1 1", r"a\.txt, line 1"),
        ("a.txt", "0 0 0 1 0 1 1", r"class 0, and there are names for 0"),
        ("a.txt", "0 .1 .1\n", r"a\.txt.*of 'cat' for a\.jpg.*at least 3 points"),
        ("x.yaml", "", r"x\.yaml is no label file"),
        (
            "x.json",
            json.dumps(via_region({"a": {"1": True, "2": True}})),
            "--attribute",
        ),
    ],
)
def test_labels_that_cannot_be_used(name, content, fault, photos, tmp_path):
    path = tmp_path / "labels" / name
    path.parent.mkdir()
    path.write_text(content)
    if "'cat'" in fault:
        (path.parent / "classes.txt").write_text("cat\n")
        (path.parent / "b.txt").write_text("")
        path = path.parent
    with pytest.raises(CocoDataError, match=fault):
        import_photos([photos], [path], tmp_path / "mine")
    assert {each.name for each in tmp_path.iterdir()} == {"photos", "labels"}


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"categories": ["cow"]}, r"category 'cow'; there are \['cat', 'dog'\]"),
        ({"validation": 1.5}, r"between 0 and 1. Received: 1.5"),
        ({"group_by": "("}, r"nor a regular expression: '\('"),
        ({"group_by": "folder"}, r"only one photo, or one group"),
    ],
)
def test_options_that_cannot_be(options, fault, photos, tmp_path):
    labels = as_coco(tmp_path / "labels")
    with pytest.raises(CocoDataError, match=fault):
        import_photos([photos], labels, tmp_path / "mine", **options)
    assert not (tmp_path / "mine").exists()


def test_photos_and_masks_that_cannot_be_used(photos, tmp_path):
    def bring():
        import_photos([photos], [tmp_path / "m"], tmp_path / "mine", names=["cat"])

    save(tmp_path / "m" / "a.png")
    with pytest.raises(CocoDataError, match=r"a\.png has the mode RGB"):
        bring()
    save(tmp_path / "m" / "a.png", np.full((HEIGHT, WIDTH), 3, np.uint8))
    with pytest.raises(CocoDataError, match=r"labels are \[3\], and there are names"):
        bring()
    save(tmp_path / "m" / "a.png", np.full((HEIGHT, WIDTH), 1, np.uint8))
    save(tmp_path / "m" / "b.png", np.full((HEIGHT, WIDTH), 0, np.uint8))
    content = (photos / "a.jpg").read_bytes()
    (photos / "a.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(CocoDataError, match=r"a\.jpg is damaged"):
        bring()
    (photos / "a.jpg").write_text("no photo")
    with pytest.raises(CocoDataError, match=r"a\.jpg is no photo that can be read"):
        bring()
    assert {each.name for each in tmp_path.iterdir()} == {"photos", "m"}
    (photos / "a.jpg").write_bytes(content)
    bring()


def test_heic(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    for name in ("a.heic", "b.heic"):
        save(tmp_path / "photos" / name, orientation=None)
    objects = {"a.heic": [("cat", SQUARE)], "b.heic": []}
    labels = write_json(tmp_path / "labels.json", coco_of(objects))
    report = import_photos([tmp_path / "photos"], [labels], tmp_path / "mine")
    assert report.encoded == 2
    masks, _ = read(tmp_path / "mine")["a.jpg"]
    np.testing.assert_array_equal(masks["cat"], mask_of(SQUARE))


def test_cocos_own_photos_and_labels(test_data, tmp_path):
    """Each annotation is of the same pixels, each photo of the same bytes."""
    folder, mine = test_data / "coco_real", tmp_path / "mine"
    import_photos([folder], [folder / "annotations"], mine)
    count = 0
    for split in ("train2017", "val2017"):
        before, after = (
            COCO(str(each / "annotations" / f"instances_{split}.json"))
            for each in (folder, mine)
        )
        names = {image["file_name"]: id for id, image in after.imgs.items()}
        assert len(names) == len(before.imgs)
        for id, image in before.imgs.items():
            name = image["file_name"]
            copied = (mine / split / name).read_bytes()
            assert copied == (folder / split / name).read_bytes()
            pairs = zip(before.imgToAnns[id], after.imgToAnns[names[name]], strict=True)
            for one, other in pairs:
                assert one["iscrowd"] == other["iscrowd"]
                category = after.cats[other["category_id"]]["name"]
                assert before.cats[one["category_id"]]["name"] == category
                masks = before.annToMask(one), after.annToMask(other)
                np.testing.assert_array_equal(*masks)
                count += 1
    assert count == 811
