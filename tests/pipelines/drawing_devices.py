"""Takes a few steps of drawing after texts on some logical CPU devices: a program for child processes.

python -m tests.pipelines.drawing_devices FOLDER DEVICES PRECISION ACCUMULATE TARGET
"""

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from pipelines import datasets, hardware, objectives
from pipelines.creation import create
from pipelines.engine import Engine
from pipelines.run import Hardware
from tests.pipelines import drawings

STEPS = 2


def main(folder: Path, devices: int, precision: str, accumulate: int, target: Path) -> None:
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * devices
    )
    run = drawings.run(folder, "devices", drawing={"caption_dropout": 0.5}, batch=6)
    data = datasets.load(run)
    objective = objectives.of_run(run, data)
    keras.utils.set_random_seed(0)
    with hardware.scope(Hardware("auto", precision)) as strategy:
        model = create(run, data, objective.options)
        learner = objective.learner(model)
        learner.compile(keras.optimizers.SGD(0.1), loss=objective.loss(), weighted_metrics=objective.metrics())
    feed = objective.complete(data.training_set(learner, batch=6, seed=0), seed=0, training=True)
    engine = Engine(learner, {"all": model.trainable_variables}, accumulate=accumulate)
    batches = engine.batches(feed.start(0))
    steps = [engine.train(batches) for _ in range(STEPS)]
    np.savez(
        target,
        weights=np.concatenate([weight.ravel() for weight in model.get_weights()]),
        losses=[step.loss for step in steps],
        norms=[step.norms[0] for step in steps],
        metrics=[value for _, value in sorted(engine.results().items())],
        replicas=strategy.num_replicas_in_sync,
        computes=[layer.compute_dtype for layer in model.layers if layer.name == "block0"],
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), Path(sys.argv[5]))
