"""Losses as means over what counts: padding has the weight 0, and no part in the number that the sum is divided by."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf
from keras import ops

from pipelines.data import ValueLoss

NOWHERE = -1e9  # the logit of a token at which no answer can be


class WeightedMean(keras.losses.Loss):
    """A loss that is the sum of weighted values over the sum of the weights, on several replicas over all of them.

    Keras divides each replica's sum by that replica's weights, so that a token counts more on the replica with less.
    """

    def __init__(self, name: str):
        super().__init__(name, reduction="mean_with_sample_weight")

    def __call__(self, y_true, y_pred, sample_weight=None):
        loss = super().__call__(y_true, y_pred, sample_weight)
        context = tf.distribute.get_replica_context()
        if sample_weight is None or context is None or context.num_replicas_in_sync == 1:
            return loss
        own = ops.sum(ops.cast(sample_weight, loss.dtype))
        together = context.all_reduce(tf.distribute.ReduceOp.SUM, own)
        return loss * ops.divide_no_nan(own * context.num_replicas_in_sync, together)


class CrossEntropy(WeightedMean):
    """Of class numbers (B, ...) and logits (B, ..., classes)."""

    def __init__(self) -> None:
        super().__init__("cross_entropy")

    def call(self, y_true, y_pred):
        return keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)


class Deviation(WeightedMean):
    """Of numbers (B, ..., K) and their predictions: squared, absolute or Huber's, in units of `scale` (K)."""

    def __init__(self, kind: ValueLoss, scale: Sequence[float]):
        super().__init__(kind)
        self._kind, self._scale = kind, tuple(scale)

    def call(self, y_true, y_pred):
        size = ops.abs(ops.reshape(y_true, ops.shape(y_pred)) - y_pred) / ops.convert_to_tensor(self._scale, self.dtype)
        values = {
            "mse": lambda: ops.square(size),
            "mae": lambda: size,
            "huber": lambda: ops.where(size <= 1, 0.5 * ops.square(size), size - 0.5),
        }[self._kind]()
        return ops.mean(values, axis=tuple(range(1, len(values.shape))))


class SpanCrossEntropy(WeightedMean):
    """Of marks (B, T, 2) and logits (B, T, 2): over the tokens of a text, once for the start and once for the end.

    A mark is 1 at the start or the end, 0 at other tokens of the text, and -1 where no answer can be.
    """

    def __init__(self) -> None:
        super().__init__("span_cross_entropy")

    def call(self, y_true, y_pred):
        log_probabilities = ops.log_softmax(within(y_true, y_pred), axis=1)
        return -ops.mean(ops.sum(ops.where(y_true > 0, log_probabilities, 0.0), axis=1), axis=-1)


def within(marks, logits):
    """The logits (B, T, 2), very small where the marks say that no answer can be."""
    return ops.where(marks < 0, ops.cast(NOWHERE, logits.dtype), logits)
