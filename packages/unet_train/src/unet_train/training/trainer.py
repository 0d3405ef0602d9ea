"""The outer loop: train some steps, validate, save, tell the callbacks."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from typing import Any

import numpy as np
import tensorflow as tf

from unet_train.data.labels import explained
from unet_train.data.source import SegmentationData
from unet_train.inference.on_device import on_each
from unet_train.options import TrainerOptions
from unet_train.runs.folder import (
    ARCHITECTURE,
    METRICS,
    MODEL,
    origin_of,
    save_aside,
    write_config,
    write_text,
)
from unet_train.task.layers import speed_up
from unet_train.task.replicas import draw_apart
from unet_train.task.segmentation import SegmentationTask
from unet_train.task.warm_start import start_from
from unet_train.training import devices
from unet_train.training.callback import Callback, check_hooks
from unet_train.training.loop import make_train_loop
from unet_train.training.mirror import working_folder
from unet_train.training.precision import settle_precision
from unet_train.training.run import (
    Agenda,
    Run,
    require_finite_losses,
    require_finite_weights,
)
from unet_train.training.saving import Saver
from unet_train.training.signals import Interrupted, StopOnSignal
from unet_train.training.timer import Timer
from unet_train.training.validation import Validation
from unet_train.training.xla import explain_uncompiled, is_compiled


class Trainer:
    """Trains a task on data, in a run folder.

    Attributes:
      run_dir: Where configuration, checkpoints, logs and the model go.
      options: How long and on what to train.
      callbacks: Who is told.

    Make it before the model: it sets seed and devices.

    Example:
      ```python
      trainer = Trainer("runs/new", max_steps=2)
      with trainer.scope():
          task = SegmentationTask(build_unet(UNetConfig(depth=2, base_filters=4)))
      scores = trainer.fit(task, SegmentationData(data_dir="OUT", tile_size=92))
      ```
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
          run_dir: The run folder, made if need be. For an address (`gs://`) it is a
            folder of this machine, copied from there and, as it grows, back.
          callbacks: Called at each hook in this order, on the first machine only.
          clock: Seconds from any start.
          **options: Fields of `TrainerOptions`.

        Raises:
          ValueError: An impossible option, or a callback with an unknown hook.
          OSError: An address that cannot be read.
          RuntimeError: The devices asked for are not there.
        """
        self.run_dir, mirrors = working_folder(run_dir)
        self._address = os.fspath(run_dir) if mirrors else ""
        self.options = TrainerOptions(**options)
        if self.options.fast_dev_run:
            self.run_dir = self.run_dir / "fast_dev_run"
            self.options = self.options.shortened()
        self.callbacks = [*callbacks, *mirrors]
        for callback in self.callbacks:
            check_hooks(callback)
        self._clock = clock
        self._place = devices.configure(self.options)
        keep = self.options.keep_checkpoints
        self._saver = Saver(
            self.run_dir, keep=keep, callbacks=self.callbacks, place=self._place
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
        init_from: str | os.PathLike[str] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> dict[str, float]:
        """Trains until the budget is spent, and leaves a model and its scores.

        Args:
          task: What to learn; its model's weights are changed.
          data: What to learn from.
          resume: Go on from the last checkpoint in the run folder, if there is one.
          init_from: A run, a folder with `model.keras`, or such a file: every weight of
            it that fits is taken at the start. A checkpoint to go on from counts for
            more.
          config: What `config.yaml` gets beside the options of task, data and trainer.

        Returns:
          The scores on all validation images, as in `metrics.json`.

        Raises:
          ValueError: The run folder holds a run and `resume` is not set; checkpoint,
            tile size, classes or a norm do not fit; a split or its masks are no such;
            no weight of `init_from` fits; XLA cannot compile the steps.
          FloatingPointError: The loss is no longer finite.
          Interrupted: By SIGTERM or SIGINT, after the step was finished and saved.
        """
        if self.options.fast_dev_run and self._place.is_chief:
            shutil.rmtree(self.run_dir, ignore_errors=True)
        self._saver.refuse_to_overwrite(self._address, resume=resume)
        task.check_tile_size(data.options.tile_size)
        task.name_classes(data.options.class_names)
        run = self._start(task, data, init_from, config)
        with StopOnSignal() as stop, self.scope(), closing(self._saver):
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
            run.train_step,
            task.log_names,
            strategy=self._place.strategy,
            after_step=task.after_step,
            # Machines must not stop one by one; they agree after each round.
            stop=stop.variable if self._place.share.workers == 1 else None,
            jit_compile=self._compiles and not self._place.is_spread,
        )
        batches = self._place.iterate(run.batches)
        if agenda.eval_is_due(run):
            self._validate(run, timer, stop)  # The run was stopped just before it.
        self._agree(run, timer, stop)
        while not agenda.is_over(run):
            run.horizon = agenda.horizon(run)
            task.schedule.horizon.assign(run.horizon)
            logs = self._run_steps(train_loop, batches, agenda.steps(run))
            run.step += len(logs["loss"])
            self._agree(run, timer, stop)
            run.seconds_a_step = timer.seconds_a_step(run.step, run.seconds)
            require_finite_losses(logs["loss"], run, run.ids_of_batch)
            self._call("on_loop_end", run, logs)
            self._tell_saved(run)
            is_interrupted = self._agree(run, timer, stop)
            # Who takes a machine away does not wait for a validation.
            if agenda.eval_is_due(run) and not is_interrupted:
                self._validate(run, timer, stop)
                is_interrupted = self._agree(run, timer, stop)
            if is_interrupted:
                self._saver.save(run)
                self._tell_saved(run)
                raise Interrupted(run.step, stop.received)
            if agenda.checkpoint_is_due(run):
                self._saver.begin(run)
                self._agree(run, timer, stop)

    def _run_steps(
        self, train_loop: Any, batches: Any, steps: int
    ) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
        """A round of steps; the logs of those that were done."""
        try:
            _, logs = train_loop(batches, tf.constant(steps))
        except tf.errors.OpError as error:
            raise explained(explain_uncompiled(error)) from error
        return {name: values.numpy() for name, values in logs.items()}

    def _agree(self, run: Run, timer: Timer, stop: StopOnSignal) -> bool:
        """Has all machines agree on the time and on a stop; whether a signal came."""
        told = bool(run.stop_reason), stop.received is not None, timer.seconds()
        stops, is_interrupted, run.seconds = self._place.agree(*told)
        if stops and not run.stop_reason:
            run.stop("the first machine stopped")
        return is_interrupted

    def _start(
        self,
        task: SegmentationTask,
        data: SegmentationData,
        init_from: str | os.PathLike[str] | None,
        config: Mapping[str, Any] | None,
    ) -> Run:
        """Prepares the run folder; restores the last checkpoint if there is one."""
        place, size = self._place, data.options.prediction_size
        self._compiles = is_compiled(
            self.options, task.model, on_cpu=place.is_cpu, share=place.share
        )
        data.check()
        place.share.check_batch(data.options.batch_size, parts=self.options.accumulate)
        place.check(task, self.options)
        # Both before the precision of training is set.
        architecture = task.model.to_json()
        self._predictors = on_each(
            place.devices, lambda _: task.make_predictor(image_size=size)
        )
        task.accumulate = self.options.accumulate
        task.compiles_gradients = self._compiles and place.is_spread
        speed_up(task.model, on_cpu=place.is_cpu)
        with self.scope():
            choice = settle_precision(
                self.options, task, data, place=place, run_dir=self.run_dir
            )
            task.build_optimizer()
        self.options = dataclasses.replace(self.options, precision=choice.precision)
        run = Run(
            directory=self.run_dir,
            address=self._address,
            task=task,
            data=data,
            predictor=self._predictors[0].predictor,
            options=self.options,
            batch_size=data.options.batch_size,
            steps_per_epoch=data.steps_per_epoch(self.options.limit_train),
            place=f"{place.description}, {choice}" + ", XLA" * self._compiles,
        )
        with self.scope():
            if not self._saver.is_new:
                init_from = origin_of(self.run_dir)
            elif init_from is not None:
                run.origin = str(start_from(task, init_from))
            origin = {} if init_from is None else {"init_from": os.fspath(init_from)}
            self._saver.restore(run)
            place.require_same_step(run.step)
            draw_apart(task.tracked().get("seeds", []))
        if not place.is_chief:
            return run
        # Only now, when nothing can be refused any more, may a file be replaced.
        self.run_dir.mkdir(parents=True, exist_ok=True)
        write_text(self.run_dir / ARCHITECTURE, architecture)
        options = {"data": data.options, "task": task.options, "trainer": self.options}
        write_config(self.run_dir, {**(config or {}), **origin}, **options)
        return run

    def _finish(self, run: Run, stop: StopOnSignal) -> dict[str, Any]:
        """Leaves the model, the last step, and the scores on all validation images."""
        require_finite_weights(run)
        limit = self.options.limit_eval if self.options.fast_dev_run else None
        validation = Validation(run, self._place, self._predictors, stop)
        validation.prepare(limit)
        unwritten = self._saver.unwritten()
        model, aside = self.run_dir / MODEL, None
        # The model first: on a full disk it is worth more than another checkpoint. A
        # run that is killed before that is written goes on as if there were no model.
        with unwritten.noting(MODEL):
            if self._place.is_chief:
                aside = save_aside(model, run.predictor.model)
        with unwritten.noting("the last checkpoint"):
            self._saver.save(run)
        self._tell_saved(run)
        if aside is not None:
            aside.replace(model)
        scored = validation.score(limit, compare_on=self.options.limit_eval)
        if scored is None:
            raise Interrupted(run.step, stop.received)
        record = {**scored.scores, **run.predictor.settings, "images": scored.images}
        run.evaluated_images, run.final_scores = scored.comparable_images, record
        with unwritten.noting(METRICS):
            if self._place.is_chief:
                about = {"split": run.data.eval_split, "step": run.step}
                text = json.dumps({**record, **about, "seconds": run.seconds}, indent=1)
                write_text(self.run_dir / METRICS, text + "\n")
        self._call("on_eval_end", run, scored.comparable)
        unwritten.raise_if_any()
        return record

    def _validate(self, run: Run, timer: Timer, stop: StopOnSignal) -> None:
        """Scores the present weights; is broken off when a signal comes."""
        validation = Validation(run, self._place, self._predictors, stop)
        validation.prepare(self.options.limit_eval)
        scored = validation.score(self.options.limit_eval)
        run.seconds = timer.seconds()
        if scored is None:
            return
        run.evaluated_step, run.evaluated_images = run.step, scored.images
        self._call("on_eval_end", run, scored.scores)

    def _tell_saved(self, run: Run) -> None:
        for path in self._saver.completed():
            self._call("on_checkpoint", run, path)

    def _call(self, hook: str, run: Run, *arguments: Any) -> None:
        if not self._place.is_chief:
            return
        for callback in self.callbacks:
            getattr(callback, hook)(run, *arguments)
