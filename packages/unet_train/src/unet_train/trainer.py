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

import tensorflow as tf
import yaml

from unet_train import devices
from unet_train.callbacks.base import Callback, Run, check_hooks
from unet_train.checkpoint import Checkpoints, step_of
from unet_train.data import SegmentationData
from unet_train.evaluate import evaluate
from unet_train.finite import require_finite_costs, require_finite_weights
from unet_train.loop import make_train_loop
from unet_train.options import TrainerOptions
from unet_train.predict import Predictor
from unet_train.run_folder import (
    ARCHITECTURE,
    CHECKPOINTS,
    CONFIG,
    METRICS,
    MODEL,
    write_model,
    write_text,
)
from unet_train.schedule import Budget, Timer
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
            its checkpoint does not fit the model, or the tile size does not; a split
            or its masks are not what they should be.
          FloatingPointError: The cost is no longer finite.
        """
        self._refuse_to_overwrite(resume)
        task.check_tile_size(data.options.tile_size)
        run = self._start(task, data, config)
        try:
            self._call("on_fit_start", run)
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
        timer = Timer(
            self._clock, seconds=run.seconds, seconds_a_step=run.seconds_a_step
        )
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
            run.horizon = budget.horizon(run.step, run.seconds, run.seconds_a_step)
            task.schedule.horizon.assign(run.horizon)
            steps = self._steps_to_next_event(run.step, budget)
            logs, run.last_batch = train_loop(batches, tf.constant(steps))
            run.step += steps
            run.seconds = timer.seconds()
            run.seconds_a_step = timer.seconds_a_step(run.step)
            arrays = {name: values.numpy() for name, values in logs.items()}
            require_finite_costs(arrays["cost"], run)
            self._call("on_loop_end", run, arrays)
            is_last = budget.is_spent(run.step, run.seconds)
            if _is_due(run.step, options.eval_every_steps) and not is_last:
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
        data.check()
        architecture = task.model.to_json()  # Before the precision of training is set.
        task.set_precision(self.options.precision)
        task.build_optimizer()
        options = data.options
        run = Run(
            directory=self.run_dir,
            task=task,
            options=self.options,
            batch_size=options.batch_size,
            steps_per_epoch=data.count(options.train_split) / options.batch_size,
            place=self._place,
        )
        latest = self._checkpoints.latest()
        if latest is not None:
            self._restore(run, latest)
        # Only now, when nothing can be refused any more, may a file be replaced.
        self.run_dir.mkdir(parents=True, exist_ok=True)
        write_text(self.run_dir / ARCHITECTURE, architecture)
        resolved = {
            "data": dataclasses.asdict(options),
            "task": dataclasses.asdict(task.options),
            "trainer": dataclasses.asdict(self.options),
        }
        text = yaml.safe_dump({**(config or {}), **resolved}, sort_keys=False)
        write_text(self.run_dir / CONFIG, text)
        return run

    def _finish(self, run: Run, data: SegmentationData) -> dict[str, float]:
        """Saves the last step and the model; scores it on all validation images."""
        self._save(run)
        run.task.set_precision("float32")
        write_model(self.run_dir / MODEL, run.task.model)
        split = data.options.eval_split
        scores = evaluate(self._predictor(run, data), data.examples(split))
        record = {**scores, "split": split, "step": run.step, "seconds": run.seconds}
        write_text(self.run_dir / METRICS, json.dumps(record, indent=1) + "\n")
        self._call("on_eval_end", run, scores)
        return scores

    def _refuse_to_overwrite(self, resume: bool) -> None:
        latest = self._checkpoints.latest()
        if latest is not None and not resume:
            raise ValueError(
                f"{self.run_dir} holds a run already, at step {step_of(latest)}. Go on"
                " with it (--resume), or give another --run_dir."
            )
        if latest is None and (self.run_dir / MODEL).exists():
            raise ValueError(
                f"{self.run_dir} holds a trained {MODEL} but no checkpoint to go on"
                " from. Give another --run_dir."
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
        require_finite_weights(run)
        state = {
            "step": run.step,
            "seconds": run.seconds,
            "seconds_a_step": run.seconds_a_step,
            "task": run.task.state_dict(),
            "callbacks": {
                _class_path(callback): callback.state_dict()
                for callback in self.callbacks
            },
        }
        path = self._checkpoints.save(run.step, run.task.tracked(), state)
        self._call("on_checkpoint", run, path)

    def _restore(self, run: Run, path: pathlib.Path) -> None:
        state = self._checkpoints.restore(path, run.task.tracked())
        run.step, run.seconds = state["step"], state["seconds"]
        run.seconds_a_step = state["seconds_a_step"]
        run.task.load_state_dict(state["task"])
        for callback in self.callbacks:
            if (saved := state["callbacks"].get(_class_path(callback))) is not None:
                callback.load_state_dict(saved)

    def _call(self, hook: str, run: Run, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(run, *arguments)


def _is_due(step: int, every: int | None) -> bool:
    return every is not None and step > 0 and step % every == 0


def _class_path(callback: Callback) -> str:
    return f"{type(callback).__module__}.{type(callback).__qualname__}"
