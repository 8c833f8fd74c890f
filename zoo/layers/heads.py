"""The classifier at the end of an image model."""

from __future__ import annotations

import keras
from keras import layers


def logits(x, classes: int, *, regularizer: keras.regularizers.Regularizer | None = None):
    """Class logits in float32 whatever the precision of the model: (B, D) -> (B, classes)."""
    return layers.Dense(classes, kernel_regularizer=regularizer, dtype="float32", name="head_logits")(x)
