"""Several machines that train one model together, each a worker that runs the same command.

Who they are is in TF_CONFIG, as cluster managers set it. The first worker is the chief: it alone writes.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from pipelines.checkpoints import Checkpoints

PATIENCE = 600  # seconds for all workers to come, unless ZOO_WORKERS_WAIT says another number
TESTED = {"keras": "3.15", "tensorflow": "2.21"}
_WATCH = """
import os, signal, sys, time
parent, seconds, told = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
end = time.monotonic() + seconds
while os.getppid() == parent:
    if time.monotonic() > end:
        print(told, file=sys.stderr, flush=True)
        os.kill(parent, signal.SIGKILL)
        break
    time.sleep(0.2)
"""  # ends the process that began it
_strategies: dict[Cluster, tf.distribute.Strategy] = {}  # at most one: a process joins once


class WorkersError(OSError):
    """Workers cannot train together here."""


class WorkerLost(WorkersError):
    """Another worker has ended, or cannot be reached any more; nothing can go on without it."""


@dataclass(frozen=True)
class Cluster:
    """The addresses of all workers, the same everywhere and in the same order, and which of them this process is.

    Raises:
        ValueError: an address is no host:port or is there twice, or the index is not one of them.
    """

    workers: tuple[str, ...]
    index: int

    def __post_init__(self) -> None:
        for address in self.workers:
            host, _, port = address.rpartition(":")
            if not host or not port.isdigit():
                raise ValueError(f"A worker's address is host:port, such as machine1:2222, got {address!r}.")
        if len(set(self.workers)) < len(self.workers):
            raise ValueError(f"A worker's address is there twice: {', '.join(self.workers)}.")
        if not 0 <= self.index < len(self.workers):
            raise ValueError(
                f"Worker {self.index} of {len(self.workers)}: the index counts from 0 to {len(self.workers) - 1}."
            )

    def to_json(self) -> str:
        """As TF_CONFIG."""
        return json.dumps({"cluster": {"worker": self.workers}, "task": {"type": "worker", "index": self.index}})


def configure(workers: Sequence[str], index: int) -> None:
    """Set TF_CONFIG for this process, as a cluster manager would have.

    Raises:
        ValueError: as Cluster, or TF_CONFIG is set to another cluster already.
    """
    wanted, known = Cluster(tuple(workers), index), cluster()
    if known not in (None, wanted):
        raise ValueError(f"TF_CONFIG says {known}, the options {wanted}. Give only one of them.")
    os.environ["TF_CONFIG"] = wanted.to_json()


def cluster() -> Cluster | None:
    """What TF_CONFIG says; None where there is one worker or no TF_CONFIG. A "chief" in it is the first worker.

    Raises:
        ValueError: it cannot be understood, or has tasks that are not for training in step.
    """
    text = os.environ.get("TF_CONFIG", "")
    if not text.strip():
        return None
    try:
        found = json.loads(text)
        if found == {}:
            return None
        jobs: Mapping[str, Sequence[str]] = found["cluster"]
        kind, index = found["task"]["type"], int(found["task"]["index"])
        chiefs, others = tuple(jobs.get("chief", ())), tuple(jobs.get("worker", ()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'TF_CONFIG={text!r} is not {{"cluster": {{"worker": [addresses]}}, "task": {{"type": "worker", '
            f'"index": 0}}}}: {type(error).__name__} {error}.'
        ) from None
    if kind not in ("chief", "worker") or set(jobs) - {"chief", "worker", "evaluator"}:
        raise ValueError(
            f"TF_CONFIG is of a {kind!r} among {', '.join(jobs)}; workers that train in step are only 'chief' and "
            "'worker'. There are no parameter servers and evaluators."
        )
    workers = Cluster((*chiefs, *others), index + (len(chiefs) if kind == "worker" else 0))
    return workers if len(workers.workers) > 1 else None


def join(found: Cluster) -> tf.distribute.Strategy:
    """The strategy of a cluster, once all its workers are there. It is to be the first that TensorFlow does.

    Raises:
        WorkersError: TensorFlow has done something already, or this version was not tested.
        ValueError: the process belongs to another cluster.
    """
    if found in _strategies:
        return _strategies[found]
    if _strategies:
        raise ValueError(f"This process has joined {next(iter(_strategies))} and cannot join {found}.")
    _check_versions()
    if found.index == 0 or sys.stderr.isatty():
        print(f"Worker {found.index} waits for all of {', '.join(found.workers)}", file=sys.stderr, flush=True)
    spec = tf.train.ClusterSpec({"worker": found.workers})
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        spec, task_type="worker", task_id=found.index, rpc_layer="grpc"
    )
    try:
        with _patience(found):
            strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except RuntimeError as error:
        raise WorkersError(
            "Workers join before TensorFlow does anything else. Call pipelines.hardware.begin first in the program."
        ) from error
    _strategies[found] = strategy
    return strategy


@contextlib.contextmanager
def _patience(found: Cluster) -> Iterator[None]:
    """Inside, this process is ended after so long.

    TensorFlow itself waits for the others for ever, in C++ and with Python's lock held: no thread and no signal
    handler of this process can end it.
    """
    seconds = float(os.environ.get("ZOO_WORKERS_WAIT", PATIENCE))
    told = f"error: Worker {found.index}: not all of {', '.join(found.workers)} came in {seconds:g} s."
    command = [sys.executable, "-I", "-c", _WATCH, str(os.getpid()), str(seconds), told]
    watch = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        watch.kill()
        watch.wait()


def joined() -> tf.distribute.Strategy | None:
    """The strategy of the cluster that this process is in, if it is in one."""
    return next(iter(_strategies.values()), None)


def is_chief() -> bool:
    """Whether this process writes what is to be written; on one machine it does."""
    return all(found.index == 0 for found in _strategies)


def wait() -> None:
    """Wait until all workers have come here: the chief has written what it writes."""
    strategy = joined()
    if strategy is not None:
        _together(strategy, 0.0)


def check_same(number: int, what: str) -> None:
    """Refuse to go on where workers disagree on a number, such as the step that they go on from.

    Raises:
        ValueError: not all have the same, up to 16 million.
    """
    strategy = joined()
    if strategy is None:
        return
    replicas = strategy.num_replicas_in_sync
    total, squares = _together(strategy, float(number)), _together(strategy, float(number) ** 2)
    if total != number * replicas or squares != float(number) ** 2 * replicas:
        raise ValueError(
            f"The workers differ in {what}: it is {number} here and {total / replicas:g} on average. All of them need "
            "the same command, data and folder."
        )


def _together(strategy: tf.distribute.Strategy, number: float) -> float:
    """The sum over all replicas."""
    found = strategy.run(tf.function(lambda: tf.constant(number, tf.float64)))
    return float(strategy.reduce(tf.distribute.ReduceOp.SUM, found, axis=None))


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
        found = next(iter(_strategies))
        others = [address for index, address in enumerate(found.workers) if index != found.index]
        again = f" with: zoo resume {folder}" if folder else ""
        raise WorkerLost(
            f"Worker {found.index} ({found.workers[found.index]}) cannot go on: of {', '.join(others)} at least one "
            f"has ended or cannot be reached. The checkpoints so far are whole. Start all workers again{again}."
        ) from error


def _is_loss(error: tf.errors.OpError) -> bool:
    """Whether an error is that of a worker that does not answer, not one of this worker's own."""
    told = str(error)
    return "Collective ops is aborted" in told or isinstance(
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
