"""Does the processor compute in the precision that is asked for, or emulate it?

Without the instructions a CPU takes 16-bit numbers apart and computes in 32 bits, which
takes longer than 32 bits from the start: 3.7 times as long was measured for float16.
"""

from __future__ import annotations

import pathlib
from collections.abc import Set

from unet_train.doctor.finding import Finding
from unet_train.options import Precision

_CPUINFO = pathlib.Path("/proc/cpuinfo")
# As Linux names them: "flags" on x86, "Features" on Arm. Any one of these sets will do.
_INSTRUCTIONS: dict[Precision, list[set[str]]] = {
    "mixed_bfloat16": [{"avx512_bf16"}, {"amx_bf16"}, {"bf16"}],
    "mixed_float16": [{"avx512_fp16"}, {"amx_fp16"}, {"fphp", "asimdhp"}],
}


def processor_flags() -> set[str]:
    """The instructions that all processors here have; none where nothing tells."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    pairs = (line.partition(":") for line in lines)
    found = [
        set(flags.split())
        for name, _, flags in pairs
        if name.strip() in ("flags", "Features")
    ]
    return set.intersection(*found) if found else set()


def check_precision(precision: Precision, flags: Set[str], *, on_cpu: bool) -> Finding:
    """Whether the processor has instructions for it.

    Args:
      precision: Of the run.
      flags: Of `processor_flags`; empty if nothing tells.
      on_cpu: Whether the network is computed on one.
    """
    ways = _INSTRUCTIONS.get(precision, [])
    if not (on_cpu and ways and flags) or any(way <= flags for way in ways):
        return Finding("precision", "ok", f"computed in {precision}")
    number = precision.removeprefix("mixed_")
    names = ", ".join(" and ".join(sorted(way)) for way in ways)
    return Finding(
        "precision",
        "warning",
        f"this processor emulates {number}, which is slower than float32: it has none"
        f" of the instructions {names}",
        "Set --trainer.precision float32 on this processor.",
    )
