"""tf.data sets of images: read, decode, resize, cache, shuffle, augment, batch, prefetch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipelines import augment as policies
from pipelines import decoding, sources
from pipelines.batches import finished
from pipelines.data import Augmentation, Images
from pipelines.datasets import Part
from pipelines.sources import Examples, ImageData
from zoo.core.family import Pixels, Task
from zoo.layers.pixels import pixels_of

_LONG_SIDE = 1.5  # of the short side, in the photos that a cache is sized for
_MEMORY_UNKNOWN = 4 * 2**30  # bytes; what systems that do not tell are taken to have free


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Labelled images as a pipelines.datasets.Dataset: batches (B, h, w, 3) float32 in 0..255 and (B,) int32."""

    data: ImageData
    images: Images

    @property
    def task(self) -> Task:
        return "classify"

    @property
    def classes(self) -> tuple[str, ...]:
        return self.data.classes

    @property
    def parts(self) -> Mapping[Part, Examples]:
        return {"train": self.data.train, "validation": self.data.validation, "test": self.data.test}

    @property
    def skipped(self) -> tuple[str, ...]:
        return self.data.skipped

    def options(self) -> dict[str, Any]:
        given = {"size": self.images.size, "crop": self.images.crop}
        return {name: value for name, value in given.items() if value is not None}

    def training_set(self, model: keras.Model, *, batch: int, seed: int) -> tf.data.Dataset:
        pixels, augment, flip = color(pixels_of(model)), self.images.augment, self.images.mirrors
        return training_set(self.data.train, pixels, batch=batch, seed=seed, augment=augment, flip=flip)

    def evaluation_set(self, model: keras.Model, part: Part, *, batch: int, cached: bool = False) -> tf.data.Dataset:
        pixels = color(pixels_of(model))
        return evaluation_set(self.parts[part], pixels, batch=batch, cache_budget=None if cached else 0)

    def files(self) -> dict[str, str]:
        return {}


def load(images: Images, *, task: Task | None = None, seed: int) -> ImageDataset:
    """The images that are described, divided by class and seed; see `pipelines.sources.load`.

    Raises:
        ValueError: the task is not "classify", or the source is not what its kind asks for.
        FileNotFoundError: there is no such source.
    """
    if task not in (None, "classify"):
        raise ValueError(f"task={task!r} cannot be trained on labelled images; they are for task='classify'.")
    return ImageDataset(sources.load(images, seed=seed), images)


def training_set(
    examples: Examples,
    pixels: Pixels,
    *,
    batch: int,
    seed: int,
    augment: Augmentation = "light",
    flip: bool = True,
    cache_budget: int | None = None,
) -> tf.data.Dataset:
    """Shuffled, augmented batches: (B, h, w, 3) float32 in 0..255 and (B,) int32, B always the same.

    The same seed gives the same batches, bit for bit, on any number of threads; every epoch another
    order and other crops. `cache_budget` is in bytes: resized images that fit (by default in a
    quarter of the free memory) are kept, others are read again each epoch.

    Raises:
        ValueError: there are no examples, or no policy of that name.
    """
    if not len(examples):
        raise ValueError("There are no examples to train on; see pipelines.sources.load.")
    plain = augment == "none"  # what evaluation sees: nothing is left to do after the cache
    size = pixels.shape if plain else decoding.training_size(pixels)
    resize = _cropped if plain else decoding.scaled
    cached = _fits(len(examples), size, cache_budget)
    images = _shuffled(examples, lambda image: resize(image, pixels), seed=seed, cached=cached)
    if plain:
        images = images.map(_as_float, num_parallel_calls=tf.data.AUTOTUNE)
    else:
        images = _augmented(images, policies.policy(augment, pixels, flip=flip), seed=seed)
    return finished(images.batch(min(batch, len(examples)), drop_remainder=True))


def color(pixels: Pixels) -> Pixels:
    """The pixels, if they are those of color images, which these sets hold.

    Raises:
        ValueError: the model takes another number of channels.
    """
    if pixels.channels != 3:
        raise ValueError(
            f"The model takes images of {pixels.channels} channels, and image files are read as RGB. "
            "Train it on a tf.data set of your own: pipelines.train.fit(model, phases, train)."
        )
    return pixels


def evaluation_set(examples: Examples, pixels: Pixels, *, batch: int, cache_budget: int | None = 0) -> tf.data.Dataset:
    """Batches in order, resized and center-cropped; the last one may be smaller.

    Give a set that is read every epoch a `cache_budget`, as in `training_set`.
    """
    images = _decoded(tf.data.Dataset.range(len(examples)), examples, lambda image: _cropped(image, pixels))
    if _fits(len(examples), pixels.shape, cache_budget):
        images = images.cache()
    return finished(images.map(_as_float, num_parallel_calls=tf.data.AUTOTUNE).batch(batch))


def sample(examples: Examples, count: int, *, pixels: Pixels, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` examples at random, classes in turn: (count, h, w, 3) float32 and (count,) int32.

    Fewer if there are fewer. They look as in `evaluation_set`.
    """
    shuffled = np.random.default_rng(seed).permutation(len(examples))
    labels = examples.labels[shuffled]
    turn = np.zeros(len(labels), int)  # how many of its class come before it
    for label in np.unique(labels):
        turn[labels == label] = np.arange(np.count_nonzero(labels == label))
    chosen = examples.take(shuffled[np.argsort(turn, kind="stable")[:count]])
    batches = list(evaluation_set(chosen, pixels, batch=max(len(chosen), 1)).as_numpy_iterator())
    return batches[0] if batches else (np.zeros((0, *pixels.shape, 3), np.float32), np.zeros(0, np.int32))


def check_range(dataset: tf.data.Dataset) -> None:
    """Looks at the first batch of a data set of one's own.

    Raises:
        ValueError: its images are in 0..1, which a model of the zoo would take for black.
    """
    for batch in dataset.take(1):
        inputs = batch[0] if isinstance(batch, tuple) else batch
        for image in keras.tree.flatten(inputs):
            if image.shape.rank == 4 and (top := float(tf.reduce_max(tf.cast(image, tf.float32)))) <= 1:
                raise ValueError(
                    f"The images look like 0..1 (the largest value of the first batch is {top:g}); "
                    "models of the zoo take 0..255 and normalize themselves. Multiply by 255."
                )


def _shuffled(
    examples: Examples, resize: Callable[[tf.Tensor], tf.Tensor], *, seed: int, cached: bool
) -> tf.data.Dataset:
    """Resized examples in another order every epoch: cached images are shuffled, of others the indexes."""
    order = tf.data.Dataset.range(len(examples))
    if cached:
        return _decoded(order, examples, resize).cache().shuffle(len(examples), seed=seed)
    return _decoded(order.shuffle(len(examples), seed=seed), examples, resize)


def _augmented(images: tf.data.Dataset, policy: policies.Policy, *, seed: int) -> tf.data.Dataset:
    # A seed an image, drawn in order: random numbers drawn inside a parallel map are not reproducible.
    seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(2)
    return tf.data.Dataset.zip(images, seeds).map(
        lambda example, draw: (policy(example[0], tf.cast(draw, tf.int32)), example[1]),
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def _decoded(order: tf.data.Dataset, examples: Examples, resize: Callable[[tf.Tensor], tf.Tensor]) -> tf.data.Dataset:
    """(image, label) for each index, the image decoded and resized."""
    images, labels = decoding.elements(examples.images), tf.constant(examples.labels, tf.int32)
    decode = decoding.decoder(examples.images)
    return order.map(lambda i: (resize(decode(images[i])), labels[i]), num_parallel_calls=tf.data.AUTOTUNE)


def _cropped(image: tf.Tensor, pixels: Pixels) -> tf.Tensor:
    """`resize_and_crop` as uint8, a quarter of the memory; exact, as it gives whole numbers."""
    return tf.cast(decoding.resize_and_crop(image, pixels), tf.uint8)


def _as_float(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.cast(image, tf.float32), label


def _fits(count: int, size: tuple[int, int], budget: int | None) -> bool:
    """Whether `count` uint8 images that cover `size` fit in the budget, or in a quarter of the free memory."""
    needed = count * size[0] * size[1] * 3 * _LONG_SIDE
    return needed <= (_free_memory() // 4 if budget is None else budget)


def _free_memory() -> int:
    """Bytes that can be had without swapping; only Linux tells without a further package."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return _MEMORY_UNKNOWN
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
