"""Every name that a package gives has an example in its docstring, which runs."""

import inspect
import re
import shutil
import textwrap

import pytest
from PIL import Image

import coco_cats_tfds
import unet_core
import unet_train

PACKAGES = (coco_cats_tfds, unet_core, unet_train)
NAMES = [
    pytest.param(package, name, id=f"{package.__name__}.{name}")
    for package in PACKAGES
    for name in package.__all__
    if not inspect.ismodule(getattr(package, name))
]
SMALL = [
    "--data.tile_size=92", "--model.depth=2", "--model.base_filters=4",
    "--trainer.max_steps=1", "--trainer.limit_train=4",
]  # fmt: skip


def examples(thing):
    """The code of its docstring, and of that of its `__init__`."""
    texts = [thing.__doc__ or "", getattr(thing.__init__, "__doc__", None) or ""]
    found = []
    for text in map(inspect.cleandoc, texts):
        for code in re.findall(r"^ *```python\n(.*?)^ *```$", text, re.M | re.S):
            found.append(textwrap.dedent(code))
    return found


@pytest.fixture(scope="module")
def folder(command, tmp_path_factory):
    """The sample as COCO and as OUT, a run on it, and a photo."""
    folder = tmp_path_factory.mktemp("examples")
    few = ["--train", 10, "--validation", 5]
    command("coco-cats", "sample", folder / "COCO", *few)
    build = ["--manual_dir", folder / "COCO", "--data_dir", folder / "OUT"]
    command("coco-cats", "build", *build)
    run = [f"--run_dir={folder / 'runs' / 'cats'}", f"--data.data_dir={folder / 'OUT'}"]
    command("unet-train", "fit", *run, *SMALL)
    photo = next((folder / "COCO" / "val2017").glob("*.jpg"))
    Image.open(photo).save(folder / "photo.jpg")
    return folder


@pytest.mark.parametrize(("package", "name"), NAMES)
def test_the_example_of_a_public_name_runs(package, name, folder, monkeypatch):
    found = examples(getattr(package, name))
    assert found, f"{package.__name__}.{name} has no example"
    monkeypatch.chdir(folder)
    shutil.rmtree("runs/new", ignore_errors=True)
    names = {name: getattr(each, name) for each in PACKAGES for name in each.__all__}
    for code in found:
        assert name in code
        exec(compile(code, f"{package.__name__}.{name}", "exec"), dict(names))
