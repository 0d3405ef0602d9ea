"""Exports agree with the predictor, and need nothing of ours."""

import base64
import dataclasses
import io
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import urllib.error
import urllib.request
import zlib

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tensorflow as tf
import yaml

from unet_core import TiledPredictor, UNetConfig, build_unet
from unet_train import Predictor
from unet_train.cli import main
from unet_train.export import DEFAULT_FORMATS, FORMATS, formats, parity
from unet_train.export.decode import decode_photo
from unet_train.export.formats import TABLE
from unet_train.export.orientation import exif_orientation
from unet_train.export.run import export
from unet_train.export.signatures import PhotoModule
from unet_train.inference import photos
from unet_train.runs.folder import read_config

ROOT = pathlib.Path(__file__).parents[3]
GUIDE = (ROOT / "docs" / "exporting.md").read_text()
TOO_FAR = 1e-5  # Of a probability; twenty times what was measured.

decode = tf.function(decode_photo, input_signature=[tf.TensorSpec([], tf.string)])
orientation_of = tf.function(
    exif_orientation, input_signature=[tf.TensorSpec([], tf.string)]
)


def exif_of(orientation, order="II", *, tag=0x0112, kind=3, before=0):
    """A TIFF file of one table, with other entries before the orientation."""
    mark = {"II": "<", "MM": ">"}[order]
    others = [struct.pack(f"{mark}HHII", 256 + i, 4, 1, 7) for i in range(before)]
    form = "H2x" if kind == 3 else "I"
    entry = struct.pack(f"{mark}HHI{form}", tag, kind, 1, orientation)
    head = order.encode() + struct.pack(f"{mark}HIH", 42, 8, before + 1)
    return head + b"".join([*others, entry]) + bytes(4)


def picture(height, width, seed=0):
    """Smooth colours, so that JPEG's artefacts are those of a photo; uint8."""
    coarse = np.random.default_rng(seed).uniform(-60, 315, (5, 6, 3))
    smooth = tf.image.resize(coarse, (height, width), method="bicubic").numpy()
    return smooth.clip(0, 255).astype(np.uint8)


def encode(pixels, kind="JPEG", mode=None, exif=None, **options):
    image = PIL.Image.fromarray(pixels)
    stream = io.BytesIO()
    (image.convert(mode) if mode else image).save(stream, kind, **options)
    return with_exif(stream.getvalue(), kind, exif) if exif else stream.getvalue()


def with_exif(photo, kind, exif):
    """The photo with EXIF put in, however malformed."""
    if kind == "JPEG":
        content = b"Exif\0\0" + exif
        segment = b"\xff\xe1" + struct.pack(">H", 2 + len(content)) + content
        first = 4 + struct.unpack(">H", photo[4:6])[0] - 2  # After JFIF's own segment.
        return photo[: first + 2] + segment + photo[first + 2 :]
    chunk = b"eXIf" + exif
    length, check = struct.pack(">I", len(exif)), struct.pack(">I", zlib.crc32(chunk))
    return photo[:33] + length + chunk + check + photo[33:]


def read(photo, folder):
    """What `predict` and `evaluate` see."""
    path = folder / "photo"
    path.write_bytes(photo)
    return photos.read_photo(path)


def ten_photos():
    """Of odd sizes and several kinds, some turned."""
    sizes = [(1, 1), (7, 90), (61, 83), (130, 57), (99, 99)]
    sizes += [(33, 140), (16, 16), (75, 64), (121, 122), (50, 3)]
    for index, size in enumerate(sizes):
        kind = ("JPEG", "PNG")[index % 2]
        yield encode(picture(*size, index), kind, exif=exif_of(1 + index % 8))


def small_predictor(seed=0, *, image_size=None, threshold=0.5, **config):
    """A network whose probabilities spread over 0 to 1."""
    model = build_unet(UNetConfig(**{"depth": 2, "base_filters": 2, **config}))
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        kind = variable.path.split("/")[-1]
        if kind == "kernel":
            scale = np.sqrt(2 / np.prod(variable.shape[:-1]))
            variable.assign(rng.normal(0, scale, variable.shape))
        elif kind == "moving_variance":
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif kind != "gamma":
            variable.assign(rng.normal(0, 0.2, variable.shape))
    return Predictor(model, image_size=image_size, threshold=threshold)


def assert_same(found, expected):
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < TOO_FAR


@pytest.mark.parametrize(
    ("config", "tile_size", "image_size"),
    [
        ({"padding": "valid"}, None, None),
        ({"padding": "valid"}, 52, 90),
        ({"padding": "valid", "upsampling": "resize", "depth": 1}, 34, None),
        ({"padding": "same"}, None, (70, 33)),
        ({"padding": "same"}, 56, None),
        ({"padding": "same", "norm": "group", "groups": 2}, None, 70),
        ({"encoder": "efficientnet_lite0", "decoder_filters": (4, 4)}, None, 70),
    ],
)
def test_the_signature_gives_what_the_predictor_gives(
    tmp_path, config, tile_size, image_size
):
    predictor = small_predictor(image_size=image_size, **config)
    middle = float(np.median(predictor.probabilities(picture(121, 122, 8))))
    predictor.threshold = middle
    module = PhotoModule(predictor, tile_size=tile_size)
    kinds = set()
    for photo in ten_photos():
        pixels = read(photo, tmp_path)
        expected = predictor.probabilities(pixels)
        found = module.mask(tf.constant(photo))
        assert_same(found["probability"].numpy(), expected)
        mask = found["mask"].numpy()
        clear = np.abs(expected - middle) > TOO_FAR
        np.testing.assert_array_equal(mask[clear], expected[clear] >= middle)
        assert mask.dtype == np.uint8
        kinds |= set(np.unique(mask))
    assert kinds == {0, 1}


@pytest.mark.parametrize("config", [{"padding": "valid"}, {"padding": "same"}])
def test_large_photos_go_through_tiles_of_the_size_asked_for(config):
    predictor = small_predictor(**config)
    module = PhotoModule(predictor, tile_size=60)
    seen = []

    tile = tf.TensorSpec((1, None, None, 3))
    network = tf.function(predictor.model, input_signature=[tile])

    def forward(tiles):
        seen.append(tuple(tiles.shape[1:3]))
        return network(tiles)

    pixels = picture(130, 151)
    found = module.with_network(forward)(tf.constant(pixels)).numpy()
    assert_same(found, predictor.probabilities(pixels))
    assert len(seen) >= 9
    assert max(max(shape) for shape in seen) <= 60
    # They are as even as can be, and no more than the largest need.
    largest, totals = max(max(shape) for shape in seen), set()
    tiled = TiledPredictor(predictor.model, tile_size=largest)
    tiled(pixels, progress=lambda done, total: totals.add(total))
    assert totals == {len(seen)}


def test_a_tile_that_the_model_cannot_take_is_refused():
    with pytest.raises(ValueError, match="Nearest valid: 44 and 48"):
        PhotoModule(small_predictor(padding="same"), tile_size=45)
    with pytest.raises(ValueError, match="Group norm takes the statistics"):
        PhotoModule(small_predictor(norm="group", groups=2), tile_size=60)


def test_what_is_no_network_for_masks_of_photos_is_refused():
    with pytest.raises(ValueError, match="makes 2 channels of 1"):
        small_predictor(input_channels=1, classes=2)


@pytest.mark.parametrize("order", ["II", "MM"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_every_orientation(kind, order, tmp_path):
    for orientation in range(1, 9):
        exif = exif_of(orientation, order, before=orientation)
        photo = encode(picture(20, 33), kind, exif=exif)
        np.testing.assert_array_equal(decode(photo), read(photo, tmp_path))
        assert orientation_of(photo) == orientation


@pytest.mark.parametrize("orientation", [3, 6])
def test_orientation_of_webp(orientation, tmp_path):
    """Behind a chunk of odd length, which is padded."""
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True, "exif": exif, "icc_profile": b"x" * 7}
    stream = io.BytesIO()
    PIL.Image.fromarray(picture(20, 33)).save(stream, "WEBP", **options)
    photo = stream.getvalue()
    np.testing.assert_array_equal(decode(photo), read(photo, tmp_path))
    assert orientation_of(photo) == orientation


@pytest.mark.parametrize(
    "exif",
    [
        exif_of(0),
        exif_of(9),
        exif_of(65535, "MM"),
        exif_of(6, tag=0x0113),
        exif_of(6, kind=2),
        exif_of(6).replace(b"II*\0", b"II+\0"),
        exif_of(6).replace(b"II*\0", b"XX*\0"),
        exif_of(6)[:4] + b"\xff" * 4 + exif_of(6)[8:],  # A table beyond the end.
        exif_of(6)[:8],
        b"\0",
    ],
)
def test_broken_exif_counts_as_upright(exif, tmp_path):
    for kind in ("JPEG", "PNG"):
        photo = encode(picture(20, 33), kind, exif=exif)
        assert orientation_of(photo) == 1
        np.testing.assert_array_equal(decode(photo), read(photo, tmp_path))


def test_a_long_orientation_and_one_behind_other_segments():
    assert orientation_of(encode(picture(9, 9), exif=exif_of(8, "MM", kind=4))) == 8
    photo = encode(picture(9, 9), exif=exif_of(5))
    xmp = b"\xff\xe1" + struct.pack(">H", 30) + b"http://ns.adobe.com/xap/1.0/"
    filler = b"\xff\xff\xff"
    assert orientation_of(photo[:2] + xmp + filler + photo[2:]) == 5


def test_no_damage_to_a_header_makes_it_fail():
    """Every cut, and every byte changed."""
    photo = encode(picture(9, 9), exif=exif_of(6, "MM"))[:90]
    for length in range(len(photo)):
        assert 1 <= orientation_of(photo[:length]) <= 8
    for place in range(2, len(photo)):
        for value in (0, 255):
            damaged = photo[:place] + bytes([value]) + photo[place + 1 :]
            assert 1 <= orientation_of(damaged) <= 8


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("JPEG", None, {"quality": 60, "subsampling": 2}),
        ("JPEG", None, {"quality": 90, "subsampling": 1, "progressive": True}),
        ("JPEG", None, {"subsampling": 0}),
        ("JPEG", "L", {}),
        ("JPEG", "CMYK", {}),
        *[("PNG", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")],
        ("GIF", "P", {}),
        ("BMP", "RGB", {}),
        ("WEBP", "RGB", {"quality": 80}),
        ("WEBP", "RGBA", {"lossless": True}),
    ],
)
def test_every_kind_of_photo_decodes_as_with_pillow(kind, mode, options, tmp_path):
    photo = encode(picture(45, 62), kind, mode, **options)
    np.testing.assert_array_equal(decode(photo), read(photo, tmp_path))


def test_sixteen_bits_are_scaled_to_eight(tmp_path):
    deep = np.random.default_rng(0).integers(0, 65536, (9, 11)).astype(np.uint16)
    photo = encode(deep, "PNG")
    np.testing.assert_array_equal(decode(photo), read(photo, tmp_path))


@pytest.mark.parametrize(
    ("photo", "fault"),
    [
        (b"", "Input is empty"),
        (b"not a picture", "Unknown image file format"),
        (encode(picture(45, 62))[:700], "Invalid JPEG data"),
        (encode(picture(45, 62), "PNG")[:700], "Invalid PNG data"),
        (encode(picture(9, 9), "BMP", "P"), "BMP with a palette"),
    ],
)
def test_what_is_no_photo_gets_a_clear_error(photo, fault):
    with pytest.raises(tf.errors.InvalidArgumentError, match=fault):
        decode(photo)


def test_class_names_and_the_png(tmp_path):
    predictor = small_predictor(padding="same", threshold=0.4)
    module = PhotoModule(predictor, ("background", "cat"))
    photo = encode(picture(60, 41))
    found = module.mask(tf.constant(photo))
    assert found["class_names"].numpy().tolist() == [b"background", b"cat"]
    png = module.png(tf.constant(photo))["mask_png_bytes"].numpy()
    white = np.asarray(PIL.Image.open(io.BytesIO(png)))
    np.testing.assert_array_equal(white, found["mask"].numpy() * 255)


def test_a_pixel_at_the_threshold_is_foreground():
    photo = tf.constant(encode(picture(40, 31)))
    module = PhotoModule(small_predictor(padding="same"))
    threshold = float(module.mask(photo)["probability"][20, 10])
    module = PhotoModule(small_predictor(padding="same", threshold=threshold))
    assert module.mask(photo)["mask"][20, 10] == 1


# The command.

SMALL = [
    "--data.name=discs", "--data.tile_size=30", "--data.batch_size=2",
    "--data.image_size=32", "--data.predict_size=[40, 24]",
    "--model.depth=1", "--model.base_filters=2",
    "--trainer.max_steps=2", "--task.threshold=0.45",
    "--callbacks=[{class_path: unet_train.callbacks.BestModels}]",
]  # fmt: skip


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, data_dir):
    run_dir = tmp_path_factory.mktemp("export") / "run"
    arguments = [f"--run_dir={run_dir}", f"--data.data_dir={data_dir}", *SMALL]
    assert main(["fit", *arguments]) == 0
    return run_dir


@pytest.fixture(scope="module")
def exported(run_dir, tmp_path_factory):
    """All that can be exported with what is installed."""
    folder = tmp_path_factory.mktemp("exported") / "cats"
    names = [name for name in FORMATS if installed(name)]
    arguments = [f"--run_dir={run_dir}", f"--output={folder}", "--name=cat"]
    assert main(["export", *arguments, "--formats", *names]) == 0
    return folder


def installed(name):
    if name == "web":
        return False  # It needs more than packages: `test_web.py` has it.
    try:
        formats.check_installed([name])
    except ValueError:
        return False
    return True


def needs(name):
    return pytest.mark.skipif(
        not installed(name), reason=f"the extra unet_train[{name}] is not installed"
    )


def test_the_formats_offered_are_those_there_are():
    assert tuple(TABLE) == FORMATS
    assert not any(TABLE[name].needs for name in DEFAULT_FORMATS)
    text = (ROOT / "packages/unet_train/pyproject.toml").read_text()
    for kind in TABLE.values():
        if kind.extra:
            assert f"\n{kind.extra} = [" in text


def test_a_run_becomes_a_folder(exported):
    names = {path.name for path in exported.iterdir()}
    files = {kind.file for name, kind in TABLE.items() if installed(name)}
    assert names == {"README.md", "config.yaml", "metrics.json", *files}
    assert not list(exported.parent.glob("partial.*"))


LONELY = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("unet_core", "unet_train", "coco_cats_tfds"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
import keras
import numpy as np
import tensorflow as tf
photo = open(sys.argv[1], "rb").read()
found = tf.saved_model.load("saved_model/1").signatures["serving_default"](
    photo=tf.constant(photo))
tiles = np.load(sys.argv[2])
model = keras.saving.load_model("model.keras")
bare = tf.saved_model.load("logits/1").signatures["serving_default"]
np.savez(sys.argv[3], **found, keras=model(tiles, training=False),
         logits=bare(image=tf.constant(tiles))["logits"])
assert not {"unet_core", "unet_train"} & set(sys.modules)
"""


def test_it_loads_where_our_packages_are_not(exported, run_dir, tmp_path):
    photo, tiles, out = (tmp_path / name for name in ("a.jpg", "tiles.npy", "out.npz"))
    photo.write_bytes(encode(picture(45, 62), exif=exif_of(6)))
    predictor = Predictor.load(run_dir)
    np.save(tiles, picture(30, 30)[np.newaxis].astype(np.float32))
    command = [sys.executable, "-c", LONELY, photo, tiles, out]
    done = subprocess.run(command, cwd=exported, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = np.load(out)
    pixels = photos.read_photo(photo)
    assert pixels.shape == (62, 45, 3)
    assert_same(found["probability"], predictor.probabilities(pixels))
    np.testing.assert_array_equal(found["mask"], found["probability"] >= 0.45)
    expected = predictor.model(np.load(tiles), training=False).numpy()
    for name in ("keras", "logits"):
        assert_same(found[name], expected)


ENCODER = {"encoder": "efficientnet_lite0", "decoder_filters": (4, 4)}


@pytest.mark.parametrize(
    ("name", "config", "allowed"),
    [
        pytest.param("onnx", {"padding": "valid"}, 1e-4, marks=needs("onnx")),
        pytest.param("onnx", {"upsampling": "resize"}, 1e-4, marks=needs("onnx")),
        pytest.param("litert", {"padding": "valid"}, 1e-4, marks=needs("litert")),
        pytest.param("litert", {"upsampling": "resize"}, 1e-4, marks=needs("litert")),
        pytest.param("onnx", ENCODER, 1e-4, marks=needs("onnx")),
        pytest.param("litert", ENCODER, 1e-4, marks=needs("litert")),
        # LiteRT sums the statistics of group norm less exactly.
        pytest.param("litert", {"norm": "group"}, 1e-3, marks=needs("litert")),
    ],
)
def test_other_runtimes_give_the_same(tmp_path, name, config, allowed):
    predictor = small_predictor(**{"padding": "same", "groups": 2, **config})
    module = PhotoModule(predictor)
    kind = TABLE[name]
    kind.write(module, tmp_path / kind.file)
    files = []
    for index, photo in enumerate(ten_photos()):
        files.append(tmp_path / f"{index}.jpg")
        files[-1].write_bytes(photo)
    found = parity.compare(kind, tmp_path / kind.file, module, files)
    assert found.photos == 10
    assert found.difference < allowed
    sizes = [photos.read_photo(file)[..., 0].size for file in files]
    assert found.of_pixels == sum(sizes)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_what_is_converted_enlarges_as_the_model_does(interpolation):
    """A class prior is enlarged bilinearly, a way up by repeating pixels."""
    image = tf.keras.Input((None, None, 3))
    enlarged = tf.keras.layers.UpSampling2D(4, interpolation=interpolation)(image)
    model = tf.keras.Model(image, enlarged)
    pixels = np.random.default_rng(0).uniform(size=(1, 3, 5, 3)).astype(np.float32)
    found = formats._convertible(model)(pixels).numpy()
    np.testing.assert_allclose(found, model(pixels).numpy(), atol=1e-6)


@needs("onnx")
def test_names_and_sizes_of_onnx(exported):
    import onnxruntime

    session = onnxruntime.InferenceSession(exported / "model.onnx")
    (image,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.shape) == ("image", ["N", "H", "W", 3])
    assert (logits.name, logits.shape) == ("logits", ["N", "h", "w", 1])


@needs("onnx")
def test_no_converter_brings_a_single_channel_to_the_end(exported):
    """tf2onnx does it wrongly in one process of six, by the order of a hash map."""
    import onnx

    nodes = onnx.load(exported / "model.onnx").graph.node
    assert [node.op_type for node in nodes[-2:]] == ["Squeeze", "Unsqueeze"]


def test_the_card_tells_what_is_there(exported, run_dir, data_dir):
    card = (exported / "README.md").read_text()
    assert card.startswith("# U-Net for cat, pixel by pixel\n")
    prose = " ".join(card.split())
    scaled = "scaled to 40 and 24 pixels"
    for text in ("of depth 1", "From 0.45 on", scaled, "CC BY 4.0"):
        assert text in prose
    assert "| `train` | training | 6 |" in card
    assert "| `train` | held out | 1 |" in card
    assert "| `validation` | validation | 3 |" in card
    scores = json.loads((run_dir / "metrics.json").read_text())
    assert f"| iou | {scores['iou']:.4g} |" in card
    for name, kind in TABLE.items():
        row = re.search(rf"\| `{kind.file}` \| (\d+) \| (\S+) \| (\d+) of", card)
        assert bool(row) == installed(name)
        if row:
            assert int(row[1]) == 3  # The dataset has no more validation images.
            assert float(row[2]) <= parity.TOLERANCE
    assert str(data_dir) not in card
    config = yaml.safe_load(re.search(r"```yaml\n(.*?)```", card, re.S)[1])
    assert config["task"]["threshold"] == 0.45


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        (
            ["--data.holdout=0.4"],
            ["training | 4", "held out, to choose the threshold | 3"],
        ),
        (["--data.holdout=0", "--trainer.limit_train=5"], ["training | 5"]),
    ],
)
def test_images_that_were_not_trained_on_count_as_such(
    tmp_path, data_dir, options, rows
):
    run_dir, output = tmp_path / "run", tmp_path / "out"
    arguments = [each for each in SMALL if not each.startswith("--task.threshold")]
    arguments += [f"--run_dir={run_dir}", f"--data.data_dir={data_dir}", *options]
    assert main(["fit", *arguments]) == 0
    export(run_dir, output, formats=["keras"])
    card = (output / "README.md").read_text()
    found = re.findall(r"^\| `train` \| (.*) \|$", card, re.M)
    assert found == rows


def test_an_export_is_a_published_model(run_dir, tmp_path):
    """Half as large with rounded weights, and nothing of the machine in it."""
    sizes = {}
    for compact in (False, True):
        folder = tmp_path / str(compact)
        export(run_dir, folder, formats=["keras"], compact=compact)
        sizes[compact] = (folder / "model.keras").stat().st_size
        data_dir = read_config(run_dir)["data"]["data_dir"]
        assert data_dir
        for file in ("config.yaml", "metrics.json", "README.md"):
            assert data_dir not in (folder / file).read_text()
        found, expected = Predictor.load(folder), Predictor.load(run_dir)
        assert (found.threshold, found.image_sizes) == (0.45, (40, 24))
        photo = picture(61, 83)
        difference = found.probabilities(photo) - expected.probabilities(photo)
        assert np.abs(difference).max() < (5e-3 if compact else 1e-7)
        weights = found.model.get_weights()
        halves = [each.astype(np.float16).astype(np.float32) for each in weights]
        assert compact == all(map(np.array_equal, weights, halves))
    assert sizes[True] < sizes[False]


def test_another_threshold_is_in_card_and_mask(run_dir, tmp_path):
    arguments = [f"--run_dir={run_dir}", f"--output={tmp_path / 'strict'}"]
    command = ["export", *arguments, "--formats", "saved_model"]
    assert main([*command, "--threshold=7"]) == 2
    assert main([*command, "--threshold=0.9"]) == 0
    assert "From 0.9 on" in (tmp_path / "strict" / "README.md").read_text()
    model = tf.saved_model.load(tmp_path / "strict" / "saved_model" / "1")
    photo = tf.constant(encode(picture(40, 50)))
    found = model.signatures["serving_default"](photo=photo)
    expected = found["probability"].numpy() >= 0.9
    np.testing.assert_array_equal(found["mask"].numpy() == 1, expected)


def test_a_photo_that_only_pillow_reads_is_named(run_dir, tmp_path, capsys):
    path = tmp_path / "photo.tiff"
    PIL.Image.fromarray(picture(40, 50)).save(path)
    arguments = [f"--run_dir={run_dir}", f"--output={tmp_path / 'out'}"]
    assert main(["export", *arguments, "--photos", str(path)]) == 2
    assert f"{path} is a photo that TensorFlow's" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_card_has_no_scores_of_other_weights(run_dir, tmp_path):
    copy = shutil.copytree(run_dir, tmp_path / "run")
    scores = json.loads((copy / "metrics.json").read_text())
    (copy / "metrics.json").write_text(json.dumps({**scores, "step": 1}))
    arguments = [f"--run_dir={copy}", f"--output={tmp_path / 'out'}"]
    assert main(["export", *arguments, "--formats", "keras"]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "had not been validated" in card


def test_the_lines_of_the_card_run(exported, monkeypatch):
    import keras

    monkeypatch.chdir(exported)
    (exported / "photo.jpg").write_bytes(encode(picture(45, 62)))
    pixels = picture(30, 30)[np.newaxis].astype(np.float32)
    names = {"tf": tf, "keras": keras, "pixels": pixels}
    if installed("onnx"):
        import onnxruntime

        names["onnxruntime"] = onnxruntime
    if installed("litert"):
        from ai_edge_litert.interpreter import Interpreter

        names["Interpreter"] = Interpreter
    card = (exported / "README.md").read_text()
    results = {}
    for file, code in re.findall(
        r"^`(\S+)`:\n\n```python\n(.*?)```", card, re.M | re.S
    ):
        exec(code, names)
        results[file] = np.asarray(names.pop("mask" if "mask" in names else "logits"))
    (exported / "photo.jpg").unlink()
    assert results.pop("saved_model").shape == (45, 62)
    for logits in results.values():
        assert np.abs(logits - results["logits"]).max() < 1e-4


def test_the_best_weights_and_photos_of_ones_own(run_dir, tmp_path, capsys):
    path = tmp_path / "mine.png"
    path.write_bytes(encode(picture(45, 62), "PNG"))
    arguments = [f"--run_dir={run_dir}", f"--output={tmp_path / 'out'}"]
    arguments += ["--weights=best", "--formats", "keras", "--photos", str(path)]
    assert main(["export", *arguments]) == 0
    assert re.search(r"model\.keras: .* 1 photos", capsys.readouterr().out)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "the best ones" in card
    assert "photos given to the export" in card
    assert "| monitor | iou |" in card


@pytest.fixture
def bare_run(run_dir, tmp_path):
    """The run where its dataset is not."""
    copy = tmp_path / "bare"
    copy.mkdir()
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    config["data"]["data_dir"] = str(tmp_path / "nowhere")
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    for name in ("model.keras", "metrics.json"):
        shutil.copy(run_dir / name, copy)
    return copy


def test_without_its_dataset_pictures_are_made_up(bare_run, tmp_path):
    found = export(bare_run, tmp_path / "out", formats=["saved_model"])
    assert found["saved_model"].photos == 10
    assert found["saved_model"].difference < TOO_FAR
    card = (tmp_path / "out" / "README.md").read_text()
    assert "synthetic pictures in all EXIF orientations" in " ".join(card.split())
    assert "| `train` | training | not at hand |" in card
    assert "| `train` | held out | not at hand |" in card


def test_a_folder_that_holds_something_is_left_alone(run_dir, tmp_path, capsys):
    (tmp_path / "note").write_text("mine")
    arguments = [f"--run_dir={run_dir}", f"--output={tmp_path}"]
    assert main(["export", *arguments]) == 2
    assert "is not an empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_an_export_that_differs_is_not_kept(run_dir, tmp_path, monkeypatch, capsys):
    def spoil(module, path):
        module.predictor.model.save(path)
        model = tf.keras.models.load_model(path, compile=False)
        model.get_layer("logits").bias.assign([0.5])
        model.save(path)

    spoilt = dataclasses.replace(TABLE["keras"], write=spoil)
    monkeypatch.setitem(TABLE, "keras", spoilt)
    output = tmp_path / "out"
    arguments = [f"--run_dir={run_dir}", f"--output={output}"]
    assert main(["export", *arguments, "--formats", "logits", "keras"]) == 2
    assert "model.keras differs from the predictor by" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_converter_that_fails_is_named(run_dir, tmp_path, monkeypatch, capsys):
    def fail(module, path):
        raise TypeError("no such operation")

    broken = dataclasses.replace(TABLE["keras"], write=fail)
    monkeypatch.setitem(TABLE, "keras", broken)
    arguments = [f"--run_dir={run_dir}", f"--output={tmp_path / 'out'}"]
    assert main(["export", *arguments, "--formats", "keras"]) == 2
    assert "exported as keras: TypeError: no such operation" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["onnx", "litert"])
def test_a_converter_that_is_missing_is_named(
    run_dir, tmp_path, monkeypatch, capsys, name
):
    hidden = TABLE[name].needs[0]
    find_spec = formats.importlib.util.find_spec
    monkeypatch.setattr(
        formats.importlib.util,
        "find_spec",
        lambda each: None if each == hidden else find_spec(each),
    )
    arguments = [f"--run_dir={run_dir}", f"--output={tmp_path / 'out'}"]
    assert main(["export", *arguments, "--formats", name]) == 2
    fault = capsys.readouterr().err
    assert hidden in fault
    assert f"pip install 'unet_train[{name}]'" in fault
    assert not list(tmp_path.iterdir())


def test_a_format_that_is_none(run_dir, tmp_path, capsys):
    arguments = [f"--run_dir={run_dir}", f"--output={tmp_path / 'out'}"]
    assert main(["export", *arguments, "--formats", "caffe"]) == 2
    assert "caffe" in capsys.readouterr().err
    with pytest.raises(ValueError, match="no format 'caffe'. Choose among saved_model"):
        export(run_dir, tmp_path / "out", formats=["caffe"])


def test_a_photo_that_cannot_be_read_is_named(run_dir, tmp_path, capsys):
    (tmp_path / "bad.jpg").write_bytes(b"no")
    arguments = [f"--run_dir={run_dir}", f"--output={tmp_path / 'out'}"]
    arguments += ["--photos", str(tmp_path / "bad.jpg")]
    assert main(["export", *arguments]) == 2
    assert "bad.jpg is not a readable photo" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_layers_of_ones_own_are_named():
    layers = [{"module": "mine.layers"}, {"module": None}]
    found = formats._modules({"module": "keras.layers", "layers": layers})
    assert list(found) == ["mine.layers"]


# Serving.


@pytest.fixture(scope="module")
def served(exported):
    program = ROOT / "examples" / "serve.py"
    process = subprocess.Popen(
        [sys.executable, program, exported / "saved_model", "cats", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    yield process.stdout.readline().strip()
    process.kill()
    process.communicate()


def ask(url, request=None):
    data = None if request is None else json.dumps(request).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data)) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_photo_over_rest(served, run_dir, tmp_path):
    photo = encode(picture(45, 62), exif=exif_of(6))
    status, state = ask(served)
    assert status == 200
    assert state["model_version_status"][0]["state"] == "AVAILABLE"
    content = {"b64": base64.b64encode(photo).decode()}
    expected = Predictor.load(run_dir).probabilities(read(photo, tmp_path))
    for inputs in (content, {"photo": content}):
        status, answer = ask(f"{served}:predict", {"inputs": inputs})
        assert status == 200, answer
        outputs = answer["outputs"]
        assert_same(np.array(outputs["probability"], np.float32), expected)
        assert outputs["class_names"] == ["background", "cat"]
    request = {"signature_name": "png", "inputs": content}
    status, answer = ask(f"{served}:predict", request)
    assert status == 200, answer
    png = base64.b64decode(answer["outputs"]["b64"])
    mask = np.asarray(PIL.Image.open(io.BytesIO(png)))
    np.testing.assert_array_equal(mask, 255 * np.array(outputs["mask"]))


def test_what_the_server_refuses(served):
    bad = {"inputs": {"b64": base64.b64encode(b"no photo").decode()}}
    status, answer = ask(f"{served}:predict", bad)
    assert status == 400
    assert "Unknown image file format" in answer["error"]
    assert ask(f"{served}:predict", {})[0] == 400
    assert ask(served.replace("cats", "dogs"))[0] == 404
    assert ask(served.replace("cats", "dogs:predict"), bad)[0] == 404


def test_the_blocks_of_the_guide_run(served, run_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(encode(picture(45, 62), exif=exif_of(6)))
    names = {"run_dir": run_dir, "url": served}
    for code in re.findall(r"```python\n(.*?)```", GUIDE, re.S):
        exec(code, names)
    assert names["found"]["mask"].shape == (62, 45)
    assert names["logits"].shape == (1, 64 - 16, 96 - 16, 1)
    white = np.asarray(PIL.Image.open("mask.png"))
    np.testing.assert_array_equal(white, 255 * names["found"]["mask"].numpy())


def test_every_format_is_in_the_table_of_the_guide():
    for name, kind in TABLE.items():
        assert re.search(rf"^\| `{name}` \| `{kind.file}[`/]", GUIDE, re.M)
    assert "differ by\n1e-3" in GUIDE
    assert parity.TOLERANCE == 1e-3
