"""What is wrong with data, machine, network or run, and the cure: `unet-train doctor`.

```python
from unet_train.doctor import examine

data = SegmentationData("coco_cats", data_dir="OUT")
task = SegmentationTask(build_unet(UNetConfig()))
found = examine(task, data, TrainerOptions(max_epochs=100))
print(found.conclusion)
```

Checks are functions of what was seen, and give `Finding`s. They are in the order of
causes: the first fault is what to mend first, since it may be the cause of the others.
"""

from unet_train.doctor.alignment import check_alignment
from unet_train.doctor.data import (
    Survey,
    check_classes,
    check_foreground,
    check_values,
    look_at,
)
from unet_train.doctor.drawings import check_folder, write_drawings
from unet_train.doctor.examination import Examination, Scope, examine
from unet_train.doctor.finding import Finding, conclude
from unet_train.doctor.learning import check_learning, overfit_one_batch
from unet_train.doctor.machine import check_gpu, check_memory, forecast_time, settle
from unet_train.doctor.network import (
    check_batch_norm,
    check_dead_units,
    check_output_layer,
    check_weights,
)
from unet_train.doctor.precision import check_precision
from unet_train.doctor.scores import (
    Scores,
    check_classes_found,
    check_logits,
    check_threshold,
    score,
)

__all__ = [
    "Examination",
    "Finding",
    "Scope",
    "Scores",
    "Survey",
    "check_alignment",
    "check_batch_norm",
    "check_classes",
    "check_classes_found",
    "check_dead_units",
    "check_folder",
    "check_foreground",
    "check_gpu",
    "check_learning",
    "check_logits",
    "check_memory",
    "check_output_layer",
    "check_precision",
    "check_threshold",
    "check_values",
    "check_weights",
    "conclude",
    "examine",
    "forecast_time",
    "look_at",
    "overfit_one_batch",
    "score",
    "settle",
    "write_drawings",
]
