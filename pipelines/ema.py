"""A moving average of a model's weights, for evaluation and export.

It changes less from step to step than the weights do, and is often better: https://arxiv.org/abs/1803.05407.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf


class MovingAverage:
    """The average of all weights of a model as it is now, statistics of normalizations included.

    Of a model that names a part of it as `averaged`, it is that of the part's weights.
    Made, like the model, in the scope of its strategy, anew for each phase, since a phase begins from the best weights
    of those before. After n updates the decay is `decay`, or (1 + n) / (10 + n) while that is less: it forgets what
    it began with.
    """

    def __init__(self, model: keras.Model, decay: float):
        if not 0 < decay < 1:
            raise ValueError(f"MovingAverage(decay={decay}) must be over 0 and under 1, such as 0.999.")
        self._decay, self._strategy = decay, model.distribute_strategy
        part = getattr(model, "averaged", model)
        self._weights = [weight for weight in part.weights if keras.backend.is_float_dtype(weight.dtype)]
        with self._strategy.scope():
            self._count = _variable(np.zeros((), "int64"), "count")
            self._averages = [_variable(_value(weight), weight.path) for weight in self._weights]

    @property
    def variables(self) -> list[keras.Variable]:
        """All of its state, in an order that is always the same."""
        return [self._count, *self._averages]

    def update(self) -> None:
        """Move toward the weights as they are; in a cross-replica context, in a graph or not."""
        count = tf.convert_to_tensor(self._count.value) + 1
        done = tf.cast(count, tf.float32)
        rest = 1 - tf.minimum(self._decay, (1 + done) / (10 + done))
        self._count.assign(count)
        for average, weight in zip(self._averages, self._weights, strict=True):
            now = tf.cast(tf.convert_to_tensor(weight.value), average.dtype)  # over all replicas, where they differ
            old = tf.convert_to_tensor(average.value)
            average.assign(old + tf.cast(rest, old.dtype) * (now - old))

    @contextlib.contextmanager
    def in_model(self) -> Iterator[None]:
        """Within, the model's weights are the averages; after it, whatever happens, they are what they were.

        Between, the model is not to be trained, nor the state of a training to be saved.
        """
        before = [_value(weight) for weight in self._weights]
        try:
            _assign(self._weights, [_value(average) for average in self._averages])
            yield
        finally:
            _assign(self._weights, before)


def _variable(value: np.ndarray, path: str) -> keras.Variable:
    """In float32 at least: a half-precision average would not move any more."""
    wide = np.result_type(value.dtype, np.float32) if value.dtype.kind != "i" else value.dtype
    name = path.replace("/", "_")
    return keras.Variable(value.astype(wide), trainable=False, dtype=str(wide), name=f"average_{name}")


def _value(variable: keras.Variable) -> np.ndarray:
    return np.array(keras.ops.convert_to_numpy(variable))


def _assign(variables: list[keras.Variable], values: list[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
