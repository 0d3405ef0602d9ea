"""Where the computation takes place, and what it may use there.

```python
place = configure(TrainerOptions(max_steps=100, strategy="mirrored"))
with place.strategy.scope():
    model = build_unet()
```
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pickle
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from unet_train.data.share import Share
from unet_train.options import Strategy, TrainerOptions

if TYPE_CHECKING:
    from unet_train.task.segmentation import SegmentationTask


@dataclasses.dataclass(frozen=True)
class Place:
    """The devices of a run, and which machine this is.

    Attributes:
      strategy: TensorFlow's; variables are made within its scope.
      share: Which part of each batch this machine reads.
      is_cpu: Whether it is on one.
      description: One line for people.
    """

    strategy: tf.distribute.Strategy
    share: Share
    is_cpu: bool
    description: str

    @property
    def is_chief(self) -> bool:
        """Whether this machine is the one that writes."""
        return self.share.worker == 0

    @property
    def is_spread(self) -> bool:
        """Whether there are several devices, which must exchange what they compute."""
        return self.share.is_spread

    def check(self, task: SegmentationTask, options: TrainerOptions) -> None:
        """Refuses what cannot be exchanged between devices or machines.

        Raises:
          ValueError: There is a norm over all devices within what is compiled, or
            within a loop; or what a validation counts into does not go to others.
        """
        if self.share.workers > 1:
            try:
                pickle.dumps([task.make_calibration(), task.make_scores()])
            except Exception as error:
                raise ValueError(
                    "Of several machines each tells the others what it counted, and"
                    f" what the task counts into cannot be sent: {error}. Give it a"
                    " `__getstate__` that leaves out what `merge` does not need."
                ) from error
        within = [
            name
            for name, is_set in (
                ("jit_compile", options.compiles),
                ("accumulate", options.accumulate > 1),
            )
            if is_set
        ]
        norms = [each.name for each in task.model.layers if _is_over_all_devices(each)]
        if self.is_spread and within and norms:
            raise ValueError(
                f"`--trainer.{within[0]}` on several devices does not go with the norm"
                f" of {norms[0]!r}, which takes its statistics over all of them. Leave"
                " it out, or use another norm, such as `--model.norm group`."
            )

    def iterate(self, batches: Callable[[Share], tf.data.Dataset]) -> Iterator[Any]:
        """An iterator whose elements are spread over the devices of this machine.

        Args:
          batches: Gives a share of the batches, without end.
        """
        # Without its word that it has no end, machines ask each other before each step
        # whether all have a batch.
        endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        return iter(
            self.strategy.distribute_datasets_from_function(
                lambda _: batches(self.share).apply(endless)
            )
        )

    def agree(
        self, stops: bool, is_interrupted: bool, seconds: float
    ) -> tuple[bool, bool, float]:
        """Has all machines stop together, by the clock of the first.

        Args:
          stops: Whether this machine has a reason to stop.
          is_interrupted: Whether it got a signal.
          seconds: On its clock.

        Returns:
          Whether any has a reason, whether any got a signal, the seconds of the first.
        """
        if self.share.workers == 1:
            return stops, is_interrupted, seconds
        seconds = seconds if self.is_chief else 0.0
        total = self._sum(np.array([stops, is_interrupted, seconds], np.float64))
        return bool(total[0] > 0), bool(total[1] > 0), float(total[2])

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices of this machine among which it shares out what it predicts.

        None where there is one, or a TPU, on which nothing is predicted.
        """
        is_tpu = isinstance(self.strategy, tf.distribute.TPUStrategy)
        if self.share.replicas == 1 or is_tpu:
            return ()
        return tuple(self.strategy.extended.worker_devices)

    def gather(self, told: bytes) -> list[bytes]:
        """What each machine tells, on all of them, in the order of the machines."""
        lengths = self._sum(self._row(len(told), 1))[:, 0].astype(int)
        padded = np.zeros(lengths.max(), np.uint8)
        padded[: len(told)] = np.frombuffer(told, np.uint8)
        every = self._sum(self._row(padded, len(padded))).astype(np.uint8)
        return [row[:n].tobytes() for row, n in zip(every, lengths, strict=True)]

    def _row(self, values: Any, columns: int) -> npt.NDArray[np.float64]:
        """Zeros for the other machines, [machines, columns]."""
        rows = np.zeros((self.share.workers, columns))
        rows[self.share.worker] = values
        return rows

    def _sum(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The sum over machines; whole numbers stay exact."""
        told = tf.constant(values)

        def sum_up() -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            is_first = context.replica_id_in_sync_group % self.share.replicas == 0
            mine = told if is_first else tf.zeros_like(told)
            return context.all_reduce(tf.distribute.ReduceOp.SUM, mine)

        every = self.strategy.experimental_local_results(self.strategy.run(sum_up))
        return np.asarray(every[0])

    def of_first(self, number: float) -> float:
        """The number that the first machine gives, on all of them."""
        return self.agree(False, False, number)[2]

    def require_same_step(self, step: int) -> None:
        """Refuses to go on if the machines restored different checkpoints.

        Raises:
          RuntimeError: They did.
        """
        if self.share.workers == 1:
            return
        of_first = round(self.of_first(step))
        differs, _, _ = self.agree(step != of_first, False, 0.0)
        if differs:
            raise RuntimeError(
                "The machines would go on from different checkpoints: this one at step"
                f" {step}, the first at step {of_first}. Give a --run_dir on a file"
                " system that all machines share."
            )


def configure(options: TrainerOptions) -> Place:
    """Sets TensorFlow up before anything is placed on a device.

    Memory on a GPU grows as needed instead of being taken whole.

    Args:
      options: Device, strategy, seed, determinism and placement logging are read.

    Raises:
      RuntimeError: A GPU was insisted on and TensorFlow sees none; a strategy does not
        find what it needs.
    """
    gpus = let_gpus_grow()
    if options.device == "gpu" and not gpus:
        raise RuntimeError(
            "`--trainer.device gpu`, but TensorFlow sees no GPU. Install the driver and"
            " `pip install 'unet_train[cuda]'`, or use `--trainer.device auto`."
        )
    if options.device == "cpu" and gpus:
        tf.config.set_visible_devices([], "GPU")
        gpus = []
    strategy, share = _make_strategy(options.strategy, gpus)
    keras.utils.set_random_seed(options.seed)
    if options.deterministic:
        tf.config.experimental.enable_op_determinism()
    tf.debugging.set_log_device_placement(options.log_device_placement)

    devices = f"GPU: {_gpu_name(gpus[0])}" if gpus else "CPU"
    count = strategy.num_replicas_in_sync
    if count > 1:
        machines = f" on {share.workers} machines" if share.workers > 1 else ""
        devices = f"{count} devices{machines}, {devices}"
    description = f"Training on {devices}"
    is_cpu = not gpus and not isinstance(strategy, tf.distribute.TPUStrategy)
    return Place(strategy, share, is_cpu, description)


def let_gpus_grow() -> list[tf.config.PhysicalDevice]:
    """The GPUs that TensorFlow may use, set to take memory only as they need it."""
    gpus = tf.config.get_visible_devices("GPU")
    for gpu in gpus:
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:
            # In use already, by code that ran before us in this process; its setting
            # stands.
            break
    return list(gpus)


def _make_strategy(
    name: Strategy, gpus: list[Any]
) -> tuple[tf.distribute.Strategy, Share]:
    """TensorFlow's strategy, and this machine's share of each batch."""
    machines = _machines()
    if name == "auto":
        if len(machines) > 1:
            name = "multi_worker"
        elif tf.config.list_physical_devices("TPU"):
            name = "tpu"
        else:
            name = "mirrored" if len(gpus) > 1 else "none"
    if name == "none":
        return tf.distribute.get_strategy(), Share()
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU" if gpus else "CPU")
        strategy = _mirrored(*(device.name for device in devices))
        return strategy, Share(replicas=strategy.num_replicas_in_sync)
    if name == "tpu":
        return _make_tpu_strategy()
    if not machines:
        raise RuntimeError(
            "`--trainer.strategy multi_worker`, but TF_CONFIG names no cluster. Set it"
            " on every machine (docs/distributed.md), or use `mirrored`."
        )
    # Before anything else touches TensorFlow: it starts the connections.
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    resolver = strategy.cluster_resolver
    worker = machines.index((resolver.task_type, resolver.task_id))
    replicas = strategy.num_replicas_in_sync // len(machines)
    return strategy, Share(workers=len(machines), worker=worker, replicas=replicas)


@functools.cache
def _mirrored(*devices: str) -> tf.distribute.MirroredStrategy:
    """The one strategy of these devices.

    Each would number its exchanges between devices from the same number on, and those
    of a second run in a process would be taken for those of the first.
    """
    return tf.distribute.MirroredStrategy(devices)


def _make_tpu_strategy() -> tuple[tf.distribute.Strategy, Share]:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, KeyError, tf.errors.OpError) as error:
        raise RuntimeError(
            f"`--trainer.strategy tpu`, but TensorFlow finds none: {error}. Run on a"
            " TPU machine with a TensorFlow for it, or use `--trainer.strategy auto`."
        ) from error
    strategy = tf.distribute.TPUStrategy(resolver)
    return strategy, Share(replicas=strategy.num_replicas_in_sync)


def _machines() -> list[tuple[str, int]]:
    """The machines that TF_CONFIG names for training, the one that writes first.

    Raises:
      RuntimeError: TF_CONFIG is no JSON object.
    """
    text = os.environ.get("TF_CONFIG", "{}")
    try:
        cluster = json.loads(text).get("cluster", {})
        return [
            (kind, number)
            for kind in ("chief", "worker")
            for number in range(len(cluster.get(kind, [])))
        ]
    except (ValueError, AttributeError, TypeError) as error:
        raise RuntimeError(
            f"TF_CONFIG cannot be read ({error}): {text!r}. It must be JSON like"
            ' {"cluster": {"worker": ["host:port", ...]},'
            ' "task": {"type": "worker", "index": 0}}.'
        ) from error


def _is_over_all_devices(layer: keras.Layer) -> bool:
    return getattr(layer, "synchronized", False)


def _gpu_name(gpu: tf.config.PhysicalDevice) -> str:
    details = tf.config.experimental.get_device_details(gpu)
    return str(details.get("device_name", gpu.name))
