"""Layers that act in training only."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable("zoo")
class StochasticDepth(keras.layers.Dropout):
    """Drops a residual branch for whole images, and scales it by 1 / (1 - rate) for the others.

    Paper: https://arxiv.org/abs/1603.09382. Give it the branch before it is added, of any rank:
    (B, ...) -> (B, ...). In inference it does nothing.
    """

    def build(self, shape):
        self.noise_shape = (None, *(1 for _ in shape[1:]))
        super().build(shape)
