"""Several machines that train one model together, each a worker that runs the same command.

Who they are is in TF_CONFIG, as cluster managers set it. The first worker is the chief: it alone writes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np
import tensorflow as tf

from pipelines import cluster, gathering
from pipelines.checkpoints import Checkpoints
from pipelines.cluster import Cluster
from pipelines.gathering import WorkersError

T = TypeVar("T")
_HEALTH = 5  # seconds between two looks for the other workers
_FILES = 60  # seconds after which a file that one machine has written is seen by all others
TESTED = {"keras": "3.15", "tensorflow": "2.21"}
_strategies: dict[Cluster, tf.distribute.Strategy] = {}  # at most one: a process joins once


class WorkerLost(WorkersError):
    """Another worker has ended, or cannot be reached any more; nothing can go on without it."""


def join(found: Cluster) -> tf.distribute.Strategy:
    """The strategy of a cluster, once all its workers are there. It is to be the first that TensorFlow does.

    Raises:
        WorkersError: TensorFlow has done something already, or this version was not tested.
        ValueError: the process belongs to another cluster.
    """
    if found in _strategies:
        return _strategies[found]
    if _strategies:
        raise ValueError(f"This process is {next(iter(_strategies))} and cannot be {found}.")
    _check_versions()
    gathering.check_port(found)
    if found.index == 0 or sys.stderr.isatty():
        print(f"Worker {found.index} waits for all of {', '.join(found.workers)}", file=sys.stderr, flush=True)
    spec = tf.train.ClusterSpec({"worker": found.workers})
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        spec, task_type="worker", task_id=found.index, rpc_layer="grpc"
    )
    try:
        with gathering.patience(found):
            strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except RuntimeError as error:
        raise WorkersError(
            "Workers join before TensorFlow does anything else. Call pipelines.hardware.begin first in the program."
        ) from error
    except tf.errors.OpError as error:
        raise WorkersError(
            f"Worker {found.index} cannot join {', '.join(found.others)}: {error.message}. Start all of them again, "
            "each with its own index."
        ) from error
    strategy.extended._check_health_interval = _HEALTH
    _strategies[found] = strategy
    return strategy


def joined() -> tf.distribute.Strategy | None:
    """The strategy of the cluster that this process is in, if it is in one."""
    return next(iter(_strategies.values()), None)


def train_together(model: keras.Model) -> bool:
    """Whether a model is one that all workers train."""
    strategy = joined()
    return strategy is not None and model.distribute_strategy is strategy


def is_chief() -> bool:
    """Whether this process writes what is to be written; on one machine it does."""
    return all(found.index == 0 for found in _strategies)


def wait() -> None:
    """Wait until all workers have come here: the chief has written what it writes."""
    any_of(())


def alone(action: Callable[[], T]) -> T:
    """Do something that the other workers do not, inside the scope of a strategy too.

    A variable made in that scope is one of all workers, and waited for: Keras makes some only to save weights. The
    scope is one of a thread.
    """
    if joined() is None:
        return action()
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(action).result()


def led(lead: Callable[[], T], follow: Callable[[], T]) -> T:
    """What the chief makes of the one, while the other workers wait, and they of the other."""
    if not is_chief():
        wait()
        return follow()
    made = lead()
    with contextlib.suppress(tf.errors.OpError):  # who was lost since is not needed any more
        wait()
    return made


def any_of(wishes: Sequence[bool]) -> tuple[bool, ...]:
    """Which of some wishes any worker has; all of them ask at the same time."""
    strategy = joined()
    if strategy is None:
        return tuple(wishes)
    return tuple(float(each) > 0 for each in _together(strategy, 0.0, *map(float, wishes))[1:])


def check_same(value: int | str, what: str) -> None:
    """Refuse to go on where workers disagree, such as on the step that they go on from.

    Raises:
        ValueError: not all have the same text, or number up to 16 million.
    """
    strategy = joined()
    if strategy is None:
        return
    told = f": it is {value} here" if isinstance(value, int) else ""
    number = value if isinstance(value, int) else int(hashlib.sha256(value.encode()).hexdigest()[:6], 16)
    replicas = strategy.num_replicas_in_sync
    total, squares = _together(strategy, float(number), float(number) ** 2)
    if total != number * replicas or squares != float(number) ** 2 * replicas:
        average = f" and {total / replicas:g} on average" if told else ""
        raise ValueError(
            f"The workers differ in {what}{told}{average}. All of them need the same command, data and folder."
        )


def check_shared(path: Path) -> None:
    """Refuse to go on where not all workers see a file that the chief has written.

    Raises:
        ValueError: one of them does not, for as long as a network's file system may take.
    """
    if joined() is None:
        return
    wait()
    end = time.monotonic() + _FILES
    while not path.is_file() and time.monotonic() < end:
        time.sleep(0.1)
        with contextlib.suppress(OSError):
            os.listdir(path.parent)  # has some file systems look anew
    if any_of([not path.is_file()])[0]:
        raise ValueError(
            f"'{path.parent}' is not the same folder for all workers: not all of them see what worker 0 writes there. "
            "Name one that all machines share."
        )


def _together(strategy: tf.distribute.Strategy, *numbers: float) -> np.ndarray:
    """The sums over all replicas."""
    return _adder(strategy)(tf.constant(numbers, tf.float64)).numpy()


@functools.cache
def _adder(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    """The sum over all replicas of what each worker gives to its own."""

    def add(values: tf.Tensor) -> tf.Tensor:
        return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(tf.identity, (values,)), axis=None)

    return tf.function(add)


def in_shares(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Batches of which each worker takes its part, whatever they are read from; the same on one machine."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.with_options(options)


@contextlib.contextmanager
def watched(folder: Path | None = None) -> Iterator[None]:
    """Inside, the loss of another worker ends this one with an error that says what to do.

    Raises:
        WorkerLost: another worker has ended.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if not _strategies or not _is_loss(error):
            raise
        gathering.end_in_time(error)
        found = next(iter(_strategies))
        one = "at least one of " if len(found.others) > 1 else ""
        began = folder is not None and (folder / "run.json").is_file()
        again = f" with: zoo resume {folder}{cluster.given()}" if began else "."
        raise WorkerLost(
            f"Worker {found.index} ({found.workers[found.index]}) cannot go on: {one}{', '.join(found.others)} has "
            f"ended or cannot be reached. The checkpoints so far are whole. Start all workers again{again}"
        ) from error


def _is_loss(error: tf.errors.OpError) -> bool:
    """Whether an error is that of a worker that does not answer, not one of this worker's own."""
    told = str(error)
    aborted = "Collective ops is aborted" in told and "expected type" not in told  # they do not do the same things
    return aborted or isinstance(
        error, tf.errors.UnavailableError | tf.errors.AbortedError | tf.errors.DeadlineExceededError
    )


class Follower(Checkpoints):
    """Checkpoints as a worker sees them that is not the chief: it reads them, and leaves the writing to the chief."""

    def save(self, arrays: Mapping[str, Any], state: Mapping[str, Any], *, best: Any = None, stay: Any = ()) -> Path:
        """Nothing."""
        return self.folder

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Nothing: the chief has it."""
        yield


def checkpoints(folder: Path) -> Checkpoints:
    """Those of a folder that all workers see, written by the chief alone."""
    return Checkpoints(folder) if is_chief() else Follower(folder)


def _check_versions() -> None:
    found = {"keras": keras.__version__, "tensorflow": tf.__version__}
    other = {name: version for name, version in found.items() if not version.startswith(TESTED[name] + ".")}
    if other:
        tested = " and ".join(f"{name} {version}" for name, version in TESTED.items())
        raise WorkersError(
            f"Several workers were tested with {tested}, not with "
            f"{' and '.join(f'{name} {version}' for name, version in other.items())}. Install those, or train on one "
            "machine."
        )
