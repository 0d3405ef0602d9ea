"""Where bytes come from: folder, zip, other names; every fault names its cure."""

import io
import os
import pickle
import zipfile

import pytest

from coco_cats_tfds import CocoDataError
from coco_cats_tfds.annotations import Image
from coco_cats_tfds.inputs import CocoFolder
from coco_cats_tfds.sources import FileSource, FolderSource, ZipSource

CONTENT = bytes(range(256)) * 4


@pytest.fixture(params=["folder", "zip"])
def make_source(request, tmp_path):
    """A source of both kinds, given its files by name."""

    def make(files):
        if request.param == "folder":
            for name, content in files.items():
                path = tmp_path / "train2017" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            (tmp_path / "train2017").mkdir(exist_ok=True)
            return FolderSource(tmp_path / "train2017")
        with zipfile.ZipFile(tmp_path / "train2017.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(f"train2017/{name}", content)
        return ZipSource(tmp_path / "train2017.zip", folder="train2017")

    return make


def image(name="a.jpg"):
    return Image(7, name, 20, 30)


@pytest.mark.parametrize("name", ["a.jpg", "sub/a.jpg", "Kätzchen 猫.jpg", "./a.jpg"])
def test_gives_the_bytes_of_the_file(make_source, name):
    source = make_source({name.removeprefix("./"): CONTENT})
    assert source.read(image(name)) == CONTENT
    assert name.removeprefix("./") in str(source.locate(image(name)))


def test_survives_pickling_after_use(make_source):
    source = make_source({"a.jpg": CONTENT})
    source.read(image())
    assert pickle.loads(pickle.dumps(source)).read(image()) == CONTENT


def test_absent_image(make_source):
    with pytest.raises(CocoDataError, match=r"Image 7 is listed but .*a\.jpg"):
        make_source({}).read(image())


@pytest.mark.parametrize(
    "name",
    ["../secret.jpg", "/etc/passwd", "x/../../a.jpg", "", ".", "..", "a\0.jpg"],
)
def test_names_that_leave_the_folder(make_source, tmp_path, name):
    (tmp_path / "secret.jpg").write_bytes(CONTENT)
    source = make_source({"a.jpg": CONTENT})
    with pytest.raises(CocoDataError, match="leaves its folder .* or names no file"):
        source.read(image(name))


def test_links(tmp_path):
    """A link that the user made is followed, one in a circle is named."""
    folder = tmp_path / "train2017"
    folder.mkdir()
    (tmp_path / "elsewhere.jpg").write_bytes(CONTENT)
    (folder / "a.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    (folder / "circle.jpg").symlink_to(folder / "circle.jpg")
    (folder / "dangling.jpg").symlink_to(folder / "nowhere.jpg")
    source = FolderSource(folder)
    assert source.read(image()) == CONTENT
    for name in ("circle.jpg", "dangling.jpg"):
        with pytest.raises(CocoDataError, match=f"{name} cannot be read"):
            source.read(image(name))


def test_a_folder_in_the_place_of_a_file(tmp_path):
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(CocoDataError, match=r"a\.jpg cannot be read"):
        FolderSource(tmp_path).read(image())


def test_a_relative_folder(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(CONTENT)
    monkeypatch.chdir(tmp_path)
    assert FolderSource(".").read(image()) == CONTENT


def zipped(**names):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in names.items():
            archive.writestr(f"train2017/{name}.jpg", content)
    return stream.getvalue()


def test_a_damaged_member(tmp_path):
    content = bytearray(zipped(a=CONTENT))
    content[80:90] = b"x" * 10
    (tmp_path / "t.zip").write_bytes(content)
    source = ZipSource(tmp_path / "t.zip", folder="train2017")
    with pytest.raises(CocoDataError, match=r"Cannot read train2017/a\.jpg in"):
        source.read(image())


def test_a_zip_cut_off(tmp_path):
    (tmp_path / "t.zip").write_bytes(zipped(a=CONTENT)[:-30])
    source = ZipSource(tmp_path / "t.zip", folder="train2017")
    with pytest.raises(CocoDataError, match=r"Cannot open .*t\.zip as a zip"):
        source.read(image())


def test_a_decompression_bomb(tmp_path):
    (tmp_path / "t.zip").write_bytes(zipped(a=bytes((1 << 28) + 1)))
    assert (tmp_path / "t.zip").stat().st_size < 1 << 20
    source = ZipSource(tmp_path / "t.zip", folder="train2017")
    with pytest.raises(CocoDataError, match="unpacks to more than"):
        source.read(image())


def test_what_is_no_file(tmp_path, no_hang):
    """A pipe would be waited for, and a device read until the memory is full."""
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    for name in ("pipe.jpg", "device.jpg"):
        with pytest.raises(CocoDataError, match=f"{name} cannot be read: it is no reg"):
            FolderSource(tmp_path).read(image(name))
    os.mkfifo(tmp_path / "train2017.zip")
    with pytest.raises(CocoDataError, match=r"Cannot open .*train2017\.zip as a zip"):
        ZipSource(tmp_path / "train2017.zip", folder="train2017").read(image())
    (tmp_path / "annotations").mkdir()
    os.mkfifo(tmp_path / "annotations" / "instances_train2017.json")
    with pytest.raises(CocoDataError, match="Cannot read the annotations"):
        CocoFolder(tmp_path).index("train2017")


def test_a_file_far_too_large(tmp_path):
    with open(tmp_path / "a.jpg", "wb") as file:
        file.truncate((1 << 28) + 1)  # Takes no room on the disk.
    with pytest.raises(CocoDataError, match="more than 268,435,456 bytes"):
        FolderSource(tmp_path).read(image())


@pytest.mark.parametrize("name", ["..\\secret.jpg", "C:\\a.jpg", "C:a.jpg", "x\\a.jpg"])
def test_names_that_leave_the_folder_on_windows(tmp_path, monkeypatch, name):
    monkeypatch.setattr("coco_cats_tfds.sources._WINDOWS", True, raising=False)
    with pytest.raises(CocoDataError, match="leaves its folder"):
        FolderSource(tmp_path).read(image(name))


def test_annotations_that_unpack_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr("coco_cats_tfds.inputs._MAX_ANNOTATION_BYTES", 1 << 20)
    with zipfile.ZipFile(
        tmp_path / "annotations_trainval2017.zip", "w", zipfile.ZIP_DEFLATED
    ) as archive:
        name = "annotations/instances_train2017.json"
        archive.writestr(name, b" " * ((1 << 20) + 1))
    with pytest.raises(
        CocoDataError, match="json in .* unpacks to more than 1,048,576"
    ):
        CocoFolder(tmp_path).index("train2017")


def test_files_by_id(tmp_path):
    (tmp_path / "x").write_bytes(CONTENT)
    source = FileSource({7: str(tmp_path / "x")}, absent={8: "Image 8: gone"})
    assert source.read(image()) == CONTENT
    with pytest.raises(CocoDataError, match="Image 8: gone"):
        source.read(Image(8, "b.jpg", 20, 30))


def test_neither_folder_nor_zip(tmp_path):
    with pytest.raises(CocoDataError, match=r"neither a folder .*val2017 nor .*\.zip"):
        CocoFolder(tmp_path).source("val2017", [])


def zip_everything(root, parts=("train2017", "val2017", "annotations")):
    """COCO's own three zips in the place of the folders."""
    for part in parts:
        name = "annotations_trainval2017" if part == "annotations" else part
        with zipfile.ZipFile(root / f"{name}.zip", "w") as archive:
            for file in sorted((root / part).iterdir()):
                archive.write(file, f"{part}/{file.name}")
                file.unlink()
        (root / part).rmdir()


@pytest.mark.parametrize(
    "parts",
    [("train2017", "val2017", "annotations"), ("annotations",), ("val2017",)],
)
def test_cocos_own_zips(make_coco, parts):
    root = make_coco()
    image = Image(1, "000000000001.jpg", 20, 30)
    expected = (root / "train2017" / image.file_name).read_bytes()
    zip_everything(root, parts)
    coco = CocoFolder(root)
    index = coco.index("train2017")
    assert list(index.images) == [1, 2, 3, 4]
    assert coco.source("train2017", [image]).read(image) == expected
    assert not any((root / part).exists() for part in parts)


def test_a_zip_without_the_annotations(make_coco):
    root = make_coco()
    zip_everything(root)
    with zipfile.ZipFile(root / "annotations_trainval2017.zip", "w") as archive:
        archive.writestr("annotations/captions_train2017.json", "{}")
    with pytest.raises(CocoDataError, match="holds no annotations/instances_train2017"):
        CocoFolder(root).index("train2017")
