"""The outer loop: train some steps, validate, save, tell the callbacks.

```python
trainer = Trainer("runs/cats", max_epochs=100, callbacks=[Progress(), TensorBoard()])
with trainer.scope():
    task = SegmentationTask(build_unet())
trainer.fit(task, SegmentationData("coco_cats"))
```

Make the trainer before the model: it sets seed and devices.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import tensorflow as tf

from unet_train import devices
from unet_train.agenda import Agenda
from unet_train.callbacks.base import Callback, Run, check_hooks
from unet_train.checkpoint import Checkpoints, step_of
from unet_train.data import STRANGE_MASK, Example, SegmentationData, Share
from unet_train.evaluate import evaluate
from unet_train.fast_layers import speed_up
from unet_train.finite import require_finite_costs, require_finite_weights
from unet_train.loop import make_train_loop
from unet_train.options import TrainerOptions
from unet_train.predict import Predictor
from unet_train.run_folder import (
    ARCHITECTURE,
    CHECKPOINTS,
    METRICS,
    MODEL,
    write_config,
    write_model,
    write_text,
)
from unet_train.schedule import Timer
from unet_train.signals import Interrupted, StopOnSignal
from unet_train.task import SegmentationTask

_LOG = logging.getLogger("unet_train")


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
        """Sets up seed and devices.

        Args:
          run_dir: The run folder, made if need be.
          callbacks: Called at each hook in this order, on the first machine only.
          clock: Seconds from any start.
          **options: Fields of `TrainerOptions`.

        Raises:
          ValueError: An impossible option, or a callback with an unknown hook.
          RuntimeError: The devices asked for are not there.
        """
        self.run_dir = pathlib.Path(run_dir)
        self.options = TrainerOptions(**options)
        if self.options.fast_dev_run:
            self.run_dir = self.run_dir / "fast_dev_run"
            self.options = self.options.shortened()
        self.callbacks = list(callbacks)
        for callback in self.callbacks:
            check_hooks(callback)
        self._clock = clock
        self._place = devices.configure(self.options)
        self._checkpoints = Checkpoints(
            self.run_dir / CHECKPOINTS, keep=self.options.keep_checkpoints
        )

    def scope(self) -> AbstractContextManager[Any]:
        """Within this the model is made, and the task, to train on several devices."""
        return self._place.strategy.scope()

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
          Interrupted: By SIGTERM or SIGINT, after the step was finished and saved.
        """
        if self.options.fast_dev_run and self._place.is_chief:
            shutil.rmtree(self.run_dir, ignore_errors=True)
        self._refuse_to_overwrite(resume)
        task.check_tile_size(data.options.tile_size)
        run = self._start(task, data, config)
        with StopOnSignal() as stop, self.scope():
            try:
                self._call("on_fit_start", run)
                self._train(run, stop)
                scores = self._finish(run, stop)
            except BaseException as error:
                self._call("on_exception", run, error)
                raise
            self._call("on_fit_end", run)
        return scores

    def _train(self, run: Run, stop: StopOnSignal) -> None:
        """The loop itself."""
        options, task = self.options, run.task
        agenda = Agenda(options, run.steps_per_epoch)
        timer = Timer(
            self._clock, seconds=run.seconds, seconds_a_step=run.seconds_a_step
        )
        train_loop = make_train_loop(
            task.train_step,
            task.log_names,
            strategy=self._place.strategy,
            after_step=task.after_step,
            # Machines must not stop one by one; they agree after each round.
            stop=stop.variable if self._place.share.workers == 1 else None,
            jit_compile=options.jit_compile,
        )
        batches = self._place.iterate(lambda share: self._batches(run, share))
        if agenda.eval_is_due(run) and not agenda.is_over(run):
            self._validate(run, timer, stop)  # The run was stopped just before it.
        self._read_clock(run, timer, stop)
        while not agenda.is_over(run):
            run.horizon = agenda.horizon(run)
            task.schedule.horizon.assign(run.horizon)
            logs = self._run_steps(train_loop, batches, agenda.steps(run))
            run.step += len(logs["cost"])
            self._read_clock(run, timer, stop)
            run.seconds_a_step = timer.seconds_a_step(run.step, run.seconds)
            self._place.average_statistics(task.model)
            require_finite_costs(
                logs["cost"], run, lambda step: self._ids_of_batch(run, step)
            )
            self._call("on_loop_end", run, logs)
            # The end has a validation and a checkpoint of its own, and who takes a
            # machine away does not wait for a validation.
            is_last = agenda.is_over(run)
            if agenda.eval_is_due(run) and not is_last and stop.received is None:
                self._validate(run, timer, stop)
            if self._read_clock(run, timer, stop):
                self._tell_saved(run, self._save(run, or_fail=True))
                raise Interrupted(run.step, stop.received)
            if agenda.checkpoint_is_due(run.step) and not agenda.is_over(run):
                path = self._save(run)
                self._read_clock(run, timer, stop)
                self._tell_saved(run, path)

    def _run_steps(
        self, train_loop: Any, batches: Any, steps: int
    ) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
        """A round of steps; the logs of those that were done."""
        try:
            _, logs = train_loop(batches, tf.constant(steps))
        except tf.errors.InvalidArgumentError as error:
            if STRANGE_MASK not in str(error):
                raise
            raise ValueError(
                "A mask of the training split has a value that the options do not name."
                " Name every value with --data.foreground, --data.background and"
                " --data.ignored."
            ) from error
        return {name: values.numpy() for name, values in logs.items()}

    def _read_clock(self, run: Run, timer: Timer, stop: StopOnSignal) -> bool:
        """Brings the times up to date; whether a signal came to this or any machine."""
        stops, is_interrupted, run.seconds = self._place.agree(
            bool(run.stop_reason), stop.received is not None, timer.seconds()
        )
        if stops and not run.stop_reason:
            run.stop("the first machine stopped")
        return is_interrupted

    def _batches(self, run: Run, share: Share) -> tf.data.Dataset:
        return run.data.train_batches(
            margin=run.task.margin,
            seed=self.options.seed,
            start_step=run.step,
            limit=self.options.limit_train,
            repeat_batches=self.options.overfit_batches,
            share=share,
        )

    def _ids_of_batch(self, run: Run, step: int) -> list[str]:
        return run.data.ids_of_batch(
            step,
            seed=self.options.seed,
            limit=self.options.limit_train,
            repeat_batches=self.options.overfit_batches,
        )

    def _start(
        self,
        task: SegmentationTask,
        data: SegmentationData,
        config: Mapping[str, Any] | None,
    ) -> Run:
        """Prepares the run folder; restores the last checkpoint if there is one."""
        data.check()
        self._check_batch_size(data.options.batch_size)
        architecture = task.model.to_json()  # Before the precision of training is set.
        predictor = Predictor(
            task.evaluation_model(),
            image_size=data.options.image_size,
            threshold=task.threshold,
        )
        with self.scope():
            task.set_precision(self.options.precision)
            task.build_optimizer()
        speed_up(task.model, on_cpu=self._place.is_cpu)
        task.accumulate = self.options.accumulate
        run = Run(
            directory=self.run_dir,
            task=task,
            data=data,
            predictor=predictor,
            options=self.options,
            batch_size=data.options.batch_size,
            steps_per_epoch=data.steps_per_epoch(self.options.limit_train),
            place=self._place.description,
        )
        with self.scope():
            self._restore(run)
            self._place.require_same_step(run.step)
        if not self._place.is_chief:
            return run
        # Only now, when nothing can be refused any more, may a file be replaced.
        self.run_dir.mkdir(parents=True, exist_ok=True)
        write_text(self.run_dir / ARCHITECTURE, architecture)
        write_config(
            self.run_dir,
            config,
            data=data.options,
            task=task.options,
            trainer=self.options,
        )
        return run

    def _finish(self, run: Run, stop: StopOnSignal) -> dict[str, float]:
        """Saves the last step and the model; scores it on all validation images."""
        limit = self.options.limit_eval if self.options.fast_dev_run else None
        run.task.copy_weights(run.predictor.model)
        self._choose_threshold(run, limit, stop)
        self._tell_saved(run, self._save(run, or_fail=True))
        if self._place.is_chief:
            write_model(self.run_dir / MODEL, run.predictor.model)
        scores = self._evaluate(run, limit, stop)
        if scores is None:
            raise Interrupted(run.step, stop.received)
        if self._place.is_chief:
            record = {
                **scores,
                "split": run.data.options.eval_split,
                "step": run.step,
                "seconds": run.seconds,
            }
            write_text(self.run_dir / METRICS, json.dumps(record, indent=1) + "\n")
        self._call("on_eval_end", run, scores)
        return scores

    def _validate(self, run: Run, timer: Timer, stop: StopOnSignal) -> None:
        """Chooses the threshold and scores; is broken off when a signal comes."""
        limit = self.options.limit_eval
        run.task.copy_weights(run.predictor.model)
        self._choose_threshold(run, limit, stop)
        scores = self._evaluate(run, limit, stop)
        run.seconds = timer.seconds()
        if scores is None:
            return
        run.evaluated_step = run.step
        self._call("on_eval_end", run, scores)

    def _choose_threshold(
        self, run: Run, limit: int | None, stop: StopOnSignal
    ) -> None:
        """The best on the held-out training images, unless the task has its own."""
        task = run.task
        if task.options.threshold is None and run.data.holdout_count():
            metrics = task.make_metrics()
            examples = self._until_signal(run.data.holdout_examples(limit), stop)
            evaluate(run.predictor, examples, step=task.eval_step, metrics=metrics)
            if not self._breaks_off(stop):
                task.threshold = metrics.curve.best_threshold()
        run.predictor.threshold = task.threshold

    def _evaluate(
        self, run: Run, limit: int | None, stop: StopOnSignal
    ) -> dict[str, float] | None:
        """Scores the evaluation model; every machine does, with the same result.

        None if a signal came meanwhile.
        """
        examples = run.data.examples(run.data.options.eval_split, limit)
        run.metrics = run.task.make_metrics()
        scores = evaluate(
            run.predictor,
            self._until_signal(examples, stop),
            step=run.task.eval_step,
            metrics=run.metrics,
        )
        return None if self._breaks_off(stop) else scores

    def _until_signal(
        self, examples: Iterator[Example], stop: StopOnSignal
    ) -> Iterator[Example]:
        return itertools.takewhile(lambda _: not self._breaks_off(stop), examples)

    def _breaks_off(self, stop: StopOnSignal) -> bool:
        """Whether a signal came that only this machine has to know of."""
        return stop.received is not None and self._place.share.workers == 1

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

    def _check_batch_size(self, batch_size: int) -> None:
        """Refuses a batch that does not go round the devices, or into the parts."""
        share = self._place.share
        first, last = share.of_batch(batch_size)
        pieces = share.replicas * self.options.accumulate
        if self.options.accumulate > 1 and (last - first) % pieces:
            raise ValueError(
                f"A batch of {batch_size} is {last - first} tiles on this machine,"
                f" which {share.replicas} devices cannot compute in"
                f" {self.options.accumulate} equal parts. Set --data.batch_size to a"
                f" multiple of {pieces * share.workers}, or --trainer.accumulate."
            )

    def _save(self, run: Run, *, or_fail: bool = False) -> pathlib.Path | None:
        """Writes a checkpoint. Without one a run goes on, unless it is the last."""
        require_finite_weights(run)
        state = {
            "step": run.step,
            "evaluated_step": run.evaluated_step,
            "seconds": run.seconds,
            "seconds_a_step": run.seconds_a_step,
            "task": run.task.state_dict(),
            "callbacks": {
                name: callback.state_dict()
                for name, callback in _named(self.callbacks).items()
            },
        }
        tracked = run.task.tracked()
        if not self._place.is_chief:
            # Saving reads every device, so all machines take part, and one keeps it.
            with tempfile.TemporaryDirectory() as elsewhere:
                tf.train.Checkpoint(**tracked).write(f"{elsewhere}/tensors")
            return None
        try:
            return self._checkpoints.save(run.step, tracked, state)
        except OSError as error:
            if or_fail:
                raise
            _LOG.warning("unet-train: %s Training goes on without it.", error)
            return None

    def _tell_saved(self, run: Run, path: pathlib.Path | None) -> None:
        if path is not None:
            self._call("on_checkpoint", run, path)

    def _restore(self, run: Run) -> None:
        """Goes on from the newest checkpoint that can be read, if there is one."""

        def warn(path: pathlib.Path, error: ValueError) -> None:
            damaged.append(path)
            _LOG.warning("unet-train: %s", error)

        damaged: list[pathlib.Path] = []
        state = self._checkpoints.restore_newest(run.task.tracked(), on_damaged=warn)
        if state is None:
            return
        if self._place.is_chief:
            for path in damaged:
                aside = self._checkpoints.set_aside(path)
                _LOG.warning("unet-train: it is now %s.", aside)
        run.step, run.seconds = state["step"], state["seconds"]
        run.seconds_a_step = state["seconds_a_step"]
        run.evaluated_step = state["evaluated_step"]
        run.task.load_state_dict(state["task"])
        run.predictor.threshold = run.task.threshold
        for name, callback in _named(self.callbacks).items():
            if (saved := state["callbacks"].get(name)) is not None:
                callback.load_state_dict(saved)

    def _call(self, hook: str, run: Run, *arguments: Any) -> None:
        if not self._place.is_chief:
            return
        for callback in self.callbacks:
            getattr(callback, hook)(run, *arguments)


def _named(callbacks: Sequence[Callback]) -> dict[str, Callback]:
    """Callbacks by class path; a second one of its class has "#2" behind it."""
    named: dict[str, Callback] = {}
    for callback in callbacks:
        path = f"{type(callback).__module__}.{type(callback).__qualname__}"
        name, number = path, 1
        while name in named:
            number += 1
            name = f"{path}#{number}"
        named[name] = callback
    return named
