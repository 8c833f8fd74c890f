"""tf.data sets of examples that lie in memory as arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

Take = Callable[[tf.Tensor], Any]  # numbers of examples (B,) -> a batch of them


def shuffled(count: int, take: Take, *, batch: int, seed: int) -> tf.data.Dataset:
    """Batches of one size, another order every epoch, the same for the same seed; the examples left over wait a turn.

    Raises:
        ValueError: there are no examples.
    """
    if not count:
        raise ValueError("There are no examples to train on.")
    order = tf.data.Dataset.range(count).shuffle(count, seed=seed)
    batches = order.batch(min(batch, count), drop_remainder=True)
    return finished(batches.map(take, num_parallel_calls=tf.data.AUTOTUNE))


def ordered(count: int, take: Take, *, batch: int) -> tf.data.Dataset:
    """Batches in order; the last one may be smaller."""
    return finished(tf.data.Dataset.range(count).batch(batch).map(take, num_parallel_calls=tf.data.AUTOTUNE))


def finished(batches: tf.data.Dataset) -> tf.data.Dataset:
    """The batches in a fixed order, made ready while the model works."""
    options = tf.data.Options()
    options.deterministic = True
    # Several workers share examples, not files: there are no files to share here.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)
