"""The textbook convolutional network: blocks of convolution, ReLU and max pooling, then a dense layer.

Paper: https://doi.org/10.1162/neco.1989.1.4.541.

Differs from the paper: max pooling instead of strides, ReLU unless another activation is asked for, and
logits where textbooks end in a softmax: that is in the loss (from_logits=True) or follows the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
from keras import layers

from zoo.core.family import Family, Pixels, Task
from zoo.layers.heads import logits
from zoo.layers.hidden import Textbook, check_counts, convolution, dense
from zoo.layers.pixels import image_input


@dataclass(frozen=True, kw_only=True)
class Config(Textbook):
    """Blocks, the dense layer, and what stands between the layers."""

    widths: tuple[int, ...] = (32, 64, 128)  # filters of the convolution in each block
    kernel: int = 3
    hidden: int = 512  # units of the dense layer
    dropout: float = 0.5  # after the dense layer
    pixels: Pixels = Pixels(size=32, crop=1.0, mean=(127.5,) * 3, std=(127.5,) * 3)


def build(config: Config, *, task: Task, classes: int, name: str) -> keras.Model:
    """(B, H, W, 3) -> logits (B, classes), or the map (B, H/8, W/8, 128) that the dense layer would flatten.

    Raises:
        ValueError: a width or the kernel is no whole number over 0, or the image is too small for the blocks.
    """
    check_counts(widths=config.widths, kernel=config.kernel, hidden=config.hidden)
    halvings = len(config.widths)
    if min(config.pixels.shape) < 2**halvings:
        height, width = config.pixels.shape
        raise ValueError(
            f"{name!r} halves an image {halvings} times, which takes {2**halvings} pixels on each side; "
            f"got {height}x{width}. Give size={2**halvings} or more, or fewer widths."
        )
    image, x = image_input(config.pixels)
    for stage, filters in enumerate(config.widths, start=1):
        x = convolution(x, filters, config.kernel, name=f"stage{stage}", options=config)
        x = layers.MaxPooling2D(2, name=f"stage{stage}_pool")(x)
    if task == "classify":
        x = layers.Flatten(name="head_flatten")(x)
        x = dense(x, config.hidden, name="head", options=config)
        x = logits(x, classes, regularizer=config.penalty)
    return keras.Model(image, x, name=name)


FAMILY = Family(
    paper="https://doi.org/10.1162/neco.1989.1.4.541",
    build=build,
    classes=10,
    variants={"cnn": Config()},
)
