"""Trains small problems on some logical CPU devices, step by step: a program for child processes.

    python -m tests.pipelines.devices TARGET DEVICES CASE...

A case is written as kind/precision/accumulate/clip, such as plain/float16/4/global_norm. TARGET becomes a folder with
an .npz of each case, in which "one/..." is what one device makes of it without micro-batches, and "own/..." the
largest difference that the precision makes there from float32. A failed collective poisons its process, and a process
can reduce over one set of devices only.
"""

import functools
import sys
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from pipelines import optimization, optimizer, replicas
from pipelines.cached_engine import CachedEngine
from pipelines.clipping import Clip
from pipelines.engine import Engine
from pipelines.freezing import find_groups
from pipelines.hardware import POLICIES, choose_strategy
from pipelines.objectives.contrast import SymmetricCrossEntropy, contrastive
from pipelines.objectives.losses import CrossEntropy
from pipelines.optimization import Optimization
from pipelines.run import Hardware, Phase, Precision
from pipelines.taught import taught
from tests.pipelines import toy
from zoo.layers.auxiliary import AuxiliaryModel
from zoo.layers.contrast import Similarity, UnitLength
from zoo.layers.convolution import conv_bn

BATCH, STEPS, CLASSES, LENGTH = 32, 6, 3, 5
LIMITS = {"global_norm": 0.05, "norm": 0.02, "value": 0.005}  # far under the gradients of these problems


def pictures() -> tuple[np.ndarray, ...]:
    """(images, labels)."""
    return toy.problem(BATCH * STEPS, classes=CLASSES)


def weighted_pictures() -> tuple[np.ndarray, ...]:
    """(images, labels, weights): some examples count nothing, others much, and unequally over the parts of a batch."""
    images, labels = pictures()
    weights = np.random.default_rng(1).exponential(size=len(labels)).astype("float32")
    weights[np.arange(len(labels)) % BATCH < 5] = 0
    return images, labels, weights


def tokens() -> tuple[np.ndarray, ...]:
    """(token ids, labels, weights) of texts of 0 to 5 tokens: the weights of padding are 0."""
    draw = np.random.default_rng(2)
    ids = draw.integers(0, 20, (BATCH * STEPS, LENGTH))
    lengths = draw.integers(0, LENGTH + 1, BATCH * STEPS)
    weights = (np.arange(LENGTH) < lengths[:, None]).astype("float32")
    return ids.astype("int32"), (ids % CLASSES).astype("int32"), weights


def overflowing() -> tuple[np.ndarray, ...]:
    """Pictures of which one of the third batch is so bright that half precision has no room for its gradient."""
    images, labels = pictures()
    images[2 * BATCH + BATCH - 1] = 60_000
    return images, labels


def captioned() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """({image, token_ids}, the numbers of image and caption): some of both are there twice."""
    draw = np.random.default_rng(3)
    numbers = draw.integers(0, BATCH * STEPS // 2, (BATCH * STEPS, 2)).astype("int32")
    return {"image": pictures()[0], "token_ids": tokens()[0]}, numbers


def plain() -> keras.Model:
    """Convolutions and dense layers.

    Their activation is smooth: rounding that takes an input of a ReLU over 0 would change a gradient by all of it.
    """
    x = image = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, 2, padding="same", activation="softplus", name="stem_conv")(x)
    x = layers.Conv2D(8, 3, 2, padding="same", activation="softplus", name="stage1_conv")(x)
    x = layers.Flatten(name="head_flat")(x)
    return keras.Model(image, layers.Dense(CLASSES, dtype="float32", name="head_logits")(x))


def normalized() -> keras.Model:
    """Batch norms of Keras and of the zoo, whose inputs are far from 0 for their size."""
    x = image = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, 2, padding="same", bias_initializer=keras.initializers.Constant(3.0), name="stem_conv")(x)
    x = layers.BatchNormalization(momentum=0.5, name="stem_bn")(x)
    x = conv_bn(x, 8, 3, stride=2, name="stage1_conv")
    x = layers.GlobalAveragePooling2D(name="head_pool")(x)
    return keras.Model(image, layers.Dense(CLASSES, dtype="float32", name="head_logits")(x))


def auxiliary() -> keras.Model:
    """A second classifier in the middle, which takes part in the loss."""
    x = image = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, 2, padding="same", activation="softplus", name="stem_conv")(x)
    early = layers.Dense(CLASSES, dtype="float32", name="head_auxiliary1")(layers.Flatten()(x))
    x = layers.Conv2D(8, 3, 2, padding="same", activation="softplus", name="stage1_conv")(x)
    late = layers.Dense(CLASSES, dtype="float32", name="head_logits")(layers.Flatten()(x))
    return AuxiliaryModel(image, {"logits": late, "auxiliary1": early})


def tagger() -> keras.Model:
    """A class for each token."""
    ids = keras.Input((LENGTH,), dtype="int32")
    x = layers.Embedding(20, 8, name="stem_tokens")(ids)
    x = layers.Dense(8, activation="gelu", name="block0_dense")(x)
    return keras.Model(ids, layers.Dense(CLASSES, dtype="float32", name="head_logits")(x))


def towers() -> keras.Model:
    """Images and texts that are compared with one another."""
    image, ids = keras.Input((8, 8, 3), name="image"), keras.Input((LENGTH,), dtype="int32", name="token_ids")
    x = layers.Conv2D(8, 3, 2, padding="same", activation="softplus", name="image.stem_conv")(image)
    x = layers.Dense(6, name="image.head_projection")(layers.Flatten(name="image.neck_flat")(x))
    y = layers.Embedding(20, 8, name="text.stem_tokens")(ids)
    y = layers.Dense(6, name="text.head_projection")(layers.GlobalAveragePooling1D(name="text.neck_mean")(y))
    x, y = UnitLength(name="image.head_length")(x), UnitLength(name="text.head_length")(y)
    outputs = {"image_embedding": x, "text_embedding": y, "logits": Similarity(name="head_similarity")(x, y)}
    return contrastive(keras.Model({"image": image, "token_ids": ids}, outputs, name="towers"))


def regularized() -> keras.Model:
    """A loss of the weights themselves besides that of the examples."""
    image = keras.Input((8, 8, 3))
    x = layers.Flatten(name="stem_flat")(image)
    dense = layers.Dense(CLASSES, dtype="float32", kernel_regularizer="l2", name="head_logits")
    return keras.Model(image, dense(x))


def pupil(model: Callable[[], keras.Model]) -> Callable[[], keras.Model]:
    """A model that learns the answers and the features of another one like it."""
    options = {"temperature": 2.0, "label_share": 0.3, "features": True, "feature_weight": 0.5}
    return lambda: taught(model(), model(), **options)


def keras_loss(reduction: str) -> keras.losses.Loss:
    """Keras' own cross-entropy."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)


def momentum(model: keras.Model, *, rate: float = 0.02) -> keras.optimizers.Optimizer:
    """One for all variables, at one rate."""
    return keras.optimizers.SGD(rate, momentum=0.9)


def slowly(model: keras.Model) -> keras.optimizers.Optimizer:
    """The same for a loss as steep as that of contrast, so that weights go no further than in other problems."""
    return momentum(model, rate=0.002)


def grouped(name: str) -> Callable[[keras.Model], keras.optimizers.Optimizer]:
    """What a run has of an optimizer's name: one for each group, with rates that fall, and decay."""
    rate = {"lamb": 0.005, "lion": 0.001}.get(name, 0.002)
    phase = Phase(1, rate, unfreeze="all", layer_decay=0.5, warmup=0.0)
    chosen = Optimization(optimizer=name, weight_decay=0.02)
    return lambda model: optimizer.build(model, find_groups(model), phase, chosen, steps=STEPS)


@dataclass(frozen=True)
class Kind:
    """What is trained on what."""

    data: Callable[[], tuple]
    model: Callable[[], keras.Model]
    loss: Callable[[], keras.losses.Loss] = CrossEntropy
    batch: int = BATCH
    optimizer: Callable[[keras.Model], keras.optimizers.Optimizer] = momentum
    engine: type[Engine] = Engine
    metrics: tuple[str, ...] = ("accuracy",)


OPTIMIZERS = typing.get_args(optimization.Optimizer)
KINDS = {
    "plain": Kind(pictures, plain),
    "weighted": Kind(weighted_pictures, plain),
    "weighted_mean": Kind(weighted_pictures, plain, lambda: keras_loss("mean_with_sample_weight")),
    "weighted_sum_over_batch": Kind(weighted_pictures, plain, lambda: keras_loss("sum_over_batch_size")),
    "tokens": Kind(tokens, tagger),
    "auxiliary": Kind(weighted_pictures, auxiliary),
    "regularized": Kind(weighted_pictures, regularized),
    "normalized": Kind(pictures, normalized),
    "overflow": Kind(overflowing, plain),
    "taught": Kind(weighted_pictures, pupil(plain)),
    "taught_normalized": Kind(pictures, pupil(normalized)),
    "taught_tokens": Kind(tokens, pupil(tagger)),
    "taught_ragged": Kind(pictures, pupil(plain), batch=25),
    "contrast": Kind(captioned, towers, SymmetricCrossEntropy, optimizer=slowly, engine=CachedEngine, metrics=()),
    "contrast_ragged": Kind(captioned, towers, SymmetricCrossEntropy, 25, slowly, CachedEngine, metrics=()),
    "ragged": Kind(weighted_pictures, plain, batch=25),
    **{name: Kind(weighted_pictures, plain, optimizer=grouped(name)) for name in OPTIMIZERS},
    "muon": Kind(tokens, tagger, optimizer=grouped("muon")),  # which is for hidden matrices
}


def train(
    kind: Kind, *, precision: Precision, accumulate: int, clip: str, strategy: tf.distribute.Strategy
) -> dict[str, np.ndarray]:
    """The loss and gradient norms of each step, the metrics at the end, and the weights."""
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(POLICIES[precision])
    data = tf.data.Dataset.from_tensor_slices(kind.data()).batch(kind.batch)
    with strategy.scope():
        model = kind.model()
        chosen = kind.optimizer(model)
        if precision == "float16":
            chosen = keras.optimizers.LossScaleOptimizer(
                getattr(chosen, "inner_optimizer", chosen), initial_scale=2.0**10
            )
        chosen.build(model.trainable_variables)
        metrics = [keras.metrics.SparseCategoricalAccuracy(name) for name in kind.metrics]
        model.compile(chosen, kind.loss(), weighted_metrics=metrics)
        model._symbolic_build(data_batch=next(iter(data)))
    groups = {layer.name: layer.trainable_variables for layer in model.layers if layer.trainable_variables}
    limit = Clip(LIMITS[clip], clip) if clip != "none" else None
    engine = kind.engine(model, groups, accumulate=accumulate, clip=limit)
    batches = iter(strategy.experimental_distribute_dataset(data))
    config = model.to_json()
    before = [np.asarray(variable) for variable in model.variables]
    steps, moved = [], []
    for _ in range(-(-BATCH * STEPS // kind.batch)):
        steps.append(engine.train(batches))
        after = [np.asarray(variable) for variable in model.variables]
        moved.append(max(float(np.abs(new - old).max()) for new, old in zip(after, before, strict=True)))
        before = after
    trained = engine.results()
    tested = engine.evaluate(data)
    return {
        "losses": np.array([step.loss for step in steps]),
        "norms": np.array([step.norms for step in steps]),
        "skipped": np.array([step.skipped for step in steps]),
        "moved": np.array(moved),
        "metrics": np.array([*trained.values(), *tested.values()]),
        "replicas": np.array(strategy.num_replicas_in_sync),
        "weights": np.concatenate([np.ravel(variable).astype("float64") for variable in before]),
        "same_config": np.array(model.to_json() == config),
    }


def masks() -> dict[str, np.ndarray]:
    """What a dropout leaves of ones on each replica in two steps, and the state of its generator after each."""
    strategy = choose_strategy(Hardware("auto"))
    with strategy.scope():
        keep = layers.Dropout(0.5, seed=0)
        model = keras.Sequential([keras.Input((64,)), keep])

    @tf.function
    def step():
        def replica():
            with replicas.own_random_numbers(replicas.seed_generators(model)):
                dropped = model(tf.ones((1, 64)), training=True)
            return dropped, tf.identity(keep.seed_generator.state.value)

        return strategy.run(replica)

    found = [[strategy.experimental_local_results(each) for each in step()] for _ in range(2)]
    return {"masks": np.array([dropped for dropped, _ in found]), "states": np.array([state for _, state in found])}


@functools.cache
def reference(name: str, precision: Precision, clip: str) -> dict[str, np.ndarray]:
    """What one device makes of it without micro-batches."""
    one = choose_strategy(Hardware("one"))
    return train(KINDS[name], precision=precision, accumulate=1, clip=clip, strategy=one)


def rounding(name: str, precision: Precision, clip: str) -> dict[str, np.ndarray]:
    """How far one device is from float32. Where half precision overflows the two part: that of pictures that do not."""
    known = "plain" if name == "overflow" else name
    half, exact = (reference(known, each, clip) for each in (precision, "float32"))
    return {key: np.abs(half[key] - exact[key]).max() for key in ("weights", "losses", "norms", "metrics")}


def main(target: Path, devices: int, *cases: str) -> None:
    target.mkdir(parents=True, exist_ok=True)
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * devices
    )
    np.savez(target / "masks.npz", **masks())
    for case in cases:
        name, precision, accumulate, clip = case.split("/")
        one, own = reference(name, precision, clip), rounding(name, precision, clip)
        strategy = choose_strategy(Hardware("auto"))
        several = train(KINDS[name], precision=precision, accumulate=int(accumulate), clip=clip, strategy=strategy)
        beside = {f"{which}/{key}": found[key] for which, found in (("one", one), ("own", own)) for key in found}
        np.savez(target / f"{case.replace('/', '-')}.npz", **several, **beside)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
