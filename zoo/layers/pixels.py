"""The layer through which every vision model takes raw pixels."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

import keras
from keras import ops

from zoo.core.family import Pixels

_LUMA = (0.299, 0.587, 0.114)


@keras.saving.register_keras_serializable("zoo")
class PixelInput(keras.layers.Layer):
    """Normalizes RGB in 0..255, and carries the size and crop that the checkpoint expects.

    (B, H, W, C) float32 or uint8 -> (B, H, W, C), where C is `pixels.channels`; of three channels
    and a mean for one, their grey by the luma of ITU-R 601, (B, H, W, 1). More channels than means
    take these in turn, one channel takes the mean of them. Always computes in float32: 0..255 does
    not fit a half-precision mantissa.
    """

    def __init__(self, pixels: Pixels | dict[str, Any], **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.pixels = _pixels(**pixels) if isinstance(pixels, dict) else pixels

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        x = ops.cast(x, "float32")
        if _is_grey(self.pixels):
            x = ops.sum(x * ops.convert_to_tensor(_LUMA, "float32"), axis=-1, keepdims=True)
        mean, std = (_for_each_channel(values, self.pixels) for values in (self.pixels.mean, self.pixels.std))
        return (x - mean) / std

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*shape[:-1], 1 if _is_grey(self.pixels) else self.pixels.channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pixels": dataclasses.asdict(self.pixels)}


def _is_grey(pixels: Pixels) -> bool:
    """Whether color is asked for and one channel is computed with."""
    return pixels.channels == len(_LUMA) and len(pixels.mean) == 1


def _for_each_channel(values: tuple[float, ...], pixels: Pixels) -> keras.KerasTensor:
    """A mean or std for every channel."""
    if pixels.channels == 1:
        values = (sum(values) / len(values),)
    elif not _is_grey(pixels):
        values = tuple(itertools.islice(itertools.cycle(values), pixels.channels))
    return ops.convert_to_tensor(values, "float32")


def _pixels(size: Any, mean: Iterable[float], std: Iterable[float], **rest: Any) -> Pixels:
    """Pixels from a layer's JSON config, where tuples have become lists."""
    return Pixels(size=size if isinstance(size, int) else tuple(size), mean=tuple(mean), std=tuple(std), **rest)


@keras.saving.register_keras_serializable("zoo")
class PixelOutput(keras.layers.Layer):
    """Turns what PixelInput makes of an image back into one: (B, H, W, C) -> (B, H, W, C) in 0..255, float32.

    With `clipped` nothing is below 0 or above 255; what a tanh or a sigmoid gives does not need it.
    """

    def __init__(self, pixels: Pixels | dict[str, Any], *, clipped: bool = False, **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.pixels = _pixels(**pixels) if isinstance(pixels, dict) else pixels
        self.clipped = clipped

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        mean, std = (_for_each_channel(values, self.pixels) for values in (self.pixels.mean, self.pixels.std))
        x = ops.cast(x, "float32") * std + mean
        return ops.clip(x, 0.0, 255.0) if self.clipped else x

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pixels": dataclasses.asdict(self.pixels), "clipped": self.clipped}


def image_input(pixels: Pixels, *, tower: str = "") -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """The model's input, (B, H, W, 3) RGB 0..255 or as many channels as `pixels` says, and the same normalized.

    `tower` stands before the layer's name: "image." in models that take texts too.
    """
    image = keras.Input((*pixels.shape, pixels.channels), name="image")
    return image, PixelInput(pixels, name=f"{tower}stem_pixels")(image)


def pixels_of(model: keras.Model) -> Pixels:
    """How the images of a model must look, or, of a generator, do look.

    Raises:
        ValueError: the model has neither a PixelInput nor a PixelOutput layer.
    """
    for layer in model.layers:
        if isinstance(layer, PixelInput | PixelOutput):
            return layer.pixels
    raise ValueError(
        f"{model.name!r} has no PixelInput layer, so it does not say what images it takes. "
        "Give the size yourself, or build the model with zoo.create."
    )
