"""The classifier of networks older than global pooling: two wide dense layers on a flattened map."""

from __future__ import annotations

from keras import layers

from zoo.layers.heads import logits


def dense_head(x, classes: int, *, width: int, dropout: float, dropout_first: bool):
    """Two dense layers with ReLU and dropout, and the logits: (B, h, w, C) -> (B, classes).

    Dropout comes before each dense layer (`dropout_first`) or after each.
    """
    x = layers.Flatten(name="head_flatten")(x)
    for index in (1, 2):
        if dropout and dropout_first:
            x = layers.Dropout(dropout, name=f"head_dropout{index}")(x)
        x = layers.Dense(width, name=f"head_dense{index}")(x)
        x = layers.Activation("relu", name=f"head_act{index}")(x)
        if dropout and not dropout_first:
            x = layers.Dropout(dropout, name=f"head_dropout{index}")(x)
    return logits(x, classes)


def pooled_to(x, height: int, width: int, *, name: str = "head_adapt"):
    """Averages of height x width windows, as torch's adaptive pooling: (B, H, W, C) -> (B, height, width, C).

    The windows overlap where the sides do not divide, and repeat where the map is smaller.
    """
    repeats = tuple(cells if side == 1 else 1 for side, cells in zip(x.shape[1:3], (height, width), strict=True))
    if max(repeats) > 1:  # Keras' pooling fails in a graph where a side is 1
        x = layers.UpSampling2D(repeats, name=f"{name}_repeat")(x)
    if x.shape[1:3] == (height, width):
        return x
    return layers.AdaptiveAveragePooling2D((height, width), name=name)(x)
