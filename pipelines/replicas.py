"""What a model's layers and optimizer do otherwise while a step on several replicas is traced.

Keras keeps batch statistics apart for each replica, drops the same units on all of them, and sums gradients that are
sums already. All of it is put back when the graph is made: a saved model is the one that was built.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any

import keras
import tensorflow as tf

SUM = tf.distribute.ReduceOp.SUM
_APART = 1_000_003  # between the seeds of two replicas
_REDUCTION = "_all_reduce_sum_gradients"  # the method of Keras' optimizers
_counts: ContextVar[tf.Tensor | None] = ContextVar("counts", default=None)  # whether the examples at hand do


@contextlib.contextmanager
def in_step(model: keras.Model, *, divided: bool) -> Iterator[None]:
    """Inside, a step of training is traced: batch statistics are those of all replicas' examples together.

    The optimizer then expects gradients that are sums over the replicas. With micro-batches, batches are `divided`.

    Raises:
        RuntimeError: this Keras sums gradients in another way than the one that was tested.
    """
    changed: list[tuple[Any, dict[str, Any]]] = []
    several = model.distribute_strategy.num_replicas_in_sync > 1
    for layer in model._flatten_layers() if several or divided else ():
        if isinstance(layer, keras.layers.BatchNormalization):
            own = {"synchronized": True, "_moments": partial(_moments, layer)} if several else {}
            changed.append((layer, own or {"_moments": partial(_moments_of_any, layer, layer._moments)}))
    for optimizer in _flat_optimizers(model.optimizer):
        if not hasattr(optimizer, _REDUCTION):
            raise RuntimeError(f"Keras {keras.__version__} is not one that training on several replicas works with.")
        changed.append((optimizer, {_REDUCTION: list}))
    before = [{name: vars(owner)[name] for name in values if name in vars(owner)} for owner, values in changed]
    for owner, values in changed:
        vars(owner).update(values)
    try:
        yield
    finally:
        for (owner, values), kept in zip(changed, before, strict=True):
            for name in values:
                del vars(owner)[name]
            vars(owner).update(kept)


@contextlib.contextmanager
def own_random_numbers(generators: Iterable[keras.random.SeedGenerator]) -> Iterator[None]:
    """In a replica's part of a step: its generators draw other numbers than those of the other replicas.

    The first replica's are those of one device, and in between all replicas hold the same state.
    """
    context = tf.distribute.get_replica_context()
    found = list(generators) if context is not None and context.num_replicas_in_sync > 1 else []
    apart = tf.cast(context.replica_id_in_sync_group, tf.int64) * [_APART, 0] if found else None
    for generator in found:
        generator.state.assign(generator.state + tf.cast(apart, generator.state.dtype))
    yield
    for generator in found:
        generator.state.assign(generator.state - tf.cast(apart, generator.state.dtype))


@contextlib.contextmanager
def counting(some: tf.Tensor) -> Iterator[None]:
    """Inside, batch statistics are of the examples at hand only if they count, and do not stand in for none."""
    before = _counts.set(some)
    try:
        yield
    finally:
        _counts.reset(before)


def counts() -> tf.Tensor | None:
    """Whether the examples at hand count; None where all do."""
    return _counts.get()


def that_count(tensor: tf.Tensor) -> tf.Tensor:
    """Of the examples at hand, or of their places (N, ...), those that count: all or none."""
    found = counts()
    return tensor if found is None else tensor[: tf.where(found, tf.shape(tensor)[0], 0)]


def seed_generators(model: keras.Model) -> list[keras.random.SeedGenerator]:
    """Those of all layers."""
    found = [each for layer in model._flatten_layers() for each in getattr(layer, "_seed_generators", ())]
    return list({id(each): each for each in found}.values())


def _flat_optimizers(optimizer: keras.optimizers.Optimizer) -> list[keras.optimizers.Optimizer]:
    """An optimizer and those that it hands its work to."""
    inner = [optimizer.inner_optimizer] if isinstance(optimizer, keras.optimizers.LossScaleOptimizer) else []
    inner += optimizer.optimizers if isinstance(optimizer, keras.optimizers.MultiOptimizer) else []
    return [optimizer, *(deeper for each in inner for deeper in _flat_optimizers(each))]


def _moments(layer: keras.layers.BatchNormalization, inputs: tf.Tensor, mask: tf.Tensor | None) -> tuple:
    """Mean and variance (C,) over the examples of all replicas, the variance from the deviations.

    Keras' own difference of the mean square and the squared mean loses all digits where the mean is large. Places
    that the mask leaves out do not count. Of no examples they are what they were.
    """
    inputs, mask = that_count(inputs), None if mask is None else that_count(mask)
    context = tf.distribute.get_replica_context()
    axes = layer._reduction_axes
    channels = inputs.shape[layer.axis]
    weights = None if mask is None else tf.cast(tf.expand_dims(mask, -1), inputs.dtype)
    weigh = (lambda x: x) if weights is None else (lambda x: x * weights)
    count = tf.cast(tf.size(inputs) // channels, inputs.dtype) if weights is None else tf.reduce_sum(weights)
    found = tf.concat([tf.reduce_sum(weigh(inputs), axes), [count]], axis=0)
    found = context.all_reduce(SUM, found)
    mean, count = tf.math.divide_no_nan(found[:-1], found[-1]), found[-1]
    shape = [1] * len(inputs.shape)
    shape[layer.axis] = channels
    deviations = tf.square(inputs - tf.reshape(mean, shape))
    variance = tf.math.divide_no_nan(context.all_reduce(SUM, tf.reduce_sum(weigh(deviations), axes)), count)
    return _known(layer, count > 0, mean, variance)


def _moments_of_any(layer: keras.layers.BatchNormalization, own: Callable, inputs: tf.Tensor, mask: Any) -> tuple:
    """Those that Keras finds on one device; of no examples they are what they were."""
    found, some = own(inputs, mask), counts()
    return found if some is None else _known(layer, some, *found)


def _known(layer: keras.layers.BatchNormalization, some: tf.Tensor, *found: tf.Tensor) -> tuple:
    """The moments that were found, or, where nothing counted, the layer's own."""
    before = layer.moving_mean, layer.moving_variance
    return tuple(tf.where(some, new, tf.cast(old.value, new.dtype)) for new, old in zip(found, before, strict=True))
