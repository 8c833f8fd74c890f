"""How an encoded image becomes pixels: one definition, in TensorFlow operations.

Training, evaluation, prediction and the SavedModel all use it, so they see the same image.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from zoo.core.family import Pixels, Resize

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")

# A training crop needs room to move in, even where evaluation takes the whole image (crop=1).
TRAINING_CROP = 0.875
LUMA = (0.299, 0.587, 0.114)  # of ITU-R 601

_KERNELS = {"bilinear": "triangle", "bicubic": "keyscubic"}  # keyscubic is Pillow's bicubic, a = -0.5
_EXIF_ORIENTATION = 0x0112
_IFD_ENTRY = 12  # bytes


@tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)  # traced once, not for every data set
def decode(encoded: tf.Tensor) -> tf.Tensor:
    """The pixels of one encoded image, (H, W, 3) uint8, upright.

    Takes a scalar string: JPEG (gray, CMYK, any EXIF orientation), PNG (gray, palette, 16 bit; alpha
    is dropped), BMP (8 bit with palette, 24, 32 bit), GIF (first frame) and WebP (not animated).

    Raises:
        tf.errors.InvalidArgumentError: the bytes are damaged or of another kind.
    """
    starts = [
        (b"\xff\xd8\xff", lambda: _decode_jpeg(encoded)),
        (b"GIF8", lambda: tf.io.decode_gif(encoded)[0]),
        (b"BM", lambda: _decode_bmp(encoded)),
        (b"RIFF", lambda: _decode_webp(encoded)),
    ]
    branches = [(tf.strings.substr(encoded, 0, len(magic)) == magic, branch) for magic, branch in starts]
    image = tf.case(branches, default=lambda: tf.io.decode_png(encoded, channels=3))
    return tf.ensure_shape(image, (None, None, 3))


def elements(images: np.ndarray) -> tf.Tensor:
    """`Examples.images` as a tensor of N strings (paths or encoded bytes) or (N, H, W, C) uint8."""
    if images.dtype != object:
        return tf.constant(images)
    return tf.constant([os.fsencode(image) for image in images], tf.string)  # file names may be any bytes


def decoder(images: np.ndarray) -> Callable[[tf.Tensor], tf.Tensor]:
    """The function from one of the `elements` to its pixels, (H, W, 3) uint8."""
    if images.dtype != object:
        return tf.image.grayscale_to_rgb if images.shape[-1] == 1 else tf.identity
    if len(images) and isinstance(images[0], str):
        return lambda path: decode(tf.io.read_file(path))
    return decode


def resize_and_crop(image: tf.Tensor, pixels: Pixels) -> tf.Tensor:
    """The image as evaluation and prediction see it: (H, W, 3) -> (h, w, 3) float32, whole numbers 0..255.

    The short side becomes size / crop, the center is kept: torchvision's and timm's way, which the
    published weights were measured with; of weights that want images squashed each side does, as BLIP's do.
    Whole numbers because theirs, and every uint8 client's, are.
    """
    size = _resized(image, _enlarged(pixels, pixels.crop), pixels.resize)
    top, left = tf.unstack(tf.cast(tf.round((size - pixels.shape) / 2), tf.float32))  # half to even, as Python's round
    down, across = tf.unstack(tf.cast(size, tf.float32) / tf.cast(tf.shape(image)[:2], tf.float32))
    rows, (_, width) = tf.shape(image)[0], pixels.shape
    # Pillow's two passes, since it makes whole numbers in between.
    wide = resample(image, pixels, scale=tf.stack([1, across]), offset=tf.stack([0, left]), shape=[rows, width])
    wide = _half_up(wide)
    return _half_up(resample(wide, pixels, scale=tf.stack([down, 1]), offset=tf.stack([top, 0]), shape=pixels.shape))


def seen(image: tf.Tensor, pixels: Pixels) -> tf.Tensor:
    """The image as a model takes it, RGB or grey: (H, W, 3) -> (h, w, channels) float32, whole numbers 0..255."""
    return in_channels(resize_and_crop(image, pixels), pixels)


def in_channels(image: tf.Tensor, pixels: Pixels) -> tf.Tensor:
    """RGB, or its grey where `pixels` have one channel, by their luma: (..., 3) -> (..., channels) float32."""
    image = tf.cast(image, tf.float32)
    if pixels.channels == 3:
        return image
    return tf.round(tf.reduce_sum(image * tf.constant(LUMA), axis=-1, keepdims=True))


def _half_up(values: tf.Tensor) -> tf.Tensor:
    """The nearest whole numbers, halves as Pillow rounds them."""
    return tf.floor(values + 0.5)


def scaled(image: tf.Tensor, pixels: Pixels) -> tf.Tensor:
    """The image with room around it for a random crop: (H, W, 3) -> (h', w', 3) uint8.

    Both sides cover the model's size with a margin; the proportions are kept, unless the model wants
    images squashed. No side is longer than twice that, so that a panorama does not fill the memory.
    """
    goal = training_size(pixels)
    size = _resized(image, goal, pixels.resize)
    shape = tf.minimum(size, 2 * tf.constant(goal))
    return tf.cast(_window(image, pixels, size=size, offset=(size - shape) // 2, shape=shape), tf.uint8)


def training_size(pixels: Pixels) -> tuple[int, int]:
    """The (height, width) that `scaled` covers."""
    return _enlarged(pixels, min(pixels.crop, TRAINING_CROP))


def resample(
    image: tf.Tensor, pixels: Pixels, *, scale: tf.Tensor, offset: tf.Tensor, shape: Sequence[int] | tf.Tensor
) -> tf.Tensor:
    """A window of the rescaled image, without computing the rest of it: (H, W, 3) -> (*shape, 3) float32.

    `scale` is output pixels per input pixel, `offset` where the window starts in output pixels;
    both are (vertical, horizontal).
    """
    window = tf.raw_ops.ScaleAndTranslate(
        images=image[tf.newaxis],
        size=shape,
        scale=scale,
        translation=-tf.cast(offset, tf.float32),
        kernel_type=_KERNELS[pixels.interpolation],
        antialias=True,
    )[0]
    return tf.clip_by_value(window, 0, 255)  # bicubic overshoots at edges


def _window(
    image: tf.Tensor, pixels: Pixels, *, size: tf.Tensor, offset: tf.Tensor, shape: Sequence[int] | tf.Tensor
) -> tf.Tensor:
    """The image resized to `size` pixels, cut to `shape` at `offset`, in whole numbers."""
    scale = tf.cast(size, tf.float32) / tf.cast(tf.shape(image)[:2], tf.float32)
    return tf.round(resample(image, pixels, scale=scale, offset=offset, shape=shape))


def _enlarged(pixels: Pixels, crop: float) -> tuple[int, int]:
    """(height, width) of which the share `crop` is the model's size."""
    height, width = pixels.shape
    return math.floor(height / crop), math.floor(width / crop)


def _resized(image: tf.Tensor, goal: tuple[int, int], resize: Resize) -> tf.Tensor:
    """The size that an image gets of which the middle `goal` is kept."""
    return tf.constant(goal) if resize == "squash" else _covering(image, goal)


def _covering(image: tf.Tensor, goal: tuple[int, int]) -> tf.Tensor:
    """(height, width) of the smallest resized image that covers `goal`, in the image's own proportions."""
    shape = tf.shape(image)
    by_height = tf.stack([goal[0], shape[1] * goal[0] // shape[0]])
    by_width = tf.stack([shape[0] * goal[1] // shape[1], goal[1]])
    return tf.where(by_height[1] >= goal[1], by_height, by_width)


def _decode_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    # Pillow's and torchvision's DCT; TensorFlow's default is 1.5 gray levels off on average.
    image = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
    turned = _exif_orientation(encoded)
    return tf.cond(turned > 1, lambda: _upright(image, turned), lambda: image)


def _decode_webp(encoded: tf.Tensor) -> tf.Tensor:
    # TensorFlow 2.21 corrupts the heap when asked for all channels of an animation (the bit 2 of the
    # flags), so it gets nothing to read instead.
    flags = tf.io.decode_raw(tf.strings.substr(encoded, 20, 1), tf.uint8)
    animated = (tf.strings.substr(encoded, 12, 4) == b"VP8X") & tf.reduce_any(tf.bitwise.bitwise_and(flags, 2) > 0)
    return tf.image.decode_webp(tf.where(animated, b"", encoded), channels=0)[0, ..., :3]


def _decode_bmp(encoded: tf.Tensor) -> tf.Tensor:
    image = tf.io.decode_bmp(encoded, channels=0)
    return tf.cond(tf.shape(image)[-1] == 1, lambda: _colored(image, encoded), lambda: image[..., :3])


def _colored(indexes: tf.Tensor, encoded: tf.Tensor) -> tf.Tensor:
    """The colors that an 8-bit BMP's pixels stand for: (H, W, 1) -> (H, W, 3)."""
    header = tf.cast(tf.io.decode_raw(tf.strings.substr(encoded, 14, 4), tf.int32), tf.int32)[0]
    start = 14 + header
    pixels_start = tf.io.decode_raw(tf.strings.substr(encoded, 10, 4), tf.int32)[0]
    palette = tf.io.decode_raw(tf.strings.substr(encoded, start, pixels_start - start), tf.uint8)
    palette = tf.reshape(palette[: tf.size(palette) // 4 * 4], (-1, 4))  # blue, green, red, unused
    return tf.reverse(tf.gather(palette[:, :3], tf.cast(indexes[..., 0], tf.int32)), [-1])


def _exif_orientation(jpeg: tf.Tensor) -> tf.Tensor:
    """How the camera was held, 1 (upright) to 8, from a JPEG's EXIF block; 1 where there is none."""
    parts = tf.strings.split(tf.strings.substr(jpeg, 0, 1 << 16), b"Exif\0\0", maxsplit=1)
    found = tf.size(parts) == 2
    return tf.cond(found, lambda: _tiff_orientation(parts[1]), lambda: 1)


def _tiff_orientation(tiff: tf.Tensor) -> tf.Tensor:
    """The orientation in a TIFF header's first directory; 1 where it says none or makes no sense."""
    size = tf.strings.length(tiff)
    # Zeros after the end: what points out of the block reads as 0, which is no tag.
    data = tf.cast(tf.io.decode_raw(tiff + b"\0" * _IFD_ENTRY, tf.uint8), tf.int64)
    little = data[0] == ord("I")

    def number(at: tf.Tensor, width: int) -> tf.Tensor:
        places = tf.range(width, dtype=tf.int64)
        digits = tf.gather(data, tf.clip_by_value(at[..., tf.newaxis] + places, 0, tf.size(data, tf.int64) - 1))
        powers = tf.where(little, places, width - 1 - places)
        return tf.reduce_sum(tf.bitwise.left_shift(digits, 8 * powers), axis=-1)

    directory = number(tf.constant(4, tf.int64), 4)
    room = tf.maximum((tf.cast(size, tf.int64) - directory - 2) // _IFD_ENTRY, 0)
    entries = directory + 2 + _IFD_ENTRY * tf.range(tf.minimum(number(directory, 2), room))
    values = tf.boolean_mask(number(entries + 8, 2), number(entries, 2) == _EXIF_ORIENTATION)
    orientation = tf.cast(tf.concat([values, [1]], axis=0)[0], tf.int32)
    return tf.where((orientation >= 1) & (orientation <= 8), orientation, 1)


def _upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """The image turned and mirrored back from EXIF orientation 1..8; (H, W, 3) or (W, H, 3)."""

    def among(*values: int) -> tf.Tensor:
        return tf.reduce_any(orientation == values)

    image = tf.cond(among(5, 6, 7, 8), lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    image = tf.cond(among(2, 3, 6, 7), lambda: tf.reverse(image, [1]), lambda: image)
    return tf.cond(among(3, 4, 7, 8), lambda: tf.reverse(image, [0]), lambda: image)
