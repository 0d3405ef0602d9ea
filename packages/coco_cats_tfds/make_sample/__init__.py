"""Draws the pictures of `coco-cats sample`: Chelsea the cat in front of other pictures.

The package ships what this drew, `src/coco_cats_tfds/sample.zip`; to draw it once more,
with scikit-image installed:

```sh
cd packages/coco_cats_tfds && python -m make_sample
```

`dataset` writes the files, `scenes` draws one picture at random, `placement` decides
what lies where, `pictures` reads and changes pixels, `polygons` cuts the outline.
"""
