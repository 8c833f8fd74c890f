"""Multi-layer perceptron on the pixels of small images. Paper: https://doi.org/10.1038/323533a0.

Differs from the paper: ReLU between the layers unless another activation is asked for, any number of
layers, and logits: the softmax is in the loss (from_logits=True) or follows the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
from keras import layers

from zoo.core.family import Family, Pixels, Task
from zoo.layers.heads import logits
from zoo.layers.hidden import Textbook, check_counts, dense
from zoo.layers.pixels import image_input


@dataclass(frozen=True, kw_only=True)
class Config(Textbook):
    """Hidden layers, what stands between them, and the images that are flattened."""

    widths: tuple[int, ...] = (512, 512)  # units of each hidden layer
    pixels: Pixels = Pixels(size=28, crop=1.0, mean=(127.5,) * 3, std=(127.5,) * 3)


def build(config: Config, *, task: Task, classes: int, name: str) -> keras.Model:
    """(B, H, W, 3) -> logits (B, classes).

    Raises:
        ValueError: a width is no whole number over 0.
    """
    check_counts(widths=config.widths)
    image, x = image_input(config.pixels)
    x = layers.Flatten(name="stem_flatten")(x)
    for block, width in enumerate(config.widths):
        x = dense(x, width, name=f"block{block}", options=config)
    return keras.Model(image, logits(x, classes, regularizer=config.penalty), name=name)


FAMILY = Family(
    paper="https://doi.org/10.1038/323533a0",
    build=build,
    tasks=("classify",),
    classes=10,
    variants={"mlp": Config()},
)
