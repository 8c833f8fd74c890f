"""The classifier at the end of an image model."""

from __future__ import annotations

from keras import layers


def logits(x, classes: int):
    """Class logits in float32 whatever the precision of the model: (B, D) -> (B, classes)."""
    return layers.Dense(classes, dtype="float32", name="head_logits")(x)
