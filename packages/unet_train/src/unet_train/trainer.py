"""The outer loop: train some steps, validate, save, tell the callbacks.

```python
trainer = Trainer("runs/cats", max_epochs=100, callbacks=[Progress(), TensorBoard()])
trainer.fit(SegmentationTask(build_unet()), SegmentationData("coco_cats"))
```

Make the trainer before the model: it sets seed and device.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import yaml

from unet_train import devices
from unet_train.callbacks.base import Callback, Run, check_hooks
from unet_train.checkpoint import Checkpoints, step_of
from unet_train.data import SegmentationData
from unet_train.evaluate import evaluate
from unet_train.loop import make_train_loop
from unet_train.options import TrainerOptions
from unet_train.predict import (
    ARCHITECTURE,
    CHECKPOINTS,
    CONFIG,
    METRICS,
    MODEL,
    Predictor,
)
from unet_train.schedule import Budget
from unet_train.task import SegmentationTask


class Trainer:
    """Trains a task on data, in a run folder.

    Attributes:
      run_dir: Where configuration, checkpoints, logs and the model go.
      options: How long and on what to train.
      callbacks: Who is told.
    """

    def __init__(
        self,
        run_dir: str | os.PathLike[str],
        *,
        callbacks: Sequence[Callback] = (),
        clock: Callable[[], float] = time.monotonic,
        **options: Any,
    ) -> None:
        """Sets up seed and device.

        Args:
          run_dir: The run folder, made if need be.
          callbacks: Called at each hook in this order.
          clock: Seconds from any start.
          **options: Fields of `TrainerOptions`.

        Raises:
          ValueError: An impossible option, or a callback with an unknown hook.
        """
        self.run_dir = pathlib.Path(run_dir)
        self.options = TrainerOptions(**options)
        self.callbacks = list(callbacks)
        for callback in self.callbacks:
            check_hooks(callback)
        self._clock = clock
        self._place = devices.configure(self.options)
        self._checkpoints = Checkpoints(
            self.run_dir / CHECKPOINTS, keep=self.options.keep_checkpoints
        )

    def fit(
        self,
        task: SegmentationTask,
        data: SegmentationData,
        *,
        resume: bool = False,
        config: Mapping[str, Any] | None = None,
    ) -> dict[str, float]:
        """Trains until the budget is spent, and leaves a model and its scores.

        Args:
          task: What to learn; its model's weights are changed.
          data: What to learn from.
          resume: Go on from the last checkpoint in the run folder, if there is one.
          config: What to save as `config.yaml`, if more is known than the options of
            `task`, `data` and the trainer: the command line adds model and callbacks.

        Returns:
          The scores on all validation images, as in `metrics.json`.

        Raises:
          ValueError: The run folder holds a run already and `resume` is not set, or
            its checkpoint does not fit the model, or the tile size does not.
          FloatingPointError: The cost is no longer finite.
        """
        self._refuse_to_overwrite(resume)
        task.check_tile_size(data.options.tile_size)
        run = self._start(task, data, config)
        self._call("on_fit_start", run)
        try:
            self._train(run, data)
            scores = self._finish(run, data)
        except BaseException as error:
            self._call("on_exception", run, error)
            raise
        self._call("on_fit_end", run)
        return scores

    def _train(self, run: Run, data: SegmentationData) -> None:
        """The loop itself."""
        options, task = self.options, run.task
        budget = self._budget(run)
        timer = _Timer(self._clock, run.seconds)
        train_loop = make_train_loop(
            task.train_step, task.log_names, jit_compile=options.jit_compile
        )
        batches = iter(
            data.train_batches(
                margin=task.margin, seed=options.seed, start_step=run.step
            )
        )
        predictor = self._predictor(run, data)
        while not budget.is_spent(run.step, run.seconds):
            steps = self._steps_to_next_event(run.step, budget)
            logs, run.last_batch = train_loop(batches, tf.constant(steps))
            timer.advance(run, steps)
            run.horizon = budget.horizon(run.step, run.seconds, run.seconds_a_step)
            task.schedule.horizon.assign(run.horizon)
            arrays = {name: values.numpy() for name, values in logs.items()}
            _require_finite(arrays["cost"], run)
            self._call("on_loop_end", run, arrays)
            if _is_due(run.step, options.eval_every_steps):
                examples = data.examples(
                    data.options.eval_split, limit=options.eval_images
                )
                self._call("on_eval_end", run, evaluate(predictor, examples))
            run.seconds = timer.seconds()
            if _is_due(run.step, options.checkpoint_every_steps):
                self._save(run)

    def _start(
        self,
        task: SegmentationTask,
        data: SegmentationData,
        config: Mapping[str, Any] | None,
    ) -> Run:
        """Prepares the run folder; restores the last checkpoint if there is one."""
        task.set_precision(self.options.precision)
        task.optimizer.build(task.model.trainable_variables)
        options = data.options
        run = Run(
            directory=self.run_dir,
            task=task,
            options=self.options,
            batch_size=options.batch_size,
            steps_per_epoch=data.count(options.train_split) / options.batch_size,
            place=self._place,
        )
        self.run_dir.mkdir(parents=True, exist_ok=True)
        _write(self.run_dir / ARCHITECTURE, task.model.to_json())
        resolved = {
            "data": dataclasses.asdict(options),
            "task": dataclasses.asdict(task.options),
            "trainer": dataclasses.asdict(self.options),
        }
        text = yaml.safe_dump({**(config or {}), **resolved}, sort_keys=False)
        _write(self.run_dir / CONFIG, text)
        latest = self._checkpoints.latest()
        if latest is not None:
            self._restore(run, latest)
        return run

    def _finish(self, run: Run, data: SegmentationData) -> dict[str, float]:
        """Saves the last step and the model; scores it on all validation images."""
        if not _is_due(run.step, self.options.checkpoint_every_steps):
            self._save(run)
        run.task.set_precision("float32")
        partial = self.run_dir / f"partial.{MODEL}"
        run.task.model.save(partial)
        partial.replace(self.run_dir / MODEL)
        split = data.options.eval_split
        scores = evaluate(self._predictor(run, data), data.examples(split))
        record = {**scores, "split": split, "step": run.step, "seconds": run.seconds}
        _write(self.run_dir / METRICS, json.dumps(record, indent=1) + "\n")
        self._call("on_eval_end", run, scores)
        return scores

    def _refuse_to_overwrite(self, resume: bool) -> None:
        latest = self._checkpoints.latest()
        if latest is not None and not resume:
            raise ValueError(
                f"{self.run_dir} holds a run already, at step {step_of(latest)}. Go on"
                " with it (--resume), or give another --run_dir."
            )

    def _budget(self, run: Run) -> Budget:
        options = self.options
        limits = [math.inf]
        if options.max_steps is not None:
            limits.append(options.max_steps)
        if options.max_epochs is not None:
            limits.append(math.ceil(options.max_epochs * run.steps_per_epoch))
        minutes = options.max_minutes
        return Budget(
            max_steps=min(limits),
            max_seconds=math.inf if minutes is None else 60 * minutes,
        )

    def _steps_to_next_event(self, step: int, budget: Budget) -> int:
        """How many steps to run before Python has something to do."""
        options = self.options
        limits = [options.steps_per_loop, budget.max_steps - step]
        for every in (options.eval_every_steps, options.checkpoint_every_steps):
            if every is not None:
                limits.append(every - step % every)
        return int(min(limits))

    def _predictor(self, run: Run, data: SegmentationData) -> Predictor:
        return Predictor(
            run.task.model,
            image_size=data.options.image_size,
            threshold=run.task.options.threshold,
        )

    def _save(self, run: Run) -> None:
        state = {
            "step": run.step,
            "seconds": run.seconds,
            "callbacks": [callback.state_dict() for callback in self.callbacks],
        }
        path = self._checkpoints.save(run.step, _tracked(run.task), state)
        self._call("on_checkpoint", run, path)

    def _restore(self, run: Run, path: pathlib.Path) -> None:
        state = self._checkpoints.restore(path, _tracked(run.task))
        run.step, run.seconds = state["step"], state["seconds"]
        for callback, saved in zip(self.callbacks, state["callbacks"], strict=False):
            callback.load_state_dict(saved)

    def _call(self, hook: str, run: Run, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(run, *arguments)


class _Timer:
    """Keeps a run's seconds, and its speed since the first round of steps.

    The first round is left out of the speed because it compiles.
    """

    def __init__(self, clock: Callable[[], float], seconds_before: float) -> None:
        self._clock = clock
        self._zero = clock() - seconds_before
        self._measured_from: tuple[int, float] | None = None

    def seconds(self) -> float:
        return self._clock() - self._zero

    def advance(self, run: Run, steps: int) -> None:
        run.step += steps
        run.seconds = self.seconds()
        if self._measured_from is None:
            self._measured_from = run.step, run.seconds
            return
        first_step, first_seconds = self._measured_from
        run.seconds_a_step = (run.seconds - first_seconds) / (run.step - first_step)


def _tracked(task: SegmentationTask) -> dict[str, Any]:
    """What a checkpoint holds as tensors."""
    return {
        "model": task.model,
        "optimizer": task.optimizer,
        "horizon": task.schedule.horizon,
    }


def _is_due(step: int, every: int | None) -> bool:
    return every is not None and step > 0 and step % every == 0


def _require_finite(costs: np.ndarray[Any, np.dtype[np.float32]], run: Run) -> None:
    broken = np.flatnonzero(~np.isfinite(costs))
    if broken.size:
        step = run.step - len(costs) + int(broken[0]) + 1
        raise FloatingPointError(
            f"The cost of step {step} is {costs[broken[0]]}. The checkpoints in"
            f" {run.directory / CHECKPOINTS} are from before; resume with a lower"
            " --task.learning_rate, or with --trainer.precision float32."
        )


def _write(path: pathlib.Path, text: str) -> None:
    """Writes a file whole or not at all."""
    partial = path.with_name(f"partial.{path.name}")
    partial.write_text(text)
    partial.replace(path)
