"""What draws the sample: its bytes, its annotations, and masks that fit the cats."""

from __future__ import annotations

import collections
import json
import math
import pathlib
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageFilter
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from coco_cats_tfds.categories import CAT_ID, CUP_ID
from make_sample import cup_outline, pictures, placement, scenes
from make_sample.chelsea_outline import OUTLINE, PHOTO_NAME, PHOTO_SIZE
from make_sample.dataset import draw_sample
from make_sample.polygons import (
    Affine,
    Bar,
    Polygon,
    area,
    clip_half_plane,
    clip_to_rectangle,
    cut_out_bar,
)

SPLITS = {"train2017": 20, "val2017": 7}
KINDS: tuple[scenes.SceneKind, ...] = ("empty", "plain", "bar", "crowd")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    target = tmp_path_factory.mktemp("sample") / "coco"
    draw_sample(target, seed=3, train=20, validation=7)
    return target


@pytest.fixture(scope="module")
def cocos(sample: pathlib.Path) -> dict[str, COCO]:
    return {split: COCO(str(instances_path(sample, split))) for split in SPLITS}


def instances_path(directory: pathlib.Path, split: str) -> pathlib.Path:
    return directory / "annotations" / f"instances_{split}.json"


def read_tree(directory: pathlib.Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def rasterise(parts: list[Polygon], width: int, height: int) -> npt.NDArray[np.bool_]:
    """Returns the union of some polygons as bool [height, width]."""
    if not parts:
        return np.zeros((height, width), dtype=bool)
    flat = [part.ravel().tolist() for part in parts]
    rle = coco_mask.merge(coco_mask.frPyObjects(flat, height, width))
    return np.asarray(coco_mask.decode(rle), dtype=bool)


def grow(mask: npt.NDArray[np.bool_], pixels: int) -> npt.NDArray[np.bool_]:
    """Returns the pixels within a square of `pixels` around the mask's."""
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(picture.filter(ImageFilter.MaxFilter(2 * pixels + 1))) > 0


def iou(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


def comb(teeth: int) -> Polygon:
    """Returns a saw blade: a level line cuts off a part per tooth and one more."""
    zigzag = [(20.0 * i + 10.0 * j, 90.0 * j) for i in range(teeth) for j in (0, 1)]
    return np.array([*zigzag, (20.0 * teeth, 0.0), (20.0 * teeth, 100.0), (0.0, 100.0)])


# --- Files ---------------------------------------------------------------------------


def test_same_seed_gives_same_bytes(
    sample: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    draw_sample(tmp_path / "again", seed=3, train=20, validation=7)
    assert read_tree(tmp_path / "again") == read_tree(sample)


def test_other_seed_gives_other_images(
    sample: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    draw_sample(tmp_path / "other", seed=4, train=5, validation=5)
    other, known = read_tree(tmp_path / "other"), read_tree(sample)
    assert not set(other.values()) & set(known.values())


def test_layout_and_nothing_left_beside(sample: pathlib.Path) -> None:
    assert [path.name for path in sample.parent.iterdir()] == ["coco"]
    assert sorted(path.name for path in sample.iterdir()) == [
        "annotations",
        "train2017",
        "val2017",
    ]
    for split, count in SPLITS.items():
        names = [path.name for path in (sample / split).iterdir()]
        assert len(names) == count
        assert all(re.fullmatch(r"\d{12}\.jpg", name) for name in names)


@pytest.mark.parametrize("split", SPLITS)
def test_instances_file_is_ascii_and_complete(sample: pathlib.Path, split: str) -> None:
    raw = instances_path(sample, split).read_bytes()
    instances = json.loads(raw.decode("ascii"))
    assert raw.endswith(b"}\n")
    assert list(instances) == [
        "info",
        "licenses",
        "images",
        "annotations",
        "categories",
    ]
    categories = {entry["id"]: entry for entry in instances["categories"]}
    assert len(categories) == 80
    assert categories[17] == {"id": 17, "name": "cat", "supercategory": "animal"}
    assert categories[18]["name"] == "dog"
    assert categories[90]["name"] == "toothbrush"


def test_ids_are_unique_across_splits(cocos: dict[str, COCO]) -> None:
    for kind in ("images", "annotations"):
        ids = [entry["id"] for coco in cocos.values() for entry in coco.dataset[kind]]
        assert len(ids) == len(set(ids))


@pytest.mark.parametrize("split", SPLITS)
def test_images_have_recorded_size(
    sample: pathlib.Path, cocos: dict[str, COCO], split: str
) -> None:
    sizes = set()
    for entry in cocos[split].dataset["images"]:
        with Image.open(sample / split / entry["file_name"]) as image:
            assert (image.format, image.mode) == ("JPEG", "RGB")
            assert image.size == (entry["width"], entry["height"])
            assert all(224 <= side <= 384 for side in image.size)
            sizes.add(image.size)
    assert len(sizes) > SPLITS[split] // 2


# --- Annotations ---------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
def test_a_fifth_shows_no_cat(cocos: dict[str, COCO], split: str) -> None:
    coco = cocos[split]
    empty = [i for i in coco.getImgIds() if not coco.getAnnIds(imgIds=[i])]
    assert len(empty) == round(SPLITS[split] / 5)


@pytest.mark.parametrize("split", SPLITS)
def test_area_and_box_are_those_of_the_mask(cocos: dict[str, COCO], split: str) -> None:
    coco = cocos[split]
    for annotation in coco.dataset["annotations"]:
        mask = coco.annToMask(annotation)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert annotation["category_id"] == CAT_ID
        assert annotation["area"] == mask.sum() > 0
        assert annotation["bbox"] == [
            columns[0],
            rows[0],
            columns[-1] - columns[0] + 1,
            rows[-1] - rows[0] + 1,
        ]


@pytest.mark.parametrize("split", SPLITS)
def test_polygons_are_well_formed(cocos: dict[str, COCO], split: str) -> None:
    coco = cocos[split]
    for annotation in coco.dataset["annotations"]:
        if annotation["iscrowd"]:
            continue
        image = coco.imgs[annotation["image_id"]]
        for flat in annotation["segmentation"]:
            assert len(flat) >= 6
            assert len(flat) % 2 == 0
            assert flat == [round(value, 2) for value in flat]
            points = np.array(flat).reshape(-1, 2)
            assert (points >= 0).all()
            assert (points <= (image["width"], image["height"])).all()


def test_exactly_one_crowd_in_training(cocos: dict[str, COCO]) -> None:
    crowds = {
        split: [a for a in coco.dataset["annotations"] if a["iscrowd"]]
        for split, coco in cocos.items()
    }
    assert {split: len(found) for split, found in crowds.items()} == {
        "train2017": 1,
        "val2017": 0,
    }
    (crowd,) = crowds["train2017"]
    image = cocos["train2017"].imgs[crowd["image_id"]]
    assert crowd["segmentation"]["size"] == [image["height"], image["width"]]
    assert sum(crowd["segmentation"]["counts"]) == image["height"] * image["width"]


@pytest.mark.parametrize("split", SPLITS)
def test_bars_leave_several_parts(cocos: dict[str, COCO], split: str) -> None:
    parts = [
        len(a["segmentation"])
        for a in cocos[split].dataset["annotations"]
        if not a["iscrowd"]
    ]
    assert max(parts) >= 2
    assert min(parts) == 1


# --- Pictures ------------------------------------------------------------------------


def test_splits_share_no_background() -> None:
    train = scenes.TRAIN.photographs + scenes.TRAIN.textures
    validation = scenes.VALIDATION.photographs + scenes.VALIDATION.textures
    names = collections.Counter(train + validation)
    assert max(names.values()) == 1
    assert PHOTO_NAME not in names
    for split in (scenes.TRAIN, scenes.VALIDATION):
        assert len(split.photographs) >= 2
        assert len(split.textures) >= 2


def test_scenes_load_their_own_backgrounds_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded = set()
    load = pictures.load_picture

    def spy(name: str) -> Image.Image:
        loaded.add(name)
        return load(name)

    monkeypatch.setattr(pictures, "load_picture", spy)
    for seed in range(12):
        for kind in KINDS:
            rng = np.random.default_rng(seed)
            scenes.draw_scene(rng, scenes.VALIDATION, kind)
    own = {*scenes.VALIDATION.photographs, *scenes.VALIDATION.textures}
    assert loaded == own | {PHOTO_NAME}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kind", KINDS)
def test_mask_fits_the_pixels(kind: scenes.SceneKind, seed: int) -> None:
    scene = scenes.draw_scene(np.random.default_rng(seed), scenes.TRAIN, kind)
    height, width, _ = scene.pixels.shape
    parts = [part for cat in scene.cats for part in cat] + list(scene.crowd)
    mask = rasterise(parts, width, height)
    changed = (scene.pixels != scene.backdrop).any(axis=2)
    if kind == "empty":
        assert not mask.any()
    else:
        # Here and there fur has by chance the very colour of what lies behind it.
        assert changed[mask].mean() > 0.97
    if kind in ("plain", "crowd"):
        assert not changed[~grow(mask, 4)].any()
        # The mask is no smaller than what changed, but for the soft edge.
        assert changed.sum() < grow(mask, 4).sum()
        assert changed.sum() > 0.97 * mask.sum()


def test_bar_is_outside_the_mask() -> None:
    rng = np.random.default_rng(0)
    scene = scenes.draw_scene(rng, scenes.TRAIN, "bar")
    height, width, _ = scene.pixels.shape
    mask = rasterise(list(scene.cats[0]), width, height)
    largest = max(scene.cats[0], key=area)
    assert iou(rasterise([largest], width, height), mask) < 0.95
    changed = (scene.pixels != scene.backdrop).any(axis=2)
    # The bar runs on beyond the cat, where it changes pixels outside the mask.
    assert changed[~grow(mask, 4)].any()


def test_warped_photograph_lies_under_its_outline() -> None:
    """A two-coloured photograph shows the outline's colour inside, to one pixel."""
    size = (320, 240)
    shape = np.array(OUTLINE) * 0.6 + (90.0, 60.0)
    cover = pictures.coverage(shape, PHOTO_SIZE)
    photo = Image.fromarray((np.stack([cover] * 3, axis=2) * 255).astype(np.uint8))
    pose = Affine.similarity(
        scale=0.6, angle=0.2, mirror=True, pivot=(225, 150), target=(150, 130)
    )
    warped = pictures.warp(photo, pose, size)[..., 0] > 127
    assert iou(warped, rasterise([pose.apply(shape)], *size)) > 0.98


def test_missing_scikit_image_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(package: str) -> None:
        raise ModuleNotFoundError(f"No module named {package!r}")

    monkeypatch.setattr("importlib.resources.files", fail)
    pictures.load_picture.cache_clear()
    with pytest.raises(ValueError, match="pip install scikit-image"):
        pictures.load_picture(PHOTO_NAME)


# --- Cups ----------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
def test_cups_are_a_second_class_beside_the_cats(
    tmp_path: pathlib.Path, split: str
) -> None:
    draw_sample(tmp_path / "coco", seed=3, train=20, validation=7, cups=True)
    coco = COCO(str(instances_path(tmp_path / "coco", split)))
    assert set(coco.getCatIds()) >= {CAT_ID, CUP_ID}
    cats, cups = coco.getAnnIds(catIds=[CAT_ID]), coco.getAnnIds(catIds=[CUP_ID])
    assert len(cats) + len(cups) == len(coco.anns)
    assert SPLITS[split] / 2 < len(cups) < SPLITS[split]
    both = set(coco.getImgIds(catIds=[CAT_ID, CUP_ID]))
    assert 0 < len(both) < len(cups)
    shown = {id: len(coco.getAnnIds(imgIds=[id], catIds=[CAT_ID])) for id in coco.imgs}
    assert sum(not count for count in shown.values()) == round(SPLITS[split] / 5)
    for id in cups:
        image_id = coco.anns[id]["image_id"]
        cup = coco.annToMask(coco.anns[id])
        for other in set(coco.getAnnIds(imgIds=[image_id])) - {id}:
            # Where they touch, pixels on the border may belong to both.
            assert (cup & coco.annToMask(coco.anns[other])).sum() < 40


@pytest.mark.parametrize("seed", range(8))
def test_mask_of_a_cup_fits_the_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = scenes.draw_scene(rng, scenes.VALIDATION, "plain", with_cups=True)
    height, width, _ = scene.pixels.shape
    parts = [part for shown in scene.cats + scene.cups for part in shown]
    mask = rasterise(parts, width, height)
    changed = (scene.pixels != scene.backdrop).any(axis=2)
    assert changed[mask].mean() > 0.97
    assert not changed[~grow(mask, 4)].any()


def test_a_picture_with_cups_has_none_behind_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = set()
    draw = scenes._draw_layer

    def spy(rng: np.random.Generator, name: str, size: tuple[int, int]) -> Any:
        drawn.add(name)
        return draw(rng, name, size)

    monkeypatch.setattr(scenes, "_draw_layer", spy)
    for seed in range(20):
        for kind in KINDS:
            rng = np.random.default_rng(seed)
            scenes.draw_scene(rng, scenes.VALIDATION, kind, with_cups=True)
    names = {*scenes.VALIDATION.photographs, *scenes.VALIDATION.textures}
    assert drawn == names - {cup_outline.PHOTO_NAME}


# --- Geometry ------------------------------------------------------------------------


def test_outline_lies_in_the_photograph_and_is_closed_along_its_border() -> None:
    points = np.array(OUTLINE)
    assert len(points) >= 60
    assert (points >= 0).all()
    assert (points <= PHOTO_SIZE).all()
    assert points[0, 1] == points[-1, 1] == 0
    with pictures.load_picture(PHOTO_NAME).copy() as photo:
        assert photo.size == PHOTO_SIZE


@pytest.mark.parametrize("seed", range(40))
def test_clip_equals_crop_of_a_larger_canvas(seed: int) -> None:
    rng = np.random.default_rng(seed)
    width, height, margin = 200, 160, 500
    is_comb = seed % 4 == 0
    pose = Affine.similarity(
        scale=float(rng.uniform(0.2, 1.2)) * (3.0 if is_comb else 1.0),
        angle=float(rng.uniform(-math.pi, math.pi)),
        mirror=bool(seed % 2),
        pivot=(60.0, 50.0) if is_comb else (200.0, 150.0),
        target=(float(rng.uniform(0, width)), float(rng.uniform(0, height))),
    )
    outline = pose.apply(comb(6) if is_comb else np.array(OUTLINE))
    large = rasterise([outline + margin], width + 2 * margin, height + 2 * margin)
    expected = large[margin : margin + height, margin : margin + width]
    clipped = rasterise(clip_to_rectangle(outline, width, height), width, height)
    # pycocotools shifts a slanted edge by up to a pixel when its end moves, which
    # tells on the many edges of a comb.
    assert iou(clipped, expected) > (0.985 if is_comb else 0.995)
    assert not (clipped & ~grow(expected, 1)).any()
    assert not (expected & ~grow(clipped, 2)).any()


def test_clip_of_a_comb_leaves_its_teeth_and_no_bridge() -> None:
    teeth = comb(5)
    parts = clip_half_plane(teeth, (0.0, -1.0), -40.0)
    assert len(parts) == 6
    below = clip_half_plane(teeth, (0.0, 1.0), 40.0)
    assert len(below) == 1
    assert sum(map(area, parts)) + area(below[0]) == pytest.approx(area(teeth))
    assert clip_half_plane(teeth, (0.0, 1.0), -1.0)[0] is teeth
    assert clip_half_plane(teeth, (0.0, 1.0), 101.0) == []


def test_bar_takes_its_own_area_away() -> None:
    square = np.array([[0.0, 0.0], [100.0, 0.0], [100.0, 100.0], [0.0, 100.0]])
    parts = cut_out_bar([square], Bar((1.0, 0.0), offset=30.0, half=5.0))
    assert sorted(map(area, parts)) == pytest.approx([2500.0, 6500.0])


def test_inverse_undoes_the_map() -> None:
    pose = Affine.similarity(
        scale=0.7, angle=-0.2, mirror=True, pivot=(3, 4), target=(50, 60)
    )
    points = np.array(OUTLINE)
    np.testing.assert_allclose(
        pose.inverse().apply(pose.apply(points)), points, atol=1e-9
    )
    np.testing.assert_allclose(pose.apply(np.array([[3.0, 4.0]])), [[50.0, 60.0]])


def test_cats_are_visible_enough_and_overlap_little() -> None:
    pairs = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        cats = placement.place_cats(rng, (320, 240))
        for cat in cats:
            whole = area(cat.pose.apply(np.array(OUTLINE)))
            assert sum(map(area, cat.parts)) >= 0.5 * whole
        if len(cats) == 2:
            pairs += 1
            masks = [rasterise(list(cat.parts), 320, 240) for cat in cats]
            smaller = min(mask.sum() for mask in masks)
            assert (masks[0] & masks[1]).sum() <= 0.3 * smaller
    assert 3 <= pairs <= 30
