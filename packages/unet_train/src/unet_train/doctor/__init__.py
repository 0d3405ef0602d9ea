"""What is wrong with data, machine, network or run, and the cure: `unet-train doctor`.

```python
survey = look_at(SegmentationData("coco_cats", data_dir="OUT"), images=50)
findings = [*check_values(survey), check_foreground(survey), check_alignment(survey)]
print(conclude(findings))
```

Checks are functions of what was seen, and give `Finding`s. They are in the order of
causes: the first fault is what to mend first, since it may be the cause of the others.
"""

from unet_train.doctor.alignment import check_alignment
from unet_train.doctor.data import Survey, check_foreground, check_values, look_at
from unet_train.doctor.finding import Finding, conclude
from unet_train.doctor.learning import check_learning, overfit_one_batch
from unet_train.doctor.machine import check_gpu, check_memory, forecast_time
from unet_train.doctor.network import (
    check_batch_norm,
    check_dead_units,
    check_output_layer,
    check_weights,
)
from unet_train.doctor.scores import Scores, check_logits, check_threshold, score

__all__ = [
    "Finding",
    "Scores",
    "Survey",
    "check_alignment",
    "check_batch_norm",
    "check_dead_units",
    "check_foreground",
    "check_gpu",
    "check_learning",
    "check_logits",
    "check_memory",
    "check_output_layer",
    "check_threshold",
    "check_values",
    "check_weights",
    "conclude",
    "forecast_time",
    "look_at",
    "overfit_one_batch",
    "score",
]
