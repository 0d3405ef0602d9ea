"""Makes `tfds build coco_cats` and `tfds.load("coco_cats")` find the builder."""

from coco_cats_tfds.coco_cats_dataset_builder import Builder as Builder
