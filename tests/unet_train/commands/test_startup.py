"""What TensorFlow says when it starts, and what of it a user of a command sees."""

import io
import os
import re
import signal
import subprocess
import sys

import PIL.Image
import pytest

from unet_train import Trainer
from unet_train.commands.startup import LEVEL, pass_on

NOTES = [
    b"WARNING: All log messages before absl::InitializeLog() is called are written to"
    b" STDERR\n",
    b"I0000 00:00:1795547773.02 28900 port.cc:153] oneDNN custom operations are on.\n",
    b"I0000 00:00:1795547773.02 28900 cudart_stub.cc:31] Could not find cuda drivers\n",
    b"I0000 00:00:17955477.17 4702 cpu_feature_guard.cc:227] This TensorFlow binary is"
    b" optimized to use available CPU instructions.\n",
    b"To enable the following instructions: AVX2 FMA, in other operations, rebuild\n",
    b"E0000 00:00:1795547776.73 28900 cuda_platform.cc:52] failed call to cuInit:"
    b" INTERNAL: CUDA error: Failed call to cuInit: UNKNOWN ERROR (303)\n",
    b"E0000 00:00:1795547776.73 28900 cuda_platform.cc:52] failed call to cuInit:"
    b" INTERNAL: CUDA error: Failed call to cuInit: CUDA_ERROR_NO_DEVICE: no device\n",
]
WORTH_KNOWING = [
    b"E0000 00:00:1795547776.73 28900 cuda_platform.cc:52] failed call to cuInit:"
    b" INTERNAL: CUDA error: Failed call to cuInit: CUDA_ERROR_UNKNOWN\n",
    b"W0000 00:00:17955.0 2890 gpu_device.cc:2365] Cannot dlopen some GPU libraries.\n",
    b"F0000 00:00:17955.0 2890 cpu_feature_guard.cc:133] The TensorFlow library was"
    b" compiled to use AVX instructions, but these aren't available on your machine.\n",
    b"a.py:3: UserWarning: something of Python's\n",
]


def passed_on(*lines):
    out = io.BytesIO()
    pass_on(lines, out)
    return out.getvalue()


@pytest.mark.parametrize("line", NOTES)
def test_notes_are_left_out_unless_the_start_fails(line):
    assert passed_on(line, b"\0\n") == b""
    assert passed_on(line) == line


@pytest.mark.parametrize("line", WORTH_KNOWING)
def test_all_else_is_passed_on_in_its_order(line):
    assert passed_on(NOTES[0], line, b"and more\n", b"\0\n") == line + b"and more\n"
    assert passed_on(b"of no whole line\0\n") == b"of no whole line"


# What starts, in place of TensorFlow; the second line is a real one.
FAKE = """
import os
os.write(2, {note!r})
os.write(2, {line!r})
{then}
"""
PROGRAM = """
import sys
from unet_train.commands.startup import quiet_start
with quiet_start():
    import tensorflow
print("after", file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("then", "status", "shows_notes"),
    [
        ("", 0, False),
        ("raise ImportError('libcublas.so.12')", 1, True),
        ("os.abort()", -signal.SIGABRT, True),
        ("os.kill(os.getpid(), 9)", -signal.SIGKILL, True),
        ("raise KeyboardInterrupt", -signal.SIGINT, False),
    ],
)
def test_real_errors_arrive(tmp_path, then, status, shows_notes):
    line = WORTH_KNOWING[2]
    fake = FAKE.format(note=NOTES[1], line=line, then=then)
    (tmp_path / "tensorflow.py").write_text(fake)
    paths = [str(tmp_path), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    for level in (None, "0"):
        environment.pop(LEVEL, None)
        if level is not None:
            environment[LEVEL] = level
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, env=environment
        )
        assert done.returncode == status, done.stderr
        assert line in done.stderr
        assert (NOTES[1] in done.stderr) == (shows_notes or level is not None)
        assert (b"after\n" in done.stderr) == (status == 0)
        assert (b"libcublas.so.12" in done.stderr) == ("ImportError" in then)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, data_dir):
    from unet_core import UNetConfig, build_unet
    from unet_train import SegmentationData, SegmentationTask

    run_dir = tmp_path_factory.mktemp("startup") / "run"
    options = {"data_dir": str(data_dir), "tile_size": 30, "batch_size": 2}
    task = SegmentationTask(build_unet(UNetConfig(depth=1, base_filters=2)))
    Trainer(run_dir, max_steps=1).fit(task, SegmentationData("discs", **options))
    return run_dir


def stderr_of(*arguments, level=None):
    """With the environment that a user has."""
    environment = {k: v for k, v in os.environ.items() if k != LEVEL}
    if level is not None:
        environment[LEVEL] = level
    program = "import sys; from unet_train.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
    )
    return done.stderr


def test_nothing_comes_before_a_command_s_own_words(run_dir, tmp_path, data_dir):
    PIL.Image.new("RGB", (30, 30)).save(tmp_path / "a.png")
    predict = ["predict", f"--run_dir={run_dir}", tmp_path / "a.png"]
    predict.append(f"--output={tmp_path / 'out'}")
    fit = ["fit", f"--run_dir={tmp_path / 'r'}", "--trainer.max_steps=1"]
    fit += ["--data.name=discs", "--data.tile_size=30", f"--data.data_dir={data_dir}"]
    fit += ["--model.depth=1", "--model.base_filters=2"]
    for arguments in (predict, fit):
        assert not re.search(r"absl::|^[IWE]\d{4} |cuInit", stderr_of(*arguments), re.M)
    nowhere = stderr_of("predict", "--run_dir=nowhere", "a.png", "--output=o")
    assert nowhere.startswith("unet-train: nowhere is not the folder of a run")
    assert "absl::InitializeLog" in stderr_of(*predict, level="0")
