"""Steps of models with a codebook that is a moving average of what comes to it."""

from __future__ import annotations

import tensorflow as tf

from pipelines.engine import SUM, Batch, Engine
from zoo.layers.latent import noting


class CodebookEngine(Engine):
    """Steps in which a codebook of moving averages moves once, by the whole batch, as it does on one device."""

    def _train_replica(self, batch: Batch, wishes: tf.Tensor) -> tuple[tf.Tensor, ...]:
        with noting() as noted:
            found = super()._train_replica(batch, wishes)
        skipped, context = found[2], tf.distribute.get_replica_context()
        for layer in {id(came.quantizer): came.quantizer for came in noted}.values():
            parts = [(came.counts, came.sums, came.places) for came in noted if came.quantizer is layer]
            sums = context.all_reduce(SUM, [tf.add_n(list(each)) for each in zip(*parts, strict=True)])
            before = [tf.identity(variable.value) for variable in (layer.counts, layer.sums)]
            layer.follow(*sums)
            for variable, value in zip((layer.counts, layer.sums), before, strict=True):
                variable.assign(tf.where(skipped, value, tf.convert_to_tensor(variable.value)))
        return found
