"""COCO images with a binary mask of one or more categories, as a TFDS dataset.

After `pip install`, TFDS knows the dataset by name; nothing needs importing:

```sh
tfds build coco_cats --manual_dir COCO --data_dir OUT
```

```python
dataset = tfds.load("coco_cats", split="train", data_dir="OUT")
```

With a choice of one's own, from Python:

```python
config = CocoCatsConfig(name="pets", categories=["cat", "dog"])
builder = tfds.builder("coco_cats", config=config, data_dir="OUT")
builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir="COCO"))
```

Where this package is not installed beside TFDS, importing it makes the name known.

The modules: `annotations` reads an instances file, `masks` turns polygons and RLE
into a mask, `sources` reads and checks image files, `sample` writes a small dataset
in COCO's layout, `coco_cats_dataset_builder` joins them into the TFDS builder.
"""

from typing import TYPE_CHECKING, Any

from tensorflow_datasets.core import registered as _registered

from coco_cats_tfds.errors import CocoDataError

if TYPE_CHECKING:
    from coco_cats_tfds.coco_cats_dataset_builder import Builder, CocoCatsConfig

__all__ = ["Builder", "CocoCatsConfig", "CocoDataError"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Imports the builder, and TensorFlow with it, when it is asked for."""
    if name not in ("Builder", "CocoCatsConfig"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from coco_cats_tfds import coco_cats_dataset_builder

    return getattr(coco_cats_dataset_builder, name)


class _Provider(_registered.DatasetBuilderProvider):
    """Tells TFDS of the builder wherever this package lies."""

    def has_dataset(self, name: str) -> bool:
        return name == "coco_cats"

    def get_builder_cls(self, name: str) -> Any:
        return __getattr__("Builder")


_registered.add_dataset_builder_provider(_Provider())
