"""Fits the toy model on some logical CPU devices in every precision: a program for child processes.

A failed collective poisons its process, so several devices are tested in processes of their own.
"""

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from pipelines import hardware
from pipelines.run import Hardware, Phase
from pipelines.train import fit
from tests.pipelines import toy

PHASES = (Phase(2, 1e-3, unfreeze=2), Phase(1, 3e-4, unfreeze="all", layer_decay=0.5))


def main(devices: int, target: Path) -> None:
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * devices
    )
    for precision in ("float32", "bfloat16", "float16"):
        keras.utils.set_random_seed(0)
        with hardware.scope(Hardware("auto", precision)) as strategy:
            model = toy.model(dropout=0.0)
        history = fit(model, PHASES, toy.dataset(batch=32), toy.dataset(50, batch=32, seed=1), progress=False)
        np.savez(
            target / f"{precision}.npz",
            *model.get_weights(),
            losses=[(e.metrics["loss"], e.metrics["val_loss"]) for e in history.epochs],
            policy=model.dtype_policy.name,
            replicas=strategy.num_replicas_in_sync,
        )


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
