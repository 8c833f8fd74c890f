"""Small autoencoders and their images, and a program that trains them on some logical CPU devices in a child process.

    python -m tests.pipelines.autoencoders TARGET DEVICES BATCH

TARGET becomes an .npz: for each kind all variables after some steps on one device, on so many, and there in
micro-batches.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import zoo
from pipelines import sources
from pipelines.autoencoding import Autoencoding
from pipelines.codebook_engine import CodebookEngine
from pipelines.data import Images
from pipelines.hardware import POLICIES, choose_strategy
from pipelines.images import ImageDataset
from pipelines.objectives.objective import Objective
from pipelines.objectives.reconstruction import reconstruct
from pipelines.run import Hardware

SIZE, BATCH, STEPS, EPOCHS = 8, 8, 4, 3
KINDS = {
    "normal": ("vae_conv", {"widths": (4, 6), "latent": 3, "channels": 3}),
    "labelled": ("vae_conditional", {"widths": (4, 6), "latent": 3, "labels": 3, "channels": 3}),
    "codebook": ("vae_vq", {"widths": (4, 6), "latent": 3, "codes": 6, "blocks": 0, "decay": 0.7}),
    "gumbel": ("dalle_tiny", {"codes": 6, "code_width": 4, "channels_width": 4, "blocks": 1}),
}


def data() -> ImageDataset:
    """Smooth images of three classes, in memory."""
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3
    low = random.uniform(0, 255, (60, 2, 2, 3)) * np.eye(3)[labels][:, None, None]
    images = low.repeat(SIZE // 2, axis=1).repeat(SIZE // 2, axis=2).astype("uint8")
    found = sources.from_arrays(images, labels, classes=("red", "green", "blue"), split=(0.6, 0.2, 0.2))
    return ImageDataset(found, Images("digits", augment="none"))


def model(kind: str) -> keras.Model:
    """An autoencoder of a kind, with the same weights each time."""
    keras.utils.set_random_seed(0)
    name, options = KINDS[kind]
    return zoo.create(name, task="reconstruct", size=SIZE, **options)


def objective(given: Autoencoding | None = None) -> Objective:
    """What it is trained for."""
    return reconstruct(data(), given, epochs=EPOCHS)


def stepped(
    kind: str,
    strategy: tf.distribute.Strategy,
    *,
    accumulate: int = 1,
    precision: str = "float32",
    scale: float = 0.0,
    batch: int = BATCH,
) -> tuple[keras.Model, list]:
    """A learner after some steps of gradient descent, and what was known of each step."""
    asked = objective()
    keras.config.set_dtype_policy(POLICIES[precision])
    try:
        with strategy.scope():
            learner = asked.learner(model(kind))
            chosen = keras.optimizers.SGD(1e-4, momentum=0.9)
            if scale:
                chosen = keras.optimizers.LossScaleOptimizer(chosen, initial_scale=scale)
            chosen.build(learner.trainable_variables)
            learner.compile(chosen, loss=asked.loss(), weighted_metrics=[])
            feed = asked.complete(data().training_set(learner, batch=batch, seed=0), seed=0, training=True)
            learner._symbolic_build(data_batch=next(iter(feed.start(0))))
    finally:
        keras.config.set_dtype_policy("float32")
    engine = CodebookEngine(learner, {"all": learner.trainable_variables}, accumulate=accumulate)
    batches = engine.batches(feed.start(0))
    return learner, [engine.train(batches) for _ in range(STEPS)]


def values(learner: keras.Model) -> np.ndarray:
    """All weights, which the states of random generators are not."""
    return np.concatenate([np.ravel(np.asarray(weight, "float64")) for weight in learner.weights])


def main(target: Path, devices: int, batch: int) -> None:
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * devices
    )
    found = {}
    for kind in KINDS:
        if kind == "labelled":
            continue
        for case, hardware, accumulate in (("one", "one", 1), ("several", "mirrored", 1), ("micro", "mirrored", 2)):
            learner, steps = stepped(kind, choose_strategy(Hardware(hardware)), accumulate=accumulate, batch=batch)
            found[f"{kind}.{case}"] = values(learner)
            found[f"{kind}.{case}.losses"] = np.array([step.loss for step in steps])
            results = learner.get_metrics_result()
            found[f"{kind}.{case}.metrics"] = np.array([float(results[name]) for name in sorted(results)])
    np.savez(target, **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
