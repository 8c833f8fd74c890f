"""Spectral normalization: a kernel divided by its largest singular value. Paper: https://arxiv.org/abs/1802.05957."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

_SMALLEST = 1e-12  # of a vector's length


@keras.saving.register_keras_serializable("zoo")
class SpectralConv2D(layers.Conv2D):
    """A convolution with its kernel, as a matrix of outputs by all else, divided by its largest singular value.

    (B, H, W, C) -> (B, H', W', filters). That value is followed by one step of power iteration a training step, as
    torch.nn.utils.spectral_norm does; `left` (filters,) and `right` (h, w, C) are its singular vectors. The gradient
    goes through the division, and the kernel itself stays as it is: Keras' own SpectralNormalization overwrites it.
    """

    def build(self, shape: tuple[int | None, ...]) -> None:
        super().build(shape)
        *into, out = self.kernel.shape
        normal = keras.initializers.RandomNormal(stddev=1.0)
        options: dict[str, Any] = {"trainable": False, "autocast": False, "dtype": "float32"}
        options |= {"initializer": normal, "aggregation": "only_first_replica"}  # all come to the same vectors
        self.left = self.add_weight(name="left", shape=(out,), **options)
        self.right = self.add_weight(name="right", shape=tuple(into), **options)

    def call(self, inputs: keras.KerasTensor, training: bool | None = None) -> keras.KerasTensor:
        kernel = ops.cast(self.kernel, "float32")
        matrix = ops.reshape(kernel, (-1, self.filters))
        right = ops.reshape(self.right, (1, -1))  # a matrix of one row: TFLite multiplies no vectors
        if training and self.trainable:
            fixed = ops.stop_gradient(matrix)
            right = _unit(ops.matmul(ops.reshape(self.left, (1, -1)), ops.transpose(fixed)))
            self.left.assign(ops.reshape(_unit(ops.matmul(right, fixed)), self.left.shape))
            self.right.assign(ops.reshape(right, self.right.shape))
        largest = _length(ops.matmul(_unit(right), matrix))
        scaled = ops.cast(kernel / largest, self.compute_dtype)
        x = self.convolution_op(inputs, scaled)
        return x + ops.cast(self.bias, x.dtype) if self.use_bias else x

    def save_own_variables(self, store) -> None:
        layers.Layer.save_own_variables(self, store)  # a convolution's own would leave out the singular vectors

    def load_own_variables(self, store) -> None:
        layers.Layer.load_own_variables(self, store)


def _length(vector: keras.KerasTensor) -> keras.KerasTensor:
    return ops.maximum(ops.sqrt(ops.sum(vector**2)), _SMALLEST)


def _unit(vector: keras.KerasTensor) -> keras.KerasTensor:
    return vector / _length(vector)
