"""Multi-layer perceptron on the pixels of small images. Paper: https://doi.org/10.1038/323533a0.

Differs from the paper: ReLU between the layers, and any number of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
from keras import layers

from zoo.core.family import Family, Pixels, Task
from zoo.layers.heads import logits
from zoo.layers.pixels import image_input


@dataclass(frozen=True)
class Config:
    """Hidden layers, and the images that are flattened."""

    widths: tuple[int, ...] = (512, 512)  # units of each hidden layer
    activation: str = "relu"
    dropout: float = 0.0  # after each hidden layer
    pixels: Pixels = Pixels(size=28, crop=1.0, mean=(127.5,) * 3, std=(127.5,) * 3)


def build(config: Config, *, task: Task, classes: int, name: str) -> keras.Model:
    """(B, H, W, 3) -> logits (B, classes)."""
    image, x = image_input(config.pixels)
    x = layers.Flatten(name="stem_flatten")(x)
    for block, width in enumerate(config.widths):
        x = layers.Dense(width, name=f"block{block}_dense")(x)
        x = layers.Activation(config.activation, name=f"block{block}_act")(x)
        if config.dropout:
            x = layers.Dropout(config.dropout, name=f"block{block}_dropout")(x)
    return keras.Model(image, logits(x, classes), name=name)


FAMILY = Family(
    paper="https://doi.org/10.1038/323533a0",
    build=build,
    tasks=("classify",),
    classes=10,
    variants={"mlp": Config()},
)
