"""Steps of models with a codebook that is a moving average of what comes to it."""

from __future__ import annotations

import tensorflow as tf

from pipelines.engine import SUM, Batch, Engine
from zoo.layers.latent import noting


class CodebookEngine(Engine):
    """Steps in which a codebook of moving averages moves once, by the whole batch, as it does on one device.

    Codes that are not in use any more become vectors of the batch.
    """

    def _train_replica(self, batch: Batch, wishes: tf.Tensor) -> tuple[tf.Tensor, ...]:
        with noting() as noted:
            found = super()._train_replica(batch, wishes)
        skipped, context = found[2], tf.distribute.get_replica_context()
        for layer in {id(came.quantizer): came.quantizer for came in noted}.values():
            parts = [came for came in noted if came.quantizer is layer]
            vectors = tf.concat([came.vectors for came in parts], axis=0)
            places = tf.cast(tf.shape(vectors)[0], tf.float32)
            own = [
                tf.reduce_sum(tf.stack(each), axis=0) for each in ([p.counts for p in parts], [p.sums for p in parts])
            ]
            others = _spread(vectors, layer.codes)
            *came, others = context.all_reduce(SUM, [*own, places, others])
            before = [tf.identity(variable.value) for variable in (layer.counts, layer.sums)]
            layer.follow(*came)
            layer.restart(others)
            for variable, value in zip((layer.counts, layer.sums), before, strict=True):
                variable.assign(tf.where(skipped, value, tf.convert_to_tensor(variable.value)))
        return found


def _spread(vectors: tf.Tensor, count: int) -> tf.Tensor:
    """A replica's part in so many vectors of the whole batch, evenly spread: (N, D) -> (count, D), 0 where others' are.

    Every replica has N of them, those of the first come first.
    """
    context = tf.distribute.get_replica_context()
    own = tf.shape(vectors)[0]
    wanted = tf.range(count) * (own * context.num_replicas_in_sync) // count
    places = wanted - tf.cast(context.replica_id_in_sync_group, tf.int32) * own
    mine = (places >= 0) & (places < own)
    return tf.where(mine[:, tf.newaxis], tf.gather(vectors, tf.clip_by_value(places, 0, own - 1)), 0.0)
