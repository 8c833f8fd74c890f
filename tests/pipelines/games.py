"""Small GANs and a few steps of theirs, on one or several logical CPU devices: also a program for child processes.

    python -m tests.pipelines.games TARGET DEVICES BATCH CASE...

A case is written as NAME/PRECISION, such as wgan_gp/float32. TARGET becomes a folder with an .npz of each case.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import tensorflow as tf

import zoo
from pipelines import optimizer
from pipelines.adversary import Adversary
from pipelines.clipping import Clip
from pipelines.ema import MovingAverage
from pipelines.feed import feed, key
from pipelines.freezing import find_groups
from pipelines.hardware import POLICIES, choose_strategy
from pipelines.objectives.generation import with_draws
from pipelines.opponents import AdversarialEngine, Opponents, opponents
from pipelines.optimization import Optimization
from pipelines.run import Hardware, Phase

SIZES = {"size": 8, "depth": 2, "width": 4, "latent": 6, "channels": 1}
LABELS, BATCH, STEPS, RATE, DECAY = 3, 8, 4, 0.05, 0.15
CASES = {
    "dcgan": ("gan_dcgan", {}, Adversary(discriminator_rate=2.0)),
    "wgan_gp": ("gan_wgan_gp", {}, Adversary("wasserstein", gradient_penalty=10.0, critic_steps=2)),
    "conditional": ("gan_conditional", {"labels": LABELS}, Adversary()),
    "projection": ("gan_projection", {"labels": LABELS}, Adversary("hinge")),
}
MOVED = Optimization(optimizer="sgd", momentum=0.9, schedule="constant")


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """(images, labels)."""
    draw = np.random.default_rng(0)
    return draw.uniform(0, 255, (BATCH * STEPS, 8, 8, 1)).astype("float32"), draw.integers(0, LABELS, BATCH * STEPS)


def pair(name: str) -> Opponents:
    """A generator and a discriminator with the weights of one seed."""
    keras.utils.set_random_seed(0)
    variant, more, adversary = CASES[name]
    both = (zoo.create(variant, task=task, **SIZES, **more) for task in ("generate", "discriminate"))
    return opponents(*both, adversary)


def batches(model: Opponents, batch: int = BATCH) -> tf.data.Dataset:
    """What the engine takes, a batch a step."""
    labels = LABELS if "labels" in model.input else 0
    target = with_draws(SimpleNamespace(latent=SIZES["latent"], labels=labels))
    plain = tf.data.Dataset.from_tensor_slices(pictures()).batch(batch, drop_remainder=True)
    return feed(plain).map(lambda some, number: target(some, key(0, 7, number))).start(0).take(STEPS)


def played(
    name: str, strategy: tf.distribute.Strategy, precision: str = "float32", batch: int = BATCH
) -> dict[str, np.ndarray]:
    """The losses and the norms of the steps, and the weights after them, with their averages."""
    keras.config.set_dtype_policy(POLICIES[precision])
    with strategy.scope():
        model = pair(name)
        groups = find_groups(model)
        rate = CASES[name][2].discriminator_rate
        phase = Phase(1, RATE, unfreeze="all", warmup=0.0, batch_norm="train", discriminator_rate=rate)
        model.compile(optimizer.build(model, groups, phase, MOVED, steps=STEPS), loss="mse")
        data = batches(model, batch)
        model._symbolic_build(data_batch=next(iter(data)))
    variables = {each: [v for layer in layers for v in layer.trainable_variables] for each, layers in groups.items()}
    average = MovingAverage(model, DECAY)
    engine = AdversarialEngine(model, variables, clip=Clip(5.0), average=average)
    iterator = iter(strategy.experimental_distribute_dataset(data))
    steps = [engine.train(iterator) for _ in range(STEPS)]
    with average.in_model():
        kept = model.match.generator.trainable_variables
        averages = {f"average|{v.path}".replace("/", "|"): np.array(v) for v in kept}
    return {
        "losses": np.array([step.loss for step in steps]),
        "norms": np.array([step.norms for step in steps]),
        "skipped": np.array([step.skipped for step in steps]),
        "results": np.array(list(engine.results().values())),
        "replicas": np.array(strategy.num_replicas_in_sync),
        **averages,
        **{v.path.replace("/", "|"): np.asarray(v).astype("float64") for v in model.variables if "seed" not in v.path},
    }


def main(target: Path, devices: int, batch: int, *cases: str) -> None:
    target.mkdir(parents=True, exist_ok=True)
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * devices
    )
    for case in cases:
        name, precision = case.split("/")
        for kind in ("one", "mirrored"):
            found = played(name, choose_strategy(Hardware(kind)), precision, batch)
            np.savez(target / f"{name}-{precision}-{kind}.npz", **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
