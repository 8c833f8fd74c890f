"""Trains the toy model as one of several workers, or on two devices of one: a program for child processes.

    python -m tests.pipelines.workers_program TARGET.npz CHECKPOINTS [SECONDS A BATCH]

TF_CONFIG says which worker it is; without it there are two logical CPU devices. It goes on from the newest checkpoint.
With DATA_SERVICE its batches come from the tf.data service there.
"""

import os
import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from pipelines import cluster, hardware, workers
from pipelines.data_service import same_batches
from pipelines.feed import feed
from pipelines.loop import Settings
from pipelines.run import Hardware, Phase
from pipelines.train import fit
from tests.pipelines import toy

PHASES = (Phase(2, 1e-2, unfreeze=2), Phase(2, 1e-3, unfreeze="all", batch_norm="train"))


def slowly(batches: tf.data.Dataset, seconds: float) -> tf.data.Dataset:
    """The same batches; each says that it is there, and takes its time."""

    def tell(label):
        print("a batch", flush=True)
        time.sleep(seconds)
        return label

    def wait(image, label):
        waited = tf.numpy_function(tell, [label], label.dtype)
        return image, tf.ensure_shape(waited, label.shape)

    return batches.map(wait) if seconds else batches


def main(target: Path, folder: Path, sleep: float) -> None:
    if cluster.cluster() is None:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    hardware.begin(Hardware("auto"))
    keras.utils.set_random_seed(0)
    with hardware.scope(Hardware("auto")) as strategy:
        model = toy.model(dropout=0.0)
    workers.check_same(7, "a number")
    try:
        workers.check_same(7 + (0 if workers.is_chief() else 1), "the step")
        same = True
    except ValueError:
        same = False
    with workers.watched(target.parent):
        checkpoints = workers.checkpoints(folder)
        resumed = checkpoints.latest()
        workers.check_same(resumed.state["position"]["step"] if resumed else 0, "the step that they go on from")
        print(f"from step {resumed.state['position']['step'] if resumed else 0}", flush=True)
        options = {
            "progress": False,
            "checkpoints": checkpoints,
            "resumed": resumed,
            "settings": Settings(save_steps=2),
        }
        batches = feed(slowly(toy.dataset(batch=32), sleep))
        if "DATA_SERVICE" in os.environ:
            batches = same_batches(batches, os.environ["DATA_SERVICE"])
        history = fit(model, PHASES, batches, toy.dataset(50, batch=32, seed=1), **options)
    workers.wait()
    np.savez(
        target,
        *model.get_weights(),
        losses=[(e.metrics["loss"], e.metrics["val_loss"], e.metrics["val_accuracy"]) for e in history.epochs],
        replicas=strategy.num_replicas_in_sync,
        chief=workers.is_chief(),
        same=same,
        described=hardware.describe(strategy, Hardware("auto"), batch=32),
    )


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 0.0)
    except workers.WorkersError as error:
        sys.exit(f"error: {error}")
