"""The order of the floors: a room imports from those below it, never from above."""

import ast
import pathlib

import pytest

import unet_train

ROOT = pathlib.Path(unet_train.__file__).parent

# From the top to the bottom; the rooms of one floor may know each other.
FLOORS = [
    {"cli", "commands"},
    {"doctor", "export", "callbacks", "writers"},
    {"training"},
    {"losses", "task"},
    {"scoring"},
    {"inference"},
    {"runs"},
    {"data"},
    {"options", "registry", "flops", "graph"},
]
FLOOR = {room: number for number, floor in enumerate(FLOORS) for room in floor}
MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))


def room_of(path):
    """The room that a module lies in; the package's own front door has none."""
    return path.parts[0].removesuffix(".py")


def imports_in(source, module):
    """Every module of ours that a file imports, within functions and for types too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            if node.module == "unet_train":
                yield from (f"unet_train.{each.name}" for each in node.names)
            yield node.module or ""


def faults_of(module, source):
    """Imports that go up, as (room, room above it)."""
    from unet_train import _LAZY

    room = room_of(module)
    for name in imports_in(source, module):
        # `from unet_train import Trainer` is from the room that has it.
        name = _LAZY.get(name.removeprefix("unet_train."), name)
        other = name.split(".")[1] if name.startswith("unet_train.") else None
        if other in FLOOR and FLOOR[other] < FLOOR[room]:
            yield room, other


def test_every_module_lies_on_a_floor():
    assert {room_of(module) for module in MODULES} == {*FLOOR, "__init__"}


@pytest.mark.parametrize(
    "module", [each for each in MODULES if room_of(each) != "__init__"], ids=str
)
def test_arrows_point_down(module):
    assert not list(faults_of(module, (ROOT / module).read_text()))


def test_an_arrow_that_points_up_is_seen():
    source = "def f():\n    from unet_train import Trainer\n"
    assert list(faults_of(pathlib.Path("data/x.py"), source)) == [("data", "training")]
    source = "from unet_train.task.loss import Loss"
    assert list(faults_of(pathlib.Path("runs/x.py"), source)) == [("runs", "task")]


def test_no_module_is_a_house_of_its_own():
    """Eight modules at most on the top floor, none over 330 lines."""
    top = [each for each in MODULES if len(each.parts) == 1]
    assert len(top) <= 8
    for module in MODULES:
        lines = (ROOT / module).read_text().count("\n")
        assert lines <= 330, f"{module} has {lines} lines"
