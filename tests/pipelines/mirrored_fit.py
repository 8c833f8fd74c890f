"""A fit with all that watches it, on one and on two logical CPU devices: a program for a child process.

A failed collective poisons its process, so several devices are tested in processes of their own.
"""

import shutil
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from pipelines import hardware
from pipelines.checkpoints import Checkpoints
from pipelines.loop import Settings
from pipelines.optimization import Optimization
from pipelines.run import Hardware, Phase
from pipelines.train import fit
from tests.pipelines import toy

PHASES = (Phase(1, 1e-2, unfreeze=2), Phase(5, 0.3, unfreeze="all", layer_decay=0.5, batch_norm="train"))
CHOSEN = Optimization(optimizer="sgd", momentum=0.0, schedule="plateau", wait=1, factor=0.3, clip=0.5, ema=0.5)


def main(folder: Path) -> None:
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    one = train(Hardware("one"), folder / "one")
    two = train(Hardware("mirrored"), folder / "two")
    shutil.copytree(folder / "two" / "checkpoints", folder / "again" / "checkpoints")
    cut = Checkpoints(folder / "again" / "checkpoints")
    for number in cut.numbers()[-6:]:  # it goes on in the middle of the last epoch
        shutil.rmtree(folder / "again" / "checkpoints" / f"checkpoint-{number:06}")
    again = train(Hardware("mirrored"), folder / "again", go_on=True)
    names = ("one", "two", "again")
    parts = {f"{name}.{part}": each[part] for name, each in zip(names, (one, two, again), strict=True) for part in each}
    np.savez(folder / "found.npz", **parts)


def train(devices: Hardware, folder: Path, *, go_on: bool = False) -> dict[str, np.ndarray]:
    """All variables of the model at the end of the last epoch, then the losses of each epoch."""
    keras.utils.set_random_seed(0)
    with hardware.scope(devices) as strategy:
        model = toy.model(dropout=0.0)
    states = Checkpoints(folder / "checkpoints", keep=999)
    history = fit(
        model,
        PHASES,
        toy.dataset(96),
        toy.dataset(49, seed=1).map(lambda images, labels: (images, (labels + 1) % 3)),  # the better, the worse
        folder=folder,
        progress=False,
        patience=3,
        tensorboard=folder / "tensorboard",
        settings=Settings(optimization=CHOSEN, save_steps=1),
        checkpoints=states,
        resumed=states.latest() if go_on else None,
    )
    print(strategy.num_replicas_in_sync)
    losses = [value for epoch in history.epochs for value in epoch.metrics.values()]
    ended = [np.ravel(array) for name, array in states.latest().arrays.items() if name.startswith("model.")]
    return {"variables": np.concatenate(ended), "losses": np.array(losses)}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
