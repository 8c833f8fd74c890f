"""Named augmentation policies: pure functions of an image and a seed, so that a run can be repeated.

All randomness of an image comes from one draw of its own seed, hence neither the order in which
threads finish nor the number of epochs before can change it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import numpy as np
import tensorflow as tf

from pipelines import decoding
from pipelines.run import Augmentation
from zoo.core.family import Pixels

Policy = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

_DRAWS = 9  # random numbers an image: 4 for the crop, 1 for the flip, 4 for the colors

# Columns: brightness (Y) and two color differences (I, Q) of red, green and blue (NTSC).
_TO_YIQ = np.array([[0.299, 0.596, 0.211], [0.587, -0.274, -0.523], [0.114, -0.322, 0.312]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)


@dataclass(frozen=True)
class Colors:
    """How far colors may move: factors in 1 - x .. 1 + x; `hue` in turns of the color circle."""

    brightness: float
    contrast: float
    saturation: float = 0.0
    hue: float = 0.0


@dataclass(frozen=True)
class Crop:
    """What part of an image is cut out and resized: share of the area, and width by height."""

    area: tuple[float, float]
    aspect: tuple[float, float]


_COLORS = {"light": Colors(0.1, 0.1), "standard": Colors(0.25, 0.25, 0.25, 0.02)}
_STANDARD_CROP = Crop(area=(0.35, 1.0), aspect=(3 / 4, 4 / 3))


def policy(name: Augmentation, pixels: Pixels, *, flip: bool) -> Policy:
    """The function (image, seed) -> image of a named policy.

    It takes what `decoding.scaled` gives, (H, W, 3) in 0..255, and a seed of two int32; it gives
    (h, w, 3) float32, 0..255.

    - none: the center crop that evaluation sees, never mirrored;
    - light: a crop of the model's size anywhere, mirrored, brightness and contrast within 10 %;
    - standard: a crop of 35 to 100 % of the area, resized, mirrored, all colors.

    Raises:
        ValueError: there is no policy of this name.
    """
    if name not in get_args(Augmentation):
        raise ValueError(f"No augmentation policy named {name!r}; there are {', '.join(get_args(Augmentation))}.")
    if name == "none":
        return lambda image, seed: decoding.resize_and_crop(image, pixels)

    def augment(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        draws = tf.random.stateless_uniform([_DRAWS], seed)
        if name == "light":
            image = random_crop(image, draws[:2], shape=pixels.shape)
        else:
            image = random_resized_crop(image, draws[:4], pixels=pixels, crop=_STANDARD_CROP)
        if flip:
            image = tf.cond(draws[4] < 0.5, lambda: tf.reverse(image, [1]), lambda: image)
        return recolored(image, draws[5:], colors=_COLORS[name])

    return augment


def random_crop(image: tf.Tensor, draws: tf.Tensor, *, shape: tuple[int, int]) -> tf.Tensor:
    """A window of `shape` pixels anywhere in the image; two draws in 0..1 say where."""
    room = tf.shape(image)[:2] - shape
    top, left = tf.unstack(tf.cast(draws * tf.cast(room + 1, tf.float32), tf.int32))
    # Not tf.image's: its checks have tf.data compute one image at a time where operations are to be deterministic.
    window = tf.ensure_shape(image[top : top + shape[0], left : left + shape[1]], (*shape, 3))
    return tf.cast(window, tf.float32)


def random_resized_crop(image: tf.Tensor, draws: tf.Tensor, *, pixels: Pixels, crop: Crop) -> tf.Tensor:
    """A part of the image, resized to the model's size; four draws: area, aspect, top and left."""
    shape = tf.cast(tf.shape(image)[:2], tf.float32)
    area = _between(draws[0], *crop.area) * shape[0] * shape[1]
    aspect = tf.exp(_between(draws[1], math.log(crop.aspect[0]), math.log(crop.aspect[1])))
    part = tf.minimum(tf.sqrt(tf.stack([area / aspect, area * aspect])), shape)
    scale = tf.constant(pixels.shape, tf.float32) / part
    offset = draws[2:] * (shape - part) * scale
    return decoding.resample(image, pixels, scale=scale, offset=offset, shape=pixels.shape)


def recolored(image: tf.Tensor, draws: tf.Tensor, *, colors: Colors) -> tf.Tensor:
    """The image in slightly other colors, 0..255; four draws: brightness, contrast, saturation, hue.

    Saturation scales and hue turns the plane of color differences (I and Q of YIQ); contrast
    stretches about the mean brightness. All of it is one 3 x 3 matrix and one offset.
    """
    ranges = (colors.brightness, colors.contrast, colors.saturation)
    brightness, contrast, saturation = (_between(draws[i], 1 - x, 1 + x) for i, x in enumerate(ranges))
    angle = 2 * math.pi * _between(draws[3], -colors.hue, colors.hue)
    turn = saturation * tf.stack([tf.cos(angle), tf.sin(angle), -tf.sin(angle), tf.cos(angle)])
    chroma = tf.pad(tf.reshape(turn, (2, 2)), [[1, 0], [1, 0]]) + tf.linalg.diag([1.0, 0.0, 0.0])
    matrix = tf.constant(_TO_YIQ, tf.float32) @ chroma @ tf.constant(_FROM_YIQ, tf.float32)
    gray = tf.reduce_sum(_mean_color(image) * tf.constant(_TO_YIQ[:, 0], tf.float32))
    image = tf.tensordot(image, brightness * contrast * matrix, 1) + brightness * (1 - contrast) * gray
    return tf.clip_by_value(image, 0, 255)


def _mean_color(image: tf.Tensor) -> tf.Tensor:
    """The mean of an image's colors in whole numbers, (3,): their sums are exact, by however many threads."""
    rows = tf.reduce_sum(tf.round(image), axis=1)
    total = tf.reduce_sum(tf.cast(rows, tf.float64), axis=0)
    return tf.cast(total / tf.cast(tf.reduce_prod(tf.shape(image)[:2]), tf.float64), tf.float32)


def _between(draw: tf.Tensor, low: float, high: float) -> tf.Tensor:
    """A draw in 0..1 stretched to low..high."""
    return low + (high - low) * draw
