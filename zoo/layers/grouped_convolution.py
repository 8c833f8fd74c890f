"""Convolution in groups of channels, in the form that trains fast on a CPU."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops

_CHANNELS = 32  # that go into one convolution; fewer leave a CPU idle, more multiply too many zeros


@keras.saving.register_keras_serializable("zoo")
class GroupedConv2D(layers.Conv2D):
    """Conv2D with `groups`, of the same numbers and weights: (B, H, W, C) -> (B, H', W', filters).

    TensorFlow has no gradient of a grouped convolution on CPU, and Keras compiles one that takes a hundred
    times as long as the convolution itself. So groups become separate convolutions; narrow ones share
    one, whose kernel is zero where an output does not see an input.
    """

    def convolution_op(self, inputs, kernel):
        group = inputs.shape[-1] // self.groups  # channels that one output sees
        together = _together(self.groups, group)
        parts = self.groups // together
        seen = np.kron(np.eye(together), np.ones((group, self.filters // self.groups)))
        outputs = []
        for part, weights in zip(ops.split(inputs, parts, -1), ops.split(kernel, parts, -1), strict=True):
            if together > 1:  # not ops.tile, which the converter to TFLite leaves to be computed with every image
                weights = ops.concatenate([weights] * together, axis=2) * ops.cast(seen, weights.dtype)
            outputs.append(super().convolution_op(part, weights))
        return ops.concatenate(outputs, axis=-1)


def _together(groups: int, group: int) -> int:
    """How many groups of so many channels share a convolution: the fewest that fill it and divide them all."""
    fills = (count for count in range(1, groups) if groups % count == 0 and count * group >= _CHANNELS)
    return next(fills, groups)
