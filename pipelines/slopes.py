"""A network as it is for a loss of its own gradient, such as a gradient penalty: the same numbers in fewer steps."""

from __future__ import annotations

import keras
import tensorflow as tf


class _Bent(keras.layers.Layer):
    """keras.layers.LeakyReLU, (...) -> (...), with slopes that are constants to a gradient.

    TensorFlow's own has a second derivative, of zeros, which then go back through all layers below it.
    """

    def __init__(self, negative_slope: float, **options):
        super().__init__(**options)
        self.negative_slope = negative_slope

    def call(self, inputs):
        slopes = tf.where(inputs > 0, tf.ones((), inputs.dtype), tf.constant(self.negative_slope, inputs.dtype))
        return inputs * slopes


def for_slopes(model: keras.Model) -> keras.Model:
    """The same functional network, of the same layers and weights, but for its activations.

    Its outputs and all its derivatives are those of `model`; a derivative of its gradient takes less time.
    """

    def layer_of(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.layers.LeakyReLU):
            return _Bent(layer.negative_slope, name=layer.name, dtype=layer.dtype_policy)
        return layer

    return keras.models.clone_model(model, clone_function=layer_of)
