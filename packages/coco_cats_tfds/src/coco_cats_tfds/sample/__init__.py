"""The embedded sample: Chelsea the cat in front of other pictures, in COCO's layout.

`dataset` writes it, `scenes` draws one picture at random, `placement` decides what lies
where, `pictures` reads and changes pixels, `polygons` cuts the outline.
"""

from coco_cats_tfds.sample.dataset import write_sample

__all__ = ["write_sample"]
