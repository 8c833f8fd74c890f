"""Batches that other machines make ready: the tf.data service."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from pipelines import cluster
from pipelines.feed import Feed

_service = tf.data.experimental.service


def same_batches(feed: Feed, address: str) -> Feed:
    """The very batches of a feed, in their order, made by the one worker of the service at grpc://host:port.

    Each batch comes with its number, and one that is not the next ends the training: a second worker would make all
    of them once more. A worker may have as many cores as it likes.
    """

    def start(number: int) -> tf.data.Dataset:
        numbered = tf.data.Dataset.zip(tf.data.Dataset.counter(number), feed.start(number))
        remote = numbered.apply(_service.distribute(_service.ShardingPolicy.OFF, address))

        def check(place: tf.Tensor, batch: Any) -> Any:
            told = f"The tf.data service at {address} has several workers, each of which makes every batch. Begin one."
            with tf.control_dependencies([tf.debugging.assert_equal(batch[0], place, told)]):
                return tf.nest.map_structure(tf.identity, batch[1])

        batches = tf.data.Dataset.zip(tf.data.Dataset.counter(number), remote).map(check)
        return batches.prefetch(tf.data.AUTOTUNE)

    return Feed(feed.steps, start)


def same_examples(batches: tf.data.Dataset, address: str, *, name: str | None = None) -> tf.data.Dataset:
    """A finite data set whose examples any number of workers of a service share, each read once an epoch.

    Which examples are in a batch, and the order, are others each time; only the last batch may be smaller. A worker
    that dies takes along what it had taken. With a `name`, all trainers of that name share one epoch.

    Raises:
        ValueError: several machines train one model, of which each would get another order, or there are no batches.
    """
    if cluster.cluster() is not None:
        raise ValueError(
            "Workers that train one model take their parts of the same batches, and same_examples gives each of them "
            "others. Use same_batches."
        )
    for batch in batches.take(1):
        size = tf.shape(tf.nest.flatten(batch)[0])[0]
        shared = batches.apply(_service.distribute(_service.ShardingPolicy.DYNAMIC, address, job_name=name))
        return shared.rebatch(tf.cast(size, tf.int64))  # each worker ends with what is left of its own
    raise ValueError("The data set has no batches.")
