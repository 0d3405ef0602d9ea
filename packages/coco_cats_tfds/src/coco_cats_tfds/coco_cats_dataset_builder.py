"""The TFDS builder `coco_cats`: COCO images with a binary mask.

```sh
tfds build coco_cats --manual_dir COCO --data_dir OUT
tfds build coco_cats --manual_dir COCO --data_dir OUT \
    --config '{"name": "pets", "categories": ["cat", "dog"]}'
```
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from coco_cats_tfds.annotations import ImageRecord, InstancesIndex
from coco_cats_tfds.errors import CocoDataError
from coco_cats_tfds.masks import CROWD_RULES, CrowdRule, draw_mask
from coco_cats_tfds.sources import LocalSource

# The splits of the dataset, and the name that COCO 2017 gives to each.
_SPLITS = {"train": "train2017", "validation": "val2017"}


@dataclasses.dataclass(eq=False)
class CocoCatsConfig(tfds.core.BuilderConfig):
    """What to build. As JSON: `--config '{"name": "pets", "categories": [...]}'`.

    Attributes:
      name: Of the configuration; the folder under which the dataset is stored.
      categories: COCO category names. An image that shows any of them counts, and the
        mask is the union of all their instances.
      crowd: What becomes of crowd regions: "ignore" (255 where no single instance
        covers them) or "foreground" (1, as in the original of 2018).
    """

    categories: tuple[str, ...] = ("cat",)
    crowd: CrowdRule = "ignore"

    def __post_init__(self) -> None:
        if isinstance(self.categories, str) or not self.categories:
            raise CocoDataError(
                "`categories` must be a list of at least one COCO category name, e.g."
                f' ["cat", "dog"]. Received: {self.categories!r}'
            )
        if self.crowd not in CROWD_RULES:
            raise CocoDataError(
                f"`crowd` must be one of {list(CROWD_RULES)}. Received: {self.crowd!r}"
            )
        self.categories = tuple(self.categories)

    @property
    def choice(self) -> dict[str, Any]:
        """What decides over the content of the dataset, as JSON."""
        return {"categories": list(self.categories), "crowd": self.crowd}


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builds `coco_cats` from a folder in COCO's layout."""

    # Description, citation and tags are installed there, as for TFDS's own datasets.
    pkg_dir_path = tfds.core.tfds_path("datasets/coco_cats")
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Initial release."}
    BUILDER_CONFIGS = [
        CocoCatsConfig(name="cats", description="Cats: every image that shows one.")
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
    Pass --manual_dir a folder in COCO's layout: train2017/ and val2017/ with the
    JPEGs, and annotations/instances_train2017.json and instances_val2017.json,
    extracted from COCO's train2017.zip, val2017.zip and
    annotations_trainval2017.zip. `coco-cats sample DIR` writes a small one.
    """

    def __init__(self, **options: Any) -> None:
        """Finds what was built before; options as for every TFDS builder.

        Raises:
          CocoDataError: The configuration's name stands for another choice already.
        """
        super().__init__(**options)
        built, wanted = dict(self.info.metadata), self.builder_config.choice
        if self.is_prepared() and built != wanted:
            raise CocoDataError(
                f"{self.data_path} was built with {built}, not with {wanted}. Give this"
                " configuration another name, or delete that folder."
            )

    def _info(self) -> tfds.core.DatasetInfo:
        """The data contract: stock TFDS features only."""
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(
                        shape=(None, None, 3),
                        encoding_format="jpeg",
                        doc="The original JPEG.",
                    ),
                    "segmentation_mask": tfds.features.Image(
                        shape=(None, None, 1),
                        encoding_format="png",
                        use_colormap=True,
                        doc="0 background, 1 foreground, 255 ignored.",
                    ),
                    "image/id": tfds.features.Scalar(np.int64, doc="COCO image id."),
                    "image/filename": tfds.features.Text(doc="COCO file name."),
                }
            ),
            supervised_keys=("image", "segmentation_mask"),
            metadata=tfds.core.MetadataDict(self.builder_config.choice),
            homepage="https://cocodataset.org",
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        """One generator a split, after all inputs were found."""
        root = pathlib.Path(dl_manager.manual_dir)
        splits = {}
        for split, coco_split in _SPLITS.items():
            index = InstancesIndex.load(
                root / "annotations" / f"instances_{coco_split}.json"
            )
            records = index.select(index.category_ids(self.builder_config.categories))
            if not records:
                raise CocoDataError(
                    f"No image in {index.path} shows any of"
                    f" {list(self.builder_config.categories)}, and TFDS has no empty"
                    " splits. Choose other categories, or add images."
                )
            source = LocalSource(root / coco_split)
            splits[split] = self._generate_examples(records, source)
        return splits

    def _generate_examples(
        self, records: Sequence[ImageRecord], source: LocalSource
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields image id and example for every record."""
        for record in records:
            image = record.image
            yield (
                image.id,
                {
                    "image": source.read(image),
                    "segmentation_mask": draw_mask(
                        record.annotations,
                        height=image.height,
                        width=image.width,
                        crowd=self.builder_config.crowd,
                    ),
                    "image/id": image.id,
                    "image/filename": image.file_name,
                },
            )
