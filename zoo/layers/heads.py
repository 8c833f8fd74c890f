"""The classifier at the end of a model."""

from __future__ import annotations

import keras
from keras import layers


def logits(x, classes: int, *, bias: bool = True, regularizer: keras.regularizers.Regularizer | None = None):
    """Class logits in float32 whatever the precision of the model: (..., D) -> (..., classes)."""
    head = layers.Dense(classes, use_bias=bias, kernel_regularizer=regularizer, dtype="float32", name="head_logits")
    return head(x)
