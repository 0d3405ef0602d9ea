"""COCO images with a binary mask of one or more categories, as a TFDS dataset.

After `pip install`, TFDS knows the dataset by name; nothing needs importing:

```sh
tfds build coco_cats --manual_dir COCO --data_dir OUT
```

```python
dataset = tfds.load("coco_cats", split="train", data_dir="OUT")
```

The modules: `annotations` reads an instances file, `masks` turns polygons and RLE
into a mask, `sources` reads and checks image files, `sample` writes a small dataset
in COCO's layout, `coco_cats_dataset_builder` joins them into the TFDS builder.
"""

from coco_cats_tfds.errors import CocoDataError

__all__ = ["CocoDataError"]
__version__ = "0.1.0"
