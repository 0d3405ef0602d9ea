"""Which precision a processor emulates, by the instructions that it names."""

import pytest

from unet_train import doctor
from unet_train.doctor import precision

OLD = {"fpu", "avx2", "avx512f"}


@pytest.mark.parametrize(
    ("asked", "flags", "is_emulated"),
    [
        ("float32", OLD, False),
        ("mixed_bfloat16", OLD, True),
        ("mixed_bfloat16", OLD | {"avx512_bf16"}, False),
        ("mixed_bfloat16", OLD | {"amx_bf16"}, False),
        ("mixed_bfloat16", {"fp", "asimd", "bf16"}, False),
        ("mixed_bfloat16", {"fp", "asimd", "fphp", "asimdhp"}, True),
        ("mixed_float16", OLD | {"avx512_bf16"}, True),
        ("mixed_float16", OLD | {"avx512_fp16"}, False),
        ("mixed_float16", OLD | {"amx_fp16"}, False),
        ("mixed_float16", {"fp", "asimd", "fphp", "asimdhp"}, False),
        ("mixed_float16", {"fp", "asimd", "fphp"}, True),
        # Nothing tells.
        ("mixed_float16", set(), False),
    ],
)
def test_emulated(asked, flags, is_emulated):
    finding = doctor.check_precision(asked, flags, on_cpu=True)
    assert finding.verdict == ("warning" if is_emulated else "ok")
    assert doctor.check_precision(asked, flags, on_cpu=False).verdict == "ok"


def test_it_is_named_with_the_cure():
    finding = doctor.check_precision("mixed_float16", OLD, on_cpu=True)
    assert finding.text == (
        "this processor emulates float16, which is slower than float32: it has none of"
        " the instructions avx512_fp16, amx_fp16, asimdhp and fphp"
    )
    assert finding.cure == "Set --trainer.precision float32 on this processor."
    ok = doctor.check_precision("mixed_float16", set(), on_cpu=True)
    assert (ok.text, ok.cure) == ("computed in mixed_float16", "")


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2\n", {"fpu", "avx2"}),
        ("Features\t: fp asimd bf16\n\nFeatures\t: fp asimd\n", {"fp", "asimd"}),
        ("processor : 0\n", set()),
    ],
)
def test_flags_that_every_processor_has(tmp_path, monkeypatch, text, flags):
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(precision, "_CPUINFO", path)
    assert precision.processor_flags() == set()
    path.write_text(text)
    assert precision.processor_flags() == flags
