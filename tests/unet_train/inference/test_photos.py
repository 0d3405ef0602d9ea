"""Photos as a person sees them."""

import numpy as np
import PIL.Image
import pytest

from unet_train.inference import photos, pictures


def test_exif_orientation_is_applied(tmp_path):
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :20] = 255  # Bright on the left as stored.
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # Stored lying on its side: turn by 90 degrees clockwise.
    PIL.Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=95)
    photo = photos.read_photo(tmp_path / "a.jpg")
    assert photo.shape == (40, 20, 3)
    assert photo[:18].min() > 200
    assert photo[22:].max() < 50


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    PIL.Image.new("RGB", (5, 4), (200, 200, 200)).convert(mode).save(path)
    photo = photos.read_photo(path)
    assert photo.shape == (4, 5, 3)
    assert abs(photo.astype(int) - 200).max() <= 4


def test_sixteen_bits_are_scaled_to_eight(tmp_path):
    deep = np.linspace(0, 65535, 256).astype(np.uint16).reshape(1, 256)
    PIL.Image.fromarray(deep).save(tmp_path / "deep.png")
    photo = photos.read_photo(tmp_path / "deep.png")
    np.testing.assert_array_equal(photo[0, :, 0], deep[0] >> 8)


@pytest.mark.parametrize("content", [b"", b"not a picture"])
def test_unreadable_photo_is_named(tmp_path, content):
    (tmp_path / "bad.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.jpg is not a readable photo"):
        photos.read_photo(tmp_path / "bad.jpg")


def test_overlay_tints_the_mask_and_outlines_it():
    photo = np.full((30, 30, 3), 100, np.uint8)
    mask = np.zeros((30, 30), bool)
    mask[10:20, 10:20] = True
    drawn = pictures.overlay(photo, mask)
    assert (drawn[~mask] == 100).all()
    assert (drawn[10, 10:20] == drawn[10, 10]).all()
    assert (drawn[15, 15] != drawn[10, 15]).any()
    assert (drawn[15, 15] != 100).any()


def test_overlay_of_nothing_is_the_photo():
    photo = np.full((9, 9, 3), 7, np.uint8)
    np.testing.assert_array_equal(
        pictures.overlay(photo, np.zeros((9, 9), bool)), photo
    )


KINDS = ("mask", "overlay")


@pytest.fixture
def folder(tmp_path):
    """Files of these names, which need not be photos here."""

    def make(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        return tmp_path

    return make


def outputs(names, root, kinds=KINDS, output="out"):
    jobs = photos.find_photos(
        [str(root / name) for name in names], root / output, kinds
    )
    return {
        str(job.photo.relative_to(root)): str(job.output("mask").relative_to(root))
        for job in jobs
    }


def test_a_folder_keeps_its_structure(folder):
    root = folder(
        "in/a.jpg", "in/day 1/a.jpg", "in/day 1/b.PNG", "in/c.webp", "in/d.HEIC",
        "in/notes.txt", "in/.hidden.jpg", "elsewhere/x.jpg",
    )  # fmt: skip
    assert outputs(["in"], root) == {
        "in/a.jpg": "out/a_mask.png",
        "in/c.webp": "out/c_mask.png",
        "in/d.HEIC": "out/d_mask.png",
        "in/day 1/a.jpg": "out/day 1/a_mask.png",
        "in/day 1/b.PNG": "out/day 1/b_mask.png",
    }
    assert outputs(["in/day 1/b.PNG", "elsewhere"], root) == {
        "in/day 1/b.PNG": "out/b_mask.png",
        "elsewhere/x.jpg": "out/x_mask.png",
    }


def test_patterns(folder):
    root = folder("in/a.jpg", "in/deep/b.jpg", "in/c.png", "in/odd [1].jpg")
    assert set(outputs(["in/*.jpg"], root)) == {"in/a.jpg", "in/odd [1].jpg"}
    assert set(outputs(["in/**/*.jpg"], root)) == {
        "in/a.jpg", "in/deep/b.jpg", "in/odd [1].jpg",
    }  # fmt: skip
    # A file of that name comes before the pattern.
    assert set(outputs(["in/odd [1].jpg"], root)) == {"in/odd [1].jpg"}


def test_a_photo_named_twice_is_predicted_once(folder):
    root = folder("in/a.jpg", "in/b.jpg")
    assert len(outputs(["in", "in/a.jpg", "in/*.jpg"], root)) == 2


def test_photos_that_differ_in_the_suffix_keep_it(folder):
    root = folder("in/1.jpg", "in/1.heic", "in/2.jpg")
    assert outputs(["in"], root) == {
        "in/1.heic": "out/1.heic_mask.png",
        "in/1.jpg": "out/1.jpg_mask.png",
        "in/2.jpg": "out/2_mask.png",
    }


def test_predictions_are_no_photos_and_may_be_replaced(folder):
    root = folder("in/a.jpg", "in/b_mask.png")
    written = root / "in" / "a_mask.png"
    pictures.write_png(written, np.zeros((4, 4), np.uint8), writer=photos.WRITER)
    # Nothing but the name tells that b_mask.png might be one.
    assert set(outputs(["in"], root, output="in")) == {"in/a.jpg", "in/b_mask.png"}
    assert set(outputs(["in/*"], root, ["probability"])) == {
        "in/a.jpg", "in/b_mask.png",
    }  # fmt: skip
    # Who names it means it.
    assert set(outputs(["in/a_mask.png"], root)) == {"in/a_mask.png"}


@pytest.mark.parametrize("names", [["in"], ["in/a.jpg"]])
def test_what_somebody_else_wrote_is_not_replaced(folder, names):
    root = folder("in/a.jpg")
    drawn = root / "in" / "a_mask.png"
    PIL.Image.new("L", (4, 4)).save(drawn)
    before = drawn.read_bytes()
    with pytest.raises(ValueError, match="would replace a photo|did not write it"):
        outputs(names, root, output="in")
    assert drawn.read_bytes() == before


def test_letter_case_makes_no_difference(folder):
    root = folder("in/A.jpg", "in/a.png")
    assert set(outputs(["in"], root).values()) == {
        "out/A.jpg_mask.png", "out/a.png_mask.png",
    }  # fmt: skip


def test_documents_and_films_are_no_photos(folder):
    root = folder("in/a.jpg", "in/b.pdf", "in/c.mpg", "in/d.h5", "in/e.eps", "in/f.bmp")
    assert set(outputs(["in"], root)) == {"in/a.jpg", "in/f.bmp"}


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (("a/x.jpg", "b/x.jpg"), "would both be written to"),
        (("out/x_mask.png", "y/x.jpg"), "would replace a photo"),
        (("empty",), "holds no photos"),
        (("a/*.bmp",), "fits no photo"),
    ],
)
def test_nothing_is_written_twice_or_over_an_input(folder, names, fault):
    root = folder("a/x.jpg", "b/x.jpg", "out/x_mask.png", "y/x.jpg", "empty/notes.txt")
    with pytest.raises(ValueError, match=fault):
        outputs(names, root)


def test_a_link_to_a_photo_is_not_written_over(folder):
    root = folder("in/x.jpg", "keep/precious.png")
    (root / "out").mkdir()
    (root / "out" / "x_mask.png").symlink_to(root / "keep" / "precious.png")
    with pytest.raises(ValueError, match="would replace a photo"):
        outputs(["in/x.jpg", "keep/precious.png"], root)


def test_what_the_file_system_refuses_is_left_for_its_turn(folder):
    """A loop of links, a name longer than any, one with no room for `_overlay.png`."""
    root = folder("in/a.jpg")
    (root / "in" / "loop.jpg").symlink_to(root / "in" / "loop.jpg")
    (root / "in" / f"{'x' * 245}.jpg").write_bytes(b"")
    names = ["in/a.jpg", "in/loop.jpg", f"in/{'x' * 245}.jpg", f"in/{'y' * 300}.jpg"]
    assert list(outputs(names, root)) == names


def test_a_name_with_no_room_for_what_is_added(folder):
    root = folder(f"in/{'x' * 245}.jpg", f"in/deep/{'y' * 243}.jpg")
    long, fits = photos.find_photos([str(root / "in")], root / "out", ["overlay"])[::-1]
    fits.make_room(KINDS)
    assert (root / "out" / "deep").is_dir()
    with pytest.raises(
        ValueError, match=r"x\.jpg: the name .*_overlay\.png.*Rename it"
    ):
        long.make_room(KINDS)
    pictures.write_png(
        fits.output("overlay"), np.zeros((4, 4), np.uint8), writer=photos.WRITER
    )
    assert [path.name for path in (root / "out" / "deep").iterdir()] == [
        f"{'y' * 243}_overlay.png"
    ]


def test_nothing_is_left_of_a_picture_that_cannot_be_written(tmp_path):
    with pytest.raises(TypeError):
        pictures.write_png(tmp_path / "a.png", np.zeros((4, 4, 9)), writer="x")
    assert not list(tmp_path.iterdir())


def test_heic(tmp_path, monkeypatch):
    heif = pytest.importorskip("pillow_heif", reason="pip install 'unet_train[heic]'")
    assert photos._register_heic()
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:, 48:] = 200
    heif.from_pillow(PIL.Image.fromarray(pixels)).save(tmp_path / "a.heic")
    read = photos.read_photo(tmp_path / "a.heic").astype(int)
    assert np.abs(read - pixels).mean() < 3
    monkeypatch.setattr(photos, "_register_heic", lambda: False)
    (tmp_path / "b.heic").write_bytes(b"not read")
    with pytest.raises(ValueError, match=r"pip install 'unet_train\[heic\]'"):
        photos.read_photo(tmp_path / "b.heic")


def test_webp_and_palette_with_transparency(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 15, 3)).astype(np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "a.webp", lossless=True)
    np.testing.assert_array_equal(photos.read_photo(tmp_path / "a.webp"), pixels)
    palette = PIL.Image.fromarray(pixels).quantize(16)
    palette.info["transparency"] = 3
    palette.save(tmp_path / "p.png")
    expected = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(photos.read_photo(tmp_path / "p.png"), expected)
