"""Progress on a terminal and where there is none."""

import io
import pathlib
from unittest import mock

import numpy as np
import pytest
import rich.console

from unet_train import flops
from unet_train.callbacks import Progress, Run


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr(flops, "train_gflop", lambda model, tile_size: 2.5)
    monkeypatch.setattr(flops, "matrix_product_gflops", lambda precision: 80.0)
    anything = mock.Mock()
    return Run(
        directory=pathlib.Path("runs/x"), task=anything, data=anything,
        predictor=anything, options=anything, batch_size=4, steps_per_epoch=10.0,
        place="Training on CPU, float32",
    )  # fmt: skip


def play(run, console):
    progress = Progress(every_seconds=10, console=console)
    progress.on_fit_start(run)
    for step in (10, 20, 30, 40):
        run.step, run.seconds, run.seconds_a_step, run.horizon = step, step / 2, 0.5, 80
        logs = {"loss": [9.0, step / 100], "input_wait": [0.02, 0.03]}
        progress.on_loop_end(run, {name: np.array(logs[name]) for name in logs})
    run.evaluated_images = 3
    progress.on_eval_end(run, {"loss": 0.25, "iou": 0.5, "sharpness": 0.125})
    run.scores = mock.Mock(result=lambda: {"iou": 0.75})
    run.final_scores = {"iou": 0.75, "threshold": 0.5, "images": 9}
    progress.on_fit_end(run)


def test_plain_lines_where_there_is_no_terminal(run):
    stream = io.StringIO()
    play(run, rich.console.Console(file=stream, highlight=False))
    assert stream.getvalue().splitlines() == [
        "Training on CPU, float32; from the start; run folder runs/x",
        "epoch 1.0  step 10/80  loss 0.1  8 images/s  20 GFLOP/s (25% of peak)"
        "  input 1.0%  0:35 left",
        "epoch 3.0  step 30/80  loss 0.3  8 images/s  20 GFLOP/s (25% of peak)"
        "  input 1.0%  0:25 left",
        "step 40  validation on 3 images: loss 0.250  iou 0.500  sharpness 0.125",
        "step 40  validation on 9 images: iou 0.750",
        "Done: 40 steps, 4.0 epochs, 0:20; model in runs/x/model.keras",
    ]


def test_a_bar_on_a_terminal(run):
    stream = io.StringIO()
    console = rich.console.Console(file=stream, force_terminal=True, width=120)
    play(run, console)
    assert "━" in stream.getvalue()
    assert "step 40/80" in stream.getvalue()


def test_an_error_gives_the_terminal_back(run):
    console = rich.console.Console(file=io.StringIO(), force_terminal=True)
    progress = Progress(console=console)
    progress.on_fit_start(run)
    progress.on_exception(run, KeyboardInterrupt())
    progress.on_fit_start(run)  # rich refuses a second live display at a time.
    progress.on_exception(run, KeyboardInterrupt())
