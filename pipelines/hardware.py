"""What a run computes on: the distribution strategy and the dtype policy, as one scope."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf

from pipelines import cluster, workers
from pipelines.run import Hardware

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def begin(hardware: Hardware) -> None:
    """Join the other workers, if there are any: before TensorFlow does anything else.

    Raises:
        ValueError: there are to be several workers, and TF_CONFIG does not say which, or names what cannot be.
        WorkersError: TensorFlow has begun already, or this version was not tested with several workers.
    """
    found = cluster.cluster()
    if found is not None and hardware.strategy in ("auto", "multi_worker"):
        workers.join(found)
    elif found is not None and cluster.given():
        raise ValueError(
            f"The run has Hardware(strategy={hardware.strategy!r}), which is for one machine, and --workers names "
            f"{len(found.workers)}. Leave --workers out, or write 'auto' in its run.json."
        )
    elif hardware.strategy == "multi_worker":
        raise ValueError(
            "Hardware(strategy='multi_worker') needs the addresses of at least two workers: give --workers "
            "host1:port,host2:port and --index 0, or set TF_CONFIG."
        )


def seed(hardware: Hardware, number: int) -> None:
    """From here on the random numbers are those of a seed, and what is computed has the same digits each time.

    Where the hardware need not be deterministic, sums may come in any order. TensorFlow knows no way back: in a
    process in which something was deterministic, all that follows is.
    """
    keras.utils.set_random_seed(number)
    if hardware.deterministic:
        tf.config.experimental.enable_op_determinism()


@contextlib.contextmanager
def scope(hardware: Hardware) -> Iterator[tf.distribute.Strategy]:
    """Models built inside live on the hardware's devices and compute in its precision."""
    strategy = choose_strategy(hardware)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(POLICIES[precision(hardware)])
    try:
        with strategy.scope():
            yield strategy
    finally:
        keras.config.set_dtype_policy(before)


def choose_strategy(hardware: Hardware) -> tf.distribute.Strategy:
    """The workers of a cluster, MirroredStrategy over several visible devices, or one device.

    The devices are GPUs, or logical CPU devices where there is no GPU.
    """
    begin(hardware)
    joined = workers.joined()
    if joined is not None and hardware.strategy in ("auto", "multi_worker"):
        return joined
    names = devices()
    if hardware.strategy == "mirrored" or (hardware.strategy == "auto" and len(names) > 1):
        return _mirrored(tuple(names))
    return tf.distribute.get_strategy()


@functools.cache
def _mirrored(names: tuple[str, ...]) -> tf.distribute.Strategy:
    """One for a whole process: the collectives of a second one take the places of the first one's, and fail.

    It would follow TF_CONFIG to other machines, were there one.
    """
    config = os.environ.pop("TF_CONFIG", None)
    try:
        return tf.distribute.MirroredStrategy(names)
    finally:
        if config is not None:
            os.environ["TF_CONFIG"] = config


def devices() -> list[str]:
    """The names of the visible GPUs, or of the logical CPU devices where there is none."""
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name for device in found]


def precision(hardware: Hardware) -> str:
    """The precision that is meant: with "auto", the fastest that all visible devices have."""
    if hardware.precision != "auto":
        return hardware.precision
    return usual_precision([details.get("compute_capability") for details in _gpus()])


def usual_precision(capabilities: Sequence[tuple[int, int] | None]) -> str:
    """bfloat16 where all GPUs have it, from compute capability 8 on; float16 on older ones; float32 on the CPU.

    A GPU whose capability is unknown counts as one that has neither.
    """
    if not capabilities or None in capabilities:
        return "float32"
    return "bfloat16" if all(each is not None and each[0] >= 8 for each in capabilities) else "float16"


def describe(strategy: tf.distribute.Strategy, hardware: Hardware, *, batch: int | None = None) -> str:
    """One phrase for reports: '2 x CPU, mirrored, bfloat16, batch of 32 in 4 micro-batches each'."""
    names = sorted({str(details.get("device_name", "GPU")) for details in _gpus()})
    parts = [f"{strategy.num_replicas_in_sync} x {' and '.join(names) or 'CPU'}"]
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        parts.append(f"{strategy.extended._num_workers} workers")
    elif isinstance(strategy, tf.distribute.MirroredStrategy):
        parts.append("mirrored")
    parts.append(precision(hardware))
    if not hardware.deterministic:
        parts.append("not deterministic")
    if batch is not None:
        micro = f" in {hardware.accumulate} micro-batches each" if hardware.accumulate > 1 else ""
        parts.append(f"batch of {batch}{micro}")
    return ", ".join(parts)


def _gpus() -> list[dict[str, object]]:
    """What is known of the visible GPUs."""
    return [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.get_visible_devices("GPU")]
