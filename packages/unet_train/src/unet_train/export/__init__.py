"""A trained network in forms that need none of these packages.

```python
from unet_train.export.run import export

export("runs/cats", "exported", formats=["saved_model", "keras"])
```

`orientation.py` and `decode.py` read a photo's bytes with TensorFlow operations,
`whole_photo.py` predicts it in tiles, `signatures.py` joins these; `formats.py` writes
and reopens each form, `parity.py` compares it with `Predictor`, `card.py` describes it.
`web/` is a page that finds in the browser.
"""

from typing import Literal, get_args

Format = Literal["saved_model", "logits", "keras", "onnx", "litert", "web"]

FORMATS: tuple[Format, ...] = get_args(Format)
"""What can be exported; `formats.py` has how."""

DEFAULT_FORMATS: tuple[Format, ...] = ("saved_model", "logits", "keras")
"""Those that need no further package."""
