"""Steps of models with codes that move by what comes to them, besides what they learn by gradient."""

from __future__ import annotations

import math

import tensorflow as tf

from pipelines import replicas
from pipelines.engine import SUM, Batch, Engine
from zoo.layers.codebook import Came, noting

_GOLDEN = (math.sqrt(5) - 1) / 2


class CodebookEngine(Engine):
    """Steps in which layers with codes move once, by the whole batch, as they do on one device.

    That is a codebook of moving averages, and the balance of a discrete VAE's codes.
    """

    def _train_replica(self, batch: Batch, wishes: tf.Tensor) -> tuple[tf.Tensor, ...]:
        with noting(_if_it_counts) as noted:
            found = super()._train_replica(batch, wishes)
        for layer in {id(came.layer): came.layer for came in noted}.values():
            _settle([came for came in noted if came.layer is layer], skipped=found[2])
        return found


def _if_it_counts(came: Came) -> Came:
    """What came, or nothing of an example of zeros that stands in for none."""
    counts = replicas.counts()
    if counts is None:
        return came
    sums = tuple(tf.where(counts, each, tf.zeros_like(each)) for each in came.sums)
    return Came(came.layer, sums, replicas.that_count(came.vectors))


def _settle(came: list[Came], *, skipped: tf.Tensor) -> None:
    """Move a layer by what came to it in the parts of a batch on all devices, unless the step is skipped."""
    layer = came[0].layer
    vectors = tf.concat([part.vectors for part in came], axis=0)
    places = tf.cast(tf.shape(vectors)[0], tf.float32)
    own = [tf.reduce_sum(tf.stack(each), axis=0) for each in zip(*(part.sums for part in came), strict=True)]
    others = _spread(vectors, layer.codes)
    *sums, places, others = tf.distribute.get_replica_context().all_reduce(SUM, [*own, places, others])
    before = [tf.identity(variable.value) for variable in layer.moved]
    layer.settle(sums, places, others)
    for variable, value in zip(layer.moved, before, strict=True):
        variable.assign(tf.where(skipped, value, tf.convert_to_tensor(variable.value)))


def _spread(vectors: tf.Tensor, count: int) -> tf.Tensor:
    """A replica's part in so many vectors of the whole batch, evenly spread: (N, D) -> (count, D), 0 where others' are.

    Those of the first replica come first.
    """
    context = tf.distribute.get_replica_context()
    number = tf.cast(context.replica_id_in_sync_group, tf.int32)
    own, replicas = tf.shape(vectors)[0], tf.range(context.num_replicas_in_sync)
    known = context.all_reduce(SUM, tf.where(replicas == number, tf.cast(own, tf.float32), 0.0))
    counts = tf.cast(known, tf.int32)
    turns = tf.math.floormod(_GOLDEN * tf.range(count, dtype=tf.float64), 1.0)  # in no step with rows of a map
    wanted = tf.cast(turns * tf.cast(tf.reduce_sum(counts), tf.float64), tf.int32)
    places = wanted - tf.reduce_sum(tf.where(replicas < number, counts, 0))
    mine = (places >= 0) & (places < own)
    padded = tf.pad(vectors, [[0, 1], [0, 0]])  # so that there is one to gather where a replica has none
    return tf.where(mine[:, tf.newaxis], tf.gather(padded, tf.clip_by_value(places, 0, own)), 0.0)
