import io
import math
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images

from pipelines import decoding
from tests.pipelines.pictures import encoded, pattern
from zoo.core.family import Pixels

RGB = pattern()
GRAY = Image.fromarray(RGB).convert("L")
PALETTE = Image.fromarray(RGB).convert("P")
RGBA = np.dstack([RGB, RGB[..., 0]])

# Kinds that Pillow converts to RGB in the way that we want.
AS_PILLOW = {
    "jpeg": encoded(RGB, "JPEG", quality=95),
    "jpeg progressive": encoded(RGB, "JPEG", progressive=True),
    "jpeg gray": encoded(GRAY, "JPEG"),
    "jpeg cmyk": encoded(Image.fromarray(RGB).convert("CMYK"), "JPEG"),
    "png": encoded(RGB, "PNG"),
    "png gray": encoded(GRAY, "PNG"),
    "png gray alpha": encoded(GRAY.convert("LA"), "PNG"),
    "png alpha": encoded(RGBA, "PNG"),
    "png palette": encoded(PALETTE, "PNG"),
    "png one bit": encoded(GRAY.convert("1"), "PNG"),
    "bmp 24": encoded(RGB, "BMP"),
    "bmp 32": encoded(RGBA, "BMP"),
    "bmp gray": encoded(GRAY, "BMP"),
    "bmp palette": encoded(PALETTE, "BMP"),
    "gif": encoded(PALETTE, "GIF"),
    "gif animated": encoded(PALETTE, "GIF", save_all=True, append_images=[Image.fromarray(255 - RGB).convert("P")]),
    "webp": encoded(RGB, "WEBP", quality=90),
    "webp alpha": encoded(RGBA, "WEBP", lossless=True, exact=True),
}
BROKEN = {
    "empty": b"",
    "text": b"these are not pixels",
    "jpeg cut": AS_PILLOW["jpeg"][:-200],
    "png cut": AS_PILLOW["png"][:-200],
    "bmp cut": AS_PILLOW["bmp palette"][:-200],
    "gif cut": AS_PILLOW["gif"][:-200],
    "webp cut": AS_PILLOW["webp"][:-200],
    "webp header": b"RIFF",
    "webp animated": encoded(RGB, "WEBP", save_all=True, append_images=[Image.fromarray(255 - RGB)]),
    "bmp header": b"BM",
}


@pytest.fixture(scope="module")
def decode():
    """`decoding.decode` as the SavedModel and tf.data run it: traced."""
    return tf.function(decoding.decode, input_signature=[tf.TensorSpec((), tf.string)])


@pytest.mark.parametrize("kind", AS_PILLOW)
def test_every_kind_gives_the_pixels_that_pillow_gives(decode, kind):
    wanted = Image.open(io.BytesIO(AS_PILLOW[kind])).convert("RGB")
    np.testing.assert_array_equal(decode(AS_PILLOW[kind]), np.asarray(wanted))


def test_sixteen_bit_png_keeps_the_high_byte(decode):
    deep = RGB[..., 0].astype(np.uint16) * 256 + 77
    np.testing.assert_array_equal(decode(encoded(deep, "PNG")), np.repeat(RGB[..., :1], 3, axis=-1))


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_bytes_are_an_error(decode, kind):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(BROKEN[kind])


def oriented(orientation: int, *, order: str = "<", tags_before: int = 0, length: int | None = None) -> bytes:
    """A JPEG with an EXIF block of our own making, so that it can also be a damaged one."""
    header = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8)
    tags = [struct.pack(order + "HHII", 0x010F + i, 4, 1, 6) for i in range(tags_before)]
    tags.append(struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0))
    block = b"Exif\0\0" + (header + struct.pack(order + "H", len(tags)) + b"".join(tags) + b"\0" * 4)[:length]
    jpeg = AS_PILLOW["jpeg"]
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honored(decode, orientation, order):
    jpeg = oriented(orientation, order=order, tags_before=orientation % 3)
    wanted = ImageOps.exif_transpose(Image.open(io.BytesIO(jpeg)))
    np.testing.assert_array_equal(decode(jpeg), np.asarray(wanted))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(decode, orientation):
    np.testing.assert_array_equal(decode(oriented(orientation)), decode(AS_PILLOW["jpeg"]))


@pytest.mark.parametrize("length", range(0, 19, 3))  # the orientation stands at 18
def test_a_cut_exif_block_turns_nothing(decode, length):
    np.testing.assert_array_equal(decode(oriented(6, length=length)), decode(AS_PILLOW["jpeg"]))


def test_exif_noise_never_fails(decode):
    generator = np.random.default_rng(0)
    good, start = oriented(6, tags_before=2), AS_PILLOW["jpeg"][:2] + b"\xff\xe1??Exif\0\0"
    shapes = set()
    for _ in range(200):
        noisy = bytearray(good)
        for place in generator.integers(len(start), len(start) + 50, size=4):
            noisy[place] = generator.integers(256)
        shapes.add(tuple(decode(bytes(noisy)).shape))
    assert shapes == {(20, 30, 3), (30, 20, 3)}  # upright where the noise hit the tag, turned where not


def test_a_saved_model_reads_a_rotated_jpeg(tmp_path):
    pixels = Pixels(size=16)
    module = tf.Module()
    module.read = tf.function(
        lambda encoded: tf.map_fn(
            lambda one: decoding.resize_and_crop(decoding.decode(one), pixels),
            encoded,
            fn_output_signature=tf.TensorSpec((16, 16, 3), tf.float32),
        ),
        input_signature=[tf.TensorSpec((None,), tf.string)],
    )
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    jpeg = oriented(6)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(jpeg))))
    wanted = [decoding.resize_and_crop(upright, pixels), decoding.resize_and_crop(RGB, pixels)]
    np.testing.assert_array_equal(loaded.read([jpeg, AS_PILLOW["png"]]), wanted)


def resized_by_pillow(image: np.ndarray, pixels: Pixels) -> np.ndarray:
    """torchvision's Resize and CenterCrop, on Pillow."""
    side, goal = pixels.size, math.floor(pixels.size / pixels.crop)
    height, width = image.shape[:2]
    size = (goal, int(goal * height / width)) if width <= height else (int(goal * width / height), goal)
    kind = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[pixels.interpolation]
    picture = Image.fromarray(image).resize(size, kind)
    left, top = (round((long - side) / 2) for long in size)
    return np.asarray(picture.crop((left, top, left + side, top + side)), np.float32)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "crop"), [(224, 0.875), (224, 0.9), (299, 1.0), (512, 0.875)])
@pytest.mark.parametrize("photo", [0, 1])
@pytest.mark.parametrize("turned", [False, True])
def test_resizing_agrees_with_pillow(photo, size, crop, interpolation, turned):
    image = load_sample_images().images[photo]
    image = image.swapaxes(0, 1) if turned else image
    pixels = Pixels(size=size, crop=crop, interpolation=interpolation)
    difference = np.abs(decoding.resize_and_crop(image, pixels) - resized_by_pillow(image, pixels))
    # In 0..255: a shift by half a pixel gives 4.
    assert difference.mean() < 0.02
    assert difference.max() <= (1 if interpolation == "bilinear" else 10)


def test_a_size_that_is_not_square_is_covered_and_cut_from_the_middle():
    image = load_sample_images().images[0]  # 427 x 640
    found = decoding.resize_and_crop(image, Pixels(size=(64, 200), crop=0.8))
    # 80 x 250 must be covered: the width decides, 427 * 250 // 640 = 166 rows.
    picture = np.asarray(Image.fromarray(image).resize((250, 166), Image.Resampling.BILINEAR), np.float32)
    assert np.abs(found - picture[51 : 51 + 64, 25 : 25 + 200]).mean() < 0.02


def test_training_images_keep_their_proportions_and_a_margin():
    image = load_sample_images().images[0]
    found = decoding.scaled(image, Pixels(size=112, crop=1.0))
    assert found.dtype == tf.uint8
    wanted = np.asarray(Image.fromarray(image).resize((640 * 128 // 427, 128), Image.Resampling.BILINEAR), np.float32)
    assert np.abs(tf.cast(found, tf.float32) - wanted).mean() < 0.2


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (2, 3)])
def test_extreme_shapes_do_not_fill_the_memory(shape):
    image = np.full((*shape, 3), 200, np.uint8)
    np.testing.assert_array_equal(decoding.resize_and_crop(image, Pixels(size=32)), np.full((32, 32, 3), 200))
    assert max(decoding.scaled(image, Pixels(size=32)).shape) <= 2 * 36


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "crop"), [((96, 64), 1.0), (384, 1.0), (224, 0.875)])
def test_squashed_images_agree_with_pillow(size, crop, interpolation):
    """What transformers' BlipImageProcessor does, and with a crop its DeiTImageProcessor."""
    image = load_sample_images().images[0]  # 427 x 640
    pixels = Pixels(size=size, crop=crop, interpolation=interpolation, resize="squash")
    kind = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[interpolation]
    height, width = (math.floor(side / crop) for side in pixels.shape)
    resized = np.asarray(Image.fromarray(image).resize((width, height), kind), np.float32)
    top, left = ((whole - side) // 2 for whole, side in zip((height, width), pixels.shape, strict=True))
    difference = np.abs(
        decoding.resize_and_crop(image, pixels) - resized[top:, left:][: pixels.shape[0], : pixels.shape[1]]
    )
    assert difference.mean() < 0.03
    assert difference.max() <= (1 if interpolation == "bilinear" else 10)
    assert tuple(decoding.scaled(image, pixels).shape[:2]) == decoding.training_size(pixels)
