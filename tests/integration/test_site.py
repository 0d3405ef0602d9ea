"""The pages of the documentation name what there is.

That links, anchors and docstrings lead somewhere is for `nox -s docs` to find, which
builds the site strictly.
"""

import importlib.util
import inspect
import json
import pathlib
import re
import shlex
import types

import pytest

from coco_cats_tfds.coco_cats_dataset_builder import CocoCatsConfig
from unet_train import cli

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / "docs"
PACKAGES = {
    "coco_cats_tfds": ["coco_cats_tfds", "coco_cats_tfds.sample"],
    "unet_core": ["unet_core"],
    "unet_train": ["unet_train", "unet_train.callbacks", "unet_train.writers"],
}


def found(path):
    """What a name of the API pages stands for."""
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            thing = getattr(thing, part)
        return thing
    raise AssertionError(path)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_on_its_page(package):
    page = (DOCS / "api" / f"{package}.md").read_text()
    names = re.findall(r"^::: (\S+)$", page, re.M)
    shown = {id(found(name)): name for name in names}
    assert len(shown) == len(names)
    for module in map(importlib.import_module, PACKAGES[package]):
        for name in module.__all__:
            assert id(getattr(module, name)) in shown, f"{module.__name__}.{name}"
    for name in names:
        assert not any(part.startswith("_") for part in name.split("."))


def test_every_loss_is_on_the_page():
    from unet_train import losses

    page = (DOCS / "api" / "unet_train.md").read_text()
    for thing in vars(losses).values():
        if inspect.isclass(thing) and issubclass(thing, losses.Loss):
            # Under its own name; configurations know it by an older one too.
            assert f"::: unet_train.losses.{thing.__name__}\n" in page


def commands(program):
    text = (DOCS / "quickstart.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S)
    return re.findall(rf"^{program} (.+)$", "\n".join(blocks), re.M)


@pytest.mark.parametrize("command", commands("unet-train"))
def test_the_quick_start_trains_with_options_there_are(command):
    name, *arguments = shlex.split(command)
    if "--config" in arguments:
        place = arguments.index("--config") + 1
        arguments[place] = str(ROOT / arguments[place])
    options = cli.COMMANDS[name].parser().parse_args(arguments)
    assert options.run_dir


def test_the_quick_start_builds_with_options_there_are(command):
    built = commands("tfds build")
    assert len(built) == 4
    printed = command("tfds", "build", "--help")
    for line in built:
        name, *arguments = shlex.split(line)
        assert name == "coco_cats"
        for flag, value in zip(arguments[::2], arguments[1::2], strict=True):
            assert flag in printed
            if flag == "--config":
                assert CocoCatsConfig(**json.loads(value)).name


def test_the_quick_start_has_the_commands_of_the_sample(command):
    for line in commands("coco-cats"):
        name, *arguments = shlex.split(line)
        printed = command("coco-cats", name, "--help")
        for flag in (each for each in arguments if each.startswith("--")):
            assert flag in printed


def test_the_quick_start_names_a_picture_of_the_sample(sample):
    coco, _ = sample
    text = (DOCS / "quickstart.md").read_text()
    (name,) = re.findall(r'"demo/coco/(val2017/\w+\.jpg)"', text)
    assert (coco / name).exists()


def test_the_front_page_shows_the_exported_page(tmp_path, monkeypatch):
    """Where there is one; else the picture."""
    spec = importlib.util.spec_from_file_location("hook", DOCS / "demonstration.py")
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    text = (DOCS / "index.md").read_text()
    page = types.SimpleNamespace(file=types.SimpleNamespace(src_uri="index.md"))
    monkeypatch.delenv("DEMONSTRATION", raising=False)
    assert hook.on_page_markdown(text, page) == text
    hook.on_post_build({"site_dir": tmp_path / "site"})
    assert not (tmp_path / "site").exists()

    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "index.html").write_text("found")
    monkeypatch.setenv("DEMONSTRATION", str(tmp_path / "web"))
    shown = hook.on_page_markdown(text, page)
    assert "found.png" not in shown
    assert "## " not in text or shown.count("## ") == text.count("## ")
    assert "**New here?**" in shown
    hook.on_post_build({"site_dir": tmp_path / "site"})
    (source,) = re.findall(r'<iframe[^>]* src="([^"]+)"', shown)
    assert (tmp_path / "site" / source).read_text() == "found"
    with pytest.raises(ValueError, match="has no picture `found.png`"):
        hook.on_page_markdown("no picture", page)
