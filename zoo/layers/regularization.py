"""Layers that act in training only."""

from __future__ import annotations

import keras
import numpy as np


def depth_rates(stochastic_depth: float, blocks: int) -> list[float]:
    """The share of images that skip each block: from 0 at the first to `stochastic_depth` at the last.

    Raises:
        ValueError: the last is no share under 1.
    """
    if not 0 <= stochastic_depth < 1:
        raise ValueError(
            f"stochastic_depth={stochastic_depth!r} must be at least 0 and under 1: the share of images that skip the "
            "last block in training."
        )
    return np.linspace(0.0, stochastic_depth, blocks).tolist()


@keras.saving.register_keras_serializable("zoo")
class StochasticDepth(keras.layers.Dropout):
    """Drops a residual branch for whole images, and scales it by 1 / (1 - rate) for the others.

    Paper: https://arxiv.org/abs/1603.09382. Give it the branch before it is added, of any rank:
    (B, ...) -> (B, ...). In inference it does nothing.
    """

    def build(self, shape):
        self.noise_shape = (None, *(1 for _ in shape[1:]))
        super().build(shape)
