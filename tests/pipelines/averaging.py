"""Trains the toy model with a moving average on one and on two logical CPU devices: a program for a child process.

A failed collective poisons its process, so several devices are tested in processes of their own.
"""

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from pipelines import hardware, optimizer
from pipelines.ema import MovingAverage
from pipelines.engine import Engine
from pipelines.freezing import Freezer, find_groups
from pipelines.objectives.losses import CrossEntropy
from pipelines.optimization import Optimization
from pipelines.run import Hardware, Phase
from tests.pipelines import toy

PHASES = (Phase(1, 1e-2, unfreeze=2), Phase(1, 1e-2, unfreeze="all", layer_decay=0.5))
CHOSEN = Optimization(optimizer="adamw", weight_decay=0.05, schedule="one_cycle", ema=0.9)


def main(target: Path) -> None:
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    np.savez(target, **train(Hardware("one"), "one"), **train(Hardware("mirrored"), "two"))


def train(devices: Hardware, name: str) -> dict[str, np.ndarray]:
    """The weights at the end of each phase, and their averages."""
    keras.utils.set_random_seed(0)
    with hardware.scope(devices) as strategy:
        model = toy.model(dropout=0.0)
    groups, found, before = find_groups(model), {}, None
    with Freezer(model, groups) as freezer, strategy.scope():
        for number, phase in enumerate(PHASES):
            freezer.apply(phase)
            built = optimizer.build(model, groups, phase, CHOSEN, steps=6)
            optimizer.carry_state(before, built)
            model.compile(built, loss=CrossEntropy())
            average, before = MovingAverage(model, CHOSEN.ema), built
            engine = Engine(model, {}, average=average)
            batches = iter(strategy.experimental_distribute_dataset(toy.dataset(batch=16)))
            for _ in range(6):
                engine.train(batches)
            found |= {f"{name}.weight{number}.{place}": value for place, value in enumerate(model.get_weights())}
            with average.in_model():
                found |= {f"{name}.average{number}.{place}": value for place, value in enumerate(model.get_weights())}
    return {**found, f"{name}.replicas": np.array(strategy.num_replicas_in_sync)}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
