"""The layer through which every vision model takes raw pixels."""

from __future__ import annotations

import dataclasses

import keras
from keras import ops

from zoo.core.family import Pixels

_LUMA = (0.299, 0.587, 0.114)


@keras.saving.register_keras_serializable("zoo")
class PixelInput(keras.layers.Layer):
    """Normalizes RGB in 0..255, and carries the size and crop that the checkpoint expects.

    (B, H, W, 3) float32 or uint8 -> (B, H, W, C), where C is the length of `pixels.mean`: three
    channels, or one, grey by the luma of ITU-R 601. Always computes in float32: 0..255 does not
    fit a half-precision mantissa.
    """

    def __init__(self, pixels, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.pixels = _pixels(**pixels) if isinstance(pixels, dict) else pixels

    def call(self, x):
        x = ops.cast(x, "float32")
        mean, std = (ops.convert_to_tensor(v, "float32") for v in (self.pixels.mean, self.pixels.std))
        if len(self.pixels.mean) == 1:
            x = ops.sum(x * ops.convert_to_tensor(_LUMA, "float32"), axis=-1, keepdims=True)
        return (x - mean) / std

    def compute_output_shape(self, shape):
        return (*shape[:-1], len(self.pixels.mean))

    def get_config(self):
        return {**super().get_config(), "pixels": dataclasses.asdict(self.pixels)}


def _pixels(size, mean, std, **rest) -> Pixels:
    """Pixels from a layer's JSON config, where tuples have become lists."""
    return Pixels(size=size if isinstance(size, int) else tuple(size), mean=tuple(mean), std=tuple(std), **rest)


def image_input(pixels: Pixels) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """The model's input, (B, H, W, 3) RGB 0..255, and the same normalized."""
    image = keras.Input((*pixels.shape, 3), name="image")
    return image, PixelInput(pixels, name="stem_pixels")(image)


def pixels_of(model: keras.Model) -> Pixels:
    """How the images of a model must look.

    Raises:
        ValueError: the model has no PixelInput layer.
    """
    for layer in model.layers:
        if isinstance(layer, PixelInput):
            return layer.pixels
    raise ValueError(
        f"{model.name!r} has no PixelInput layer, so it does not say what images it takes. "
        "Give the size yourself, or build the model with zoo.create."
    )
