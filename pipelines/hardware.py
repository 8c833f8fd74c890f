"""What a run computes on: the distribution strategy and the dtype policy, as one scope."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

from pipelines.run import Hardware

_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


@contextlib.contextmanager
def scope(hardware: Hardware) -> Iterator[tf.distribute.Strategy]:
    """Models built inside live on the hardware's devices and compute in its precision."""
    strategy = choose_strategy(hardware)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(_POLICIES[hardware.precision])
    try:
        with strategy.scope():
            yield strategy
    finally:
        keras.config.set_dtype_policy(before)


def choose_strategy(hardware: Hardware) -> tf.distribute.Strategy:
    """One device, or MirroredStrategy over all visible GPUs (over logical CPU devices where there is no GPU)."""
    names = devices()
    if hardware.strategy == "mirrored" or (hardware.strategy == "auto" and len(names) > 1):
        return tf.distribute.MirroredStrategy(names)
    return tf.distribute.get_strategy()


def devices() -> list[str]:
    """The names of the visible GPUs, or of the logical CPU devices where there is none."""
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name for device in found]


def describe(strategy: tf.distribute.Strategy, hardware: Hardware) -> str:
    """One phrase for reports: '2 x CPU, mirrored, bfloat16'."""
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    replicas = strategy.num_replicas_in_sync
    mirrored = ", mirrored" if isinstance(strategy, tf.distribute.MirroredStrategy) else ""
    return f"{replicas} x {kind}{mirrored}, {hardware.precision}"
