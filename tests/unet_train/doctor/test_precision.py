"""What the doctor says of a precision that the processor emulates."""

from unet_train import doctor
from unet_train.training import precision

OLD = {"fpu", "avx2", "avx512f"}


def test_it_is_named_with_both_speeds_and_the_cure(monkeypatch):
    speeds = {"mixed_float16": 2.345, "float32": 110.4}
    monkeypatch.setattr(precision, "matrix_product_gflops", speeds.get)
    finding = doctor.check_precision("mixed_float16", OLD, on_cpu=True)
    assert finding.verdict == "warning"
    assert finding.text == (
        "this processor emulates float16 (2.35 GFLOP/s in a matrix product, 110 in"
        " float32): it has no avx512_fp16, amx_fp16, asimdhp and fphp"
    )
    assert finding.cure == "Set --trainer.precision auto or float32."


def test_on_a_gpu_or_where_nothing_tells_it_is_well():
    for flags, on_cpu in ((OLD, False), (set(), True)):
        ok = doctor.check_precision("mixed_float16", flags, on_cpu=on_cpu)
        assert (ok.verdict, ok.text) == ("ok", "computed in mixed_float16")
        assert not ok.cure
