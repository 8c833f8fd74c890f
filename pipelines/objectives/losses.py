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


@keras.saving.register_keras_serializable("zoo")
class CrossEntropy(WeightedMean):
    """Of class numbers (B, ...) or shares of classes (B, ..., classes), and logits (B, ..., classes).

    With smoothing s every class gets s / classes of the target, and the right one 1 - s besides. `weights` (classes)
    multiply each class's part of the loss; what is divided by is the number of examples, not the sum of their weights,
    so that a batch without a rare class counts less. With a `focus` f it is the focal loss
    (https://arxiv.org/abs/1708.02002): each part is multiplied by (1 - p)**f, and what is known already counts less.
    """

    def __init__(self, *, smoothing: float = 0.0, weights: Sequence[float] | None = None, focus: float = 0.0):
        super().__init__("focal" if focus else "cross_entropy")
        self._smoothing, self._weights, self._focus = smoothing, weights, focus

    def get_config(self):
        return {"smoothing": self._smoothing, "weights": self._weights, "focus": self._focus}

    def call(self, y_true, y_pred):
        soft = is_soft(y_true, y_pred)
        if not soft and self._weights is None and not self._focus:
            right = cross_entropies(y_true, y_pred)
            if not self._smoothing:
                return right
            spread = ops.logsumexp(y_pred, axis=-1) - ops.mean(y_pred, axis=-1)  # the mean over all classes
            return (1 - self._smoothing) * right + self._smoothing * spread
        shares = _smoothed(y_true if soft else _one_hot(y_true, y_pred), self._smoothing, of=y_pred.shape[-1])
        logs = ops.log_softmax(y_pred, axis=-1)
        parts = -shares * logs * _focused(ops.exp(logs), self._focus)
        return ops.sum(parts if self._weights is None else parts * _constant(self._weights, parts), axis=-1)


@keras.saving.register_keras_serializable("zoo")
class BinaryCrossEntropy(WeightedMean):
    """Of marks (B, ..., classes), 0 to 1, or class numbers (B, ...), and logits (B, ..., classes); a mean over classes.

    Each class is a question of its own, so that several can hold, or none. Smoothing, weights and focus are as in
    CrossEntropy; a mark of 0 or 1 is smoothed toward a half. `positive` (classes) multiply the part of a class that
    holds, against that of one that does not.
    """

    def __init__(
        self,
        *,
        smoothing: float = 0.0,
        weights: Sequence[float] | None = None,
        focus: float = 0.0,
        positive: Sequence[float] | None = None,
    ):
        super().__init__("binary_focal" if focus else "binary_cross_entropy")
        self._smoothing, self._weights, self._focus, self._positive = smoothing, weights, focus, positive

    def get_config(self):
        known = {"smoothing": self._smoothing, "weights": self._weights, "focus": self._focus}
        return {**known, "positive": self._positive}

    def call(self, y_true, y_pred):
        marks = _smoothed(y_true if is_soft(y_true, y_pred) else _one_hot(y_true, y_pred), self._smoothing, of=2)
        yes, no = ops.log_sigmoid(y_pred), ops.log_sigmoid(-y_pred)
        parts = -marks * yes * _focused(ops.exp(yes), self._focus)
        parts = parts if self._positive is None else parts * _constant(self._positive, parts)
        parts -= (1 - marks) * no * _focused(ops.exp(no), self._focus)
        return ops.mean(parts if self._weights is None else parts * _constant(self._weights, parts), axis=-1)


def cross_entropies(y_true, y_pred):
    """Of class numbers (B, ...) or (B, ..., 1), and logits (B, ..., classes): (B, ...) float32, in nats.

    Keras' own takes three times as long for a vocabulary of 50,000 where ops are to be deterministic: the gradient of
    what it gathers from a log-softmax is scattered. Here the gradient is softmax less one-hot, in one go.
    """
    logits = tf.cast(y_pred, tf.float32)
    numbers = tf.reshape(tf.cast(y_true, tf.int32), tf.shape(logits)[:-1])

    @tf.custom_gradient
    def losses(logits):
        logs = tf.nn.log_softmax(logits)

        def gradient(upstream):
            return upstream[..., None] * (tf.exp(logs) - tf.one_hot(numbers, logits.shape[-1]))

        return -tf.gather(logs, numbers, batch_dims=len(logits.shape) - 1), gradient

    return losses(logits)


def is_soft(y_true, y_pred) -> bool:
    """Whether targets hold a share of each class rather than the number of one."""
    return len(y_true.shape) == len(y_pred.shape) and y_true.shape[-1] == y_pred.shape[-1]


def _one_hot(y_true, y_pred):
    """Class numbers (B, ...) or (B, ..., 1) as shares (B, ..., classes)."""
    numbers = ops.reshape(ops.cast(y_true, "int32"), ops.shape(y_pred)[:-1])
    return ops.one_hot(numbers, y_pred.shape[-1], dtype=y_pred.dtype)


def _smoothed(shares, smoothing: float, *, of: int):
    return (1 - smoothing) * shares + smoothing / of if smoothing else shares


def _focused(probability, focus: float):
    """(1 - p)**focus, whose slope is finite at p = 1 for every focus."""
    return ops.maximum(1 - probability, 1e-7) ** focus if focus else 1.0


def _constant(values: Sequence[float], like):
    return ops.cast(ops.convert_to_tensor(values), like.dtype)


@keras.saving.register_keras_serializable("zoo")
class Deviation(WeightedMean):
    """Of numbers (B, ..., K) and their predictions: squared, absolute or Huber's, in units of `scale` (K)."""

    def __init__(self, kind: ValueLoss, scale: Sequence[float]):
        super().__init__(kind)
        self._kind, self._scale = kind, tuple(scale)

    def get_config(self):
        return {"kind": self._kind, "scale": self._scale}

    def call(self, y_true, y_pred):
        size = ops.abs(ops.reshape(y_true, ops.shape(y_pred)) - y_pred) / ops.convert_to_tensor(self._scale, self.dtype)
        values = {
            "mse": lambda: ops.square(size),
            "mae": lambda: size,
            "huber": lambda: ops.where(size <= 1, 0.5 * ops.square(size), size - 0.5),
        }[self._kind]()
        return ops.mean(values, axis=tuple(range(1, len(values.shape))))


@keras.saving.register_keras_serializable("zoo")
class SpanCrossEntropy(WeightedMean):
    """Of marks (B, T, 2) and logits (B, T, 2): over the tokens of a text, once for the start and once for the end.

    A mark is 1 at the start or the end, 0 at other tokens of the text, and -1 where no answer can be.
    """

    def __init__(self) -> None:
        super().__init__("span_cross_entropy")

    def get_config(self):
        return {}

    def call(self, y_true, y_pred):
        log_probabilities = ops.log_softmax(within(y_true, y_pred), axis=1)
        return -ops.mean(ops.sum(ops.where(y_true > 0, log_probabilities, 0.0), axis=1), axis=-1)


def within(marks, logits):
    """The logits (B, T, 2), very small where the marks say that no answer can be."""
    return ops.where(marks < 0, ops.cast(NOWHERE, logits.dtype), logits)
