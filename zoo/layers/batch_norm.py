"""Batch normalization that takes half of Keras' time, for the same numbers."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable("zoo")
class BatchNormalization(keras.layers.BatchNormalization):
    """keras.layers.BatchNormalization over the last axis: (..., C) -> (..., C).

    The same arithmetic in fewer passes over the feature map. In training, sums over positions are products with
    a vector of ones, and the gradient is the closed formula rather than that of each operation. In inference,
    the product with a number for each channel is a depthwise convolution, which takes the sum and the activation
    after it along.
    """

    def call(self, inputs, training=None, mask=None):
        if not training and len(inputs.shape) == 4 and self.compute_dtype == "float32" and mask is None:
            slope, offset = self.line()
            return ops.add(ops.depthwise_conv(inputs, ops.reshape(slope, (1, 1, -1, 1))), offset)
        if not (training and self.trainable) or self.synchronized or mask is not None:
            return super().call(inputs, training=training, mask=mask)
        x = ops.cast(inputs, "float32")  # half precision has no room for the sums
        mean = ops.stop_gradient(_mean(x))
        variance = ops.stop_gradient(_mean(ops.square(x - mean)))
        self._follow(self.moving_mean, mean)
        self._follow(self.moving_variance, variance)
        inverse = ops.rsqrt(variance + self.epsilon)
        slope, offset = self._line(mean, inverse)
        return ops.cast(_normalize(x, slope, offset, mean, inverse), self.compute_dtype)

    def line(self):
        """What it does while its statistics are fixed: x * slope + offset, both (C,)."""
        return self._line(self.moving_mean, ops.rsqrt(self.moving_variance + self.epsilon))

    def _line(self, mean, inverse):
        slope = inverse * self.gamma if self.scale else inverse
        return slope, (self.beta if self.center else 0.0) - mean * slope

    def _follow(self, moving, value) -> None:
        moving.assign(moving * self.momentum + value * (1.0 - self.momentum))


@ops.custom_gradient
def _normalize(x, slope, offset, mean, inverse):
    """x * slope + offset, with the gradient of x through its own mean and standard deviation (1 / inverse)."""

    def gradient(*upstreams, upstream=None):
        (up,) = upstreams if upstream is None else (upstream,)
        to_slope, to_offset = _sum(ops.multiply(up, x)), _sum(up)
        positions = ops.cast(ops.size(x) / x.shape[-1], "float32")
        by_x = -slope * ops.square(inverse) * (to_slope - mean * to_offset) / positions
        constant = -slope * to_offset / positions - by_x * mean
        to_x = ops.add(ops.multiply(up, slope), ops.add(ops.multiply(x, by_x), constant))
        return to_x, to_slope, to_offset, ops.zeros_like(mean), ops.zeros_like(inverse)

    return ops.add(ops.multiply(x, slope), offset), gradient


def _sum(x):
    """The sum over all positions: (..., C) -> (C,)."""
    rows = ops.reshape(x, (-1, x.shape[-1]))
    return ops.reshape(ops.matmul(ops.ones((1, ops.shape(rows)[0])), rows), (-1,))


def _mean(x):
    return _sum(x) / ops.cast(ops.size(x) / x.shape[-1], "float32")
