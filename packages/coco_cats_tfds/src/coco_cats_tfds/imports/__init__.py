"""Photos and labels as people have them, brought into COCO's layout.

```python
from coco_cats_tfds.imports import import_photos

report = import_photos(["photos"], ["labels.json"], "MINE", validation=0.2)
print(report)
```
"""

from coco_cats_tfds.imports.report import Report
from coco_cats_tfds.imports.run import import_photos

__all__ = ["Report", "import_photos"]
