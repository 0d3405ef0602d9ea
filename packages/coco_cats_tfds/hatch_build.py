"""Registers the dataset with TFDS: adds `tensorflow_datasets/datasets/coco_cats/`.

TFDS finds builders by name only in that folder (it reads no entry points). It has no
`__init__.py`, so files that another wheel installs there are found like TFDS's own.
"""

import pathlib
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SOURCE = "registration"
_TARGET = "tensorflow_datasets/datasets/coco_cats"


class TfdsRegistrationHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the registration files to wheels, editable ones included."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Fills `build_data` with the files to add.

        Args:
          version: "standard" or "editable".
          build_data: Hatchling's mutable description of the wheel.
        """
        key = "force_include_editable" if version == "editable" else "force_include"
        for path in sorted(pathlib.Path(self.root, _SOURCE).iterdir()):
            if path.is_file():
                build_data[key][str(path)] = f"{_TARGET}/{path.name}"
