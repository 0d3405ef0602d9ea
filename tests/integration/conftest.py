"""The commands of all three packages, as a user calls them."""

from __future__ import annotations

import pathlib
import subprocess
import sys
from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def command() -> Callable[..., str]:
    """Runs a command of this environment; returns what it printed."""

    def run(name: str, *arguments: object) -> str:
        path = pathlib.Path(sys.executable).parent / name
        done = subprocess.run(
            [path, *map(str, arguments)], capture_output=True, text=True, timeout=1200
        )
        assert done.returncode == 0, f"{name} {arguments}\n{done.stderr[-4000:]}"
        return done.stdout

    return run


@pytest.fixture(scope="session")
def sample(
    command: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[pathlib.Path, pathlib.Path]:
    """The embedded sample in COCO's layout, and as TFDS built it."""
    folder = tmp_path_factory.mktemp("sample")
    coco, built = folder / "coco", folder / "tfds"
    command("coco-cats", "sample", coco)
    command("tfds", "build", "coco_cats", "--manual_dir", coco, "--data_dir", built)
    return coco, built
