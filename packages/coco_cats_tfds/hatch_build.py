"""Registers the dataset with TFDS: adds `tensorflow_datasets/datasets/coco_cats/`.

TFDS finds builders by name only in that folder (it reads no entry points). It has no
`__init__.py`, so files that another wheel installs there are found like TFDS's own.
"""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_TARGET = "tensorflow_datasets/datasets/coco_cats"
_FILES = {
    "registration/coco_cats_dataset_builder.py": "coco_cats_dataset_builder.py",
    "src/coco_cats_tfds/README.md": "README.md",
    "src/coco_cats_tfds/CITATIONS.bib": "CITATIONS.bib",
    "src/coco_cats_tfds/TAGS.txt": "TAGS.txt",
}


class TfdsRegistrationHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the registration files to wheels, editable ones included."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Fills `build_data` with the files to add.

        Args:
          version: "standard" or "editable".
          build_data: Hatchling's mutable description of the wheel.
        """
        key = "force_include_editable" if version == "editable" else "force_include"
        for source, name in _FILES.items():
            build_data[key][f"{self.root}/{source}"] = f"{_TARGET}/{name}"
