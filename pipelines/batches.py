"""tf.data sets of examples that are had by their numbers: in another order every epoch, or in their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines.feed import Feed, Plan, as_written, planned

Take = Callable[[tf.Tensor], Any]  # numbers of examples (B,) -> a batch of them


def shuffled(count: int, take: Take, *, batch: int, seed: int) -> Feed:
    """Batches of one size, every epoch in another order and without other examples that fill no batch.

    Raises:
        ValueError: there are no examples.
    """
    size = batch_size(count, batch)
    return gathered(uniform(count, size), take, steps=count // size, seed=seed)


def gathered(plan: Plan, take: Take, *, steps: int, seed: int) -> Feed:
    """The examples whose numbers (steps, B) a plan gives."""
    numbers = planned(plan, steps=steps, seed=seed)
    fixed = Feed(steps, lambda number: numbers.start(number).with_options(options()), numbers.start)
    return fixed.map(lambda rows, number: take(rows))


def batch_size(count: int, batch: int) -> int:
    """The batch, or what there is to fill one.

    Raises:
        ValueError: there are no examples.
    """
    if not count:
        raise ValueError("There are no examples to train on.")
    return min(batch, count)


def uniform(count: int, batch: int) -> Plan:
    """Each example at most once an epoch; those that fill no batch are left out, others every time."""
    steps = count // batch

    def plan(key: tf.Tensor) -> tf.Tensor:
        order = tf.random.experimental.stateless_shuffle(tf.range(count, dtype=tf.int64), seed=key)
        return tf.reshape(order[: steps * batch], (steps, batch))

    return plan


def balanced(labels: Sequence[int] | np.ndarray, batch: int) -> Plan:
    """Each class equally often an epoch, or once more: an epoch is no longer than it is without.

    Of a class with more examples than that each is drawn at most once, of one with less all are drawn in turn.
    """
    _, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    steps, classes, firsts = len(place) // batch, len(counts), np.cumsum(counts) - counts

    def plan(key: tf.Tensor) -> tf.Tensor:
        keys = tf.unstack(tf.random.split(key, 3))
        order = tf.random.experimental.stateless_shuffle(tf.range(len(place), dtype=tf.int64), seed=keys[0])
        sorted_ = tf.gather(order, tf.argsort(tf.gather(tf.constant(place), order), stable=True))
        draws = tf.range(steps * batch, dtype=tf.int64)
        turns = tf.random.experimental.stateless_shuffle(tf.range(classes, dtype=tf.int64), seed=keys[1])
        drawn, turn = tf.gather(turns, draws % classes), draws // classes
        rows = tf.gather(tf.constant(firsts), drawn) + turn % tf.gather(tf.constant(counts), drawn)
        mixed = tf.random.experimental.stateless_shuffle(tf.gather(sorted_, rows), seed=keys[2])
        return tf.reshape(mixed, (steps, batch))

    return plan


def ordered(count: int, take: Take, *, batch: int) -> tf.data.Dataset:
    """Batches in order; the last one may be smaller."""
    rows = tf.data.Dataset.range(count).batch(batch)
    return finished(rows.map(as_written(take), num_parallel_calls=tf.data.AUTOTUNE))


def finished(batches: tf.data.Dataset) -> tf.data.Dataset:
    """The batches in a fixed order, made ready while the model works."""
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options())


def options() -> tf.data.Options:
    """A fixed order, of examples that workers share."""
    found = tf.data.Options()
    found.deterministic = True
    # Several workers share examples, not files: there are no files to share here.
    found.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return found
