"""LeNet-5. Paper: http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf.

Differs from the paper: every map of the second convolution sees all six maps of the first, pooling
has no weights, tanh is not scaled, and the last layer gives logits rather than distances.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import keras
from keras import layers

from zoo.core.family import Family, Pixels, Task
from zoo.layers.heads import logits
from zoo.layers.pixels import image_input


@dataclass(frozen=True)
class Config:
    """Sizes, and what later users of the network changed."""

    filters: tuple[int, ...] = (6, 16)  # of each 5x5 convolution
    widths: tuple[int, ...] = (120, 84)  # units of each dense layer before the logits
    activation: str = "tanh"
    pooling: Literal["average", "max"] = "average"
    dropout: float = 0.0  # before the logits
    pixels: Pixels = Pixels(size=32, crop=1.0, mean=(127.5,), std=(127.5,))  # one channel: grey


def build(config: Config, *, task: Task, classes: int, name: str) -> keras.Model:
    """(B, H, W, 3) -> logits (B, classes), or the map that the dense layers would flatten."""
    pooling = _pooling(config)
    image, x = image_input(config.pixels)
    for stage, filters in enumerate(config.filters, start=1):
        x = layers.Conv2D(filters, 5, name=f"stage{stage}_conv")(x)
        x = layers.Activation(config.activation, name=f"stage{stage}_act")(x)
        x = pooling(2, name=f"stage{stage}_pool")(x)
    if task == "classify":
        x = layers.Flatten(name="neck_flatten")(x)
        for index, width in enumerate(config.widths, start=1):
            x = layers.Dense(width, name=f"neck_dense{index}")(x)
            x = layers.Activation(config.activation, name=f"neck_act{index}")(x)
        if config.dropout:
            x = layers.Dropout(config.dropout, name="head_dropout")(x)
        x = logits(x, classes)
    return keras.Model(image, x, name=name)


def _pooling(config: Config) -> type[layers.Layer]:
    known = {"average": layers.AveragePooling2D, "max": layers.MaxPooling2D}
    if config.pooling not in known:
        raise ValueError(f"pooling={config.pooling!r} is unknown here. Known: {', '.join(known)}.")
    return known[config.pooling]


FAMILY = Family(
    paper="http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf",
    build=build,
    classes=10,
    variants={"lenet5": Config()},
)
