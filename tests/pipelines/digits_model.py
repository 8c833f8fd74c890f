"""A small classifier of handwritten digits, for the tests of export."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

from zoo.core.family import Pixels
from zoo.layers.pixels import image_input

PIXELS = Pixels(size=(16, 16), crop=0.875)
CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "néuf")


@keras.saving.register_keras_serializable("tests")
class Doubled(layers.Layer):
    """A layer of the user's own, which the converter's process must import this module for."""

    def call(self, x):
        return 2 * x


@keras.saving.register_keras_serializable("tests")
class Rolled(layers.Layer):
    """An LSTM that no config shows, so that nobody can unroll it: its int8 calibration ends the process."""

    def build(self, shape):
        self.recurrent = layers.LSTM(4)
        self.recurrent.build(shape)

    def call(self, x):
        return self.recurrent(x)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """The handwritten digits, 16 x 16 pixels, RGB 0..255."""
    data = load_digits()
    grey = np.clip(data.images * 16, 0, 255).astype(np.uint8).repeat(2, axis=1).repeat(2, axis=2)
    return grey[..., np.newaxis].repeat(3, axis=-1), data.target


def convolutional(*, head: layers.Layer | None = None) -> keras.Model:
    image, x = image_input(PIXELS)
    x = layers.Conv2D(16, 3, activation="relu", name="stage1_conv")(x)
    x = layers.DepthwiseConv2D(3, strides=2, name="stage2_conv")(x)
    x = layers.BatchNormalization(name="stage2_bn")(x)
    x = layers.Conv2D(32, 3, activation="relu", name="stage3_conv")(x)
    if head is not None:
        x = head(x)
    return keras.Model(image, layers.Dense(10, dtype="float32", name="head_logits")(layers.Flatten()(x)), name="small")
