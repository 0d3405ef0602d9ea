"""Does the processor compute in the precision that is asked for, or emulate it?"""

from __future__ import annotations

from collections.abc import Set

from unet_train.doctor.finding import Finding
from unet_train.options import Precision
from unet_train.training.precision import emulation_warning


def check_precision(precision: Precision, flags: Set[str], *, on_cpu: bool) -> Finding:
    """Whether the processor has instructions for it.

    ```python
    from unet_train.doctor import check_precision

    finding = check_precision("mixed_bfloat16", {"avx2"}, on_cpu=True)
    assert finding.verdict == "warning"  # It is emulated there.
    ```

    Args:
      precision: Of the run.
      flags: Of `processor_flags`; empty if nothing tells.
      on_cpu: Whether the network is computed on one.
    """
    if on_cpu and (warning := emulation_warning(precision, flags)):
        text, _, cure = warning.partition(". ")
        return Finding("precision", "warning", text, cure)
    return Finding("precision", "ok", f"computed in {precision}")
