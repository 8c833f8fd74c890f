"""Fits the model of tests.pipelines.sequences on some logical CPU devices: a program for child processes."""

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from pipelines import hardware, objectives
from pipelines.run import Hardware, Phase
from pipelines.train import fit
from tests.pipelines import sequences


def main(devices: int, target: Path) -> None:
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * devices
    )
    data = sequences.Sequences("causal_lm")
    objective = objectives.find("causal_lm", data)
    keras.utils.set_random_seed(0)
    with hardware.scope(Hardware("auto")) as strategy:
        model = sequences.model("causal_lm")
    train = objective.complete(data.evaluation_set(model, "train", batch=16), seed=0, training=False)
    validation = objective.complete(data.evaluation_set(model, "validation", batch=16), seed=0, training=False)
    options = {"loss": objective.loss(), "metrics": objective.metrics, "progress": False}
    history = fit(model, [Phase(3, 1e-2, unfreeze="all")], train, validation, **options)
    np.savez(
        target,
        *model.get_weights(),
        metrics=[list(epoch.metrics.values()) for epoch in history.epochs],
        replicas=strategy.num_replicas_in_sync,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
