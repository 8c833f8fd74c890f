"""tf.data sets of images: read, decode, resize, keep, augment, batch, prefetch; in training by shuffled numbers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipelines import augment as policies
from pipelines import batches, decoding, mixing, sources
from pipelines.batches import finished
from pipelines.data import Augmentation, Images
from pipelines.datasets import Part
from pipelines.feed import Feed, as_written, planned
from pipelines.sources import Examples, ImageData
from zoo.core.family import Pixels, Task
from zoo.layers.pixels import pixels_of

_LONG_SIDE = 1.5  # of the short side, in the photos that a cache is sized for
_AT_ONCE = 256  # images that are read before a signal can end the reading
_MEMORY_UNKNOWN = 4 * 2**30  # bytes; what systems that do not tell are taken to have free


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Labelled images as a pipelines.datasets.Dataset: batches (B, h, w, 3) float32 in 0..255 and (B,) int32.

    Where mixup or cutmix are asked for, the targets to train on are (B, classes) float32. So are those of images with
    several labels; where numbers are to be predicted, targets are (B, targets) float32.
    """

    data: ImageData
    images: Images

    @property
    def task(self) -> Task:
        return self.data.task

    @property
    def classes(self) -> tuple[str, ...]:
        return self.data.classes

    @property
    def parts(self) -> Mapping[Part, Examples]:
        return {"train": self.data.train, "validation": self.data.validation, "test": self.data.test}

    @property
    def skipped(self) -> tuple[str, ...]:
        return self.data.skipped

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the numbers to predict; none where there are classes."""
        return () if self.data.target is None else self.data.target.names

    @property
    def scale(self) -> tuple[float, ...]:
        """The standard deviation of each on the training part."""
        return () if self.data.target is None else self.data.target.std

    def options(self) -> dict[str, Any]:
        given = {"size": self.images.size, "crop": self.images.crop, "target": self.data.target}
        return {name: value for name, value in given.items() if value is not None}

    def training_set(self, model: keras.Model, *, batch: int, seed: int) -> Feed:
        asked = self.images
        feed = training_set(
            self.data.train,
            color(pixels_of(model)),
            batch=batch,
            seed=seed,
            augment=asked.augment,
            flip=asked.mirrors,
            balance=asked.balance,
        )
        if not (asked.mixup or asked.cutmix):
            return feed
        if min(batch, len(self.data.train)) == 1:
            raise ValueError(
                f"Images(mixup={asked.mixup:g}, cutmix={asked.cutmix:g}) mixes the images of a batch, and a batch "
                "holds one. Take batches of 2 or more, or set both to 0."
            )
        return mixing.mixed(feed, classes=len(self.classes), mixup=asked.mixup, cutmix=asked.cutmix, seed=seed)

    def evaluation_set(self, model: keras.Model, part: Part, *, batch: int, cached: bool = False) -> tf.data.Dataset:
        pixels = color(pixels_of(model))
        return evaluation_set(self.parts[part], pixels, batch=batch, cache_budget=None if cached else 0)

    def files(self) -> dict[str, str]:
        return {}


def load(images: Images, *, task: Task | None = None, seed: int) -> ImageDataset:
    """The images that are described, divided by class and seed; see `pipelines.sources.load`.

    Raises:
        ValueError: the task is none of images, or the source is not what its kind asks for.
        FileNotFoundError: there is no such source.
    """
    return ImageDataset(sources.load(images, task=task, seed=seed), images)


def training_set(
    examples: Examples,
    pixels: Pixels,
    *,
    batch: int,
    seed: int,
    augment: Augmentation = "light",
    flip: bool = True,
    balance: bool = False,
    cache_budget: int | None = None,
) -> Feed:
    """Shuffled, augmented batches: (B, h, w, 3) float32 in 0..255 and labels (B, ...), B always the same.

    A batch hangs on its number and the seed alone, bit for bit, on any number of threads; every epoch has another
    order and other crops. With `balance` each class is drawn equally often, else each example at most once an epoch.
    `cache_budget` is in bytes: resized images that fit (by default in a quarter of the free memory) are read once and
    kept, others are read again each epoch.

    Raises:
        ValueError: there are no examples, or no policy of that name.
    """
    policy = policies.policy(augment, pixels, flip=flip)
    plain = augment == "none"  # what evaluation sees: nothing is left to do with what is kept
    resize, size = (_cropped, pixels.shape) if plain else (decoding.scaled, decoding.training_size(pixels))
    read = _reader(examples, lambda image: resize(image, pixels))
    kept = functools.cache(lambda: _kept(examples, read, size, cache_budget))  # once for all starts
    labels = tf.constant(examples.labels)
    together, shape = batches.batch_size(len(examples), batch), (*pixels.shape, 3)
    numbers = _numbers(examples, together, balance=balance, seed=seed)

    def start(number: int) -> tf.data.Dataset:
        images = kept()

        @as_written
        def make(index: tf.Tensor, draw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            image = read(index) if images is None else _of(images, index)
            return _as_float(tf.ensure_shape(image, shape) if plain else policy(image, draw), labels[index])

        single = numbers.start(number).unbatch().map(make, num_parallel_calls=tf.data.AUTOTUNE)
        return finished(single.batch(together, drop_remainder=True))

    return Feed(numbers.steps, start, lambda number: numbers.start(number).map(as_written(lambda rows, draws: rows)))


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
    read, labels = _reader(examples, lambda image: _cropped(image, pixels)), tf.constant(examples.labels)
    order = tf.data.Dataset.range(len(examples))
    images = order.map(as_written(lambda index: (read(index), labels[index])), num_parallel_calls=tf.data.AUTOTUNE)
    if _fits(len(examples), pixels.shape, cache_budget):
        images = images.cache()
    return finished(images.map(as_written(_as_float), num_parallel_calls=tf.data.AUTOTUNE).batch(batch))


def sample(examples: Examples, count: int, *, pixels: Pixels, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` examples at random, classes in turn: (count, h, w, 3) float32 and (count,) int32.

    Fewer if there are fewer. They look as in `evaluation_set`. Those with other labels than classes are in no turn.
    """
    shuffled = np.random.default_rng(seed).permutation(len(examples))
    labels = examples.labels[shuffled] if examples.labels.ndim == 1 else np.arange(len(examples))
    turn = np.zeros(len(labels), int)  # how many of its class come before it
    for label in np.unique(labels):
        turn[labels == label] = np.arange(np.count_nonzero(labels == label))
    chosen = examples.take(shuffled[np.argsort(turn, kind="stable")[:count]])
    batches = list(evaluation_set(chosen, pixels, batch=max(len(chosen), 1)).as_numpy_iterator())
    return batches[0] if batches else (np.zeros((0, *pixels.shape, 3), np.float32), examples.labels[:0])


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


def _numbers(examples: Examples, batch: int, *, balance: bool, seed: int) -> Feed:
    """Of each batch the numbers of its examples (B,) and what decides the augmentation of each, (B, 2) int32."""
    plan = batches.balanced(examples.labels, batch) if balance else batches.uniform(len(examples), batch)

    def with_draws(key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        order, chance = tf.unstack(tf.random.split(key, 2))
        rows = plan(order)
        draws = tf.random.stateless_uniform((*rows.shape, 2), chance, minval=None, maxval=None, dtype=tf.int32)
        return rows, draws

    return planned(with_draws, steps=len(examples) // batch, seed=seed)


def _reader(examples: Examples, resize: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
    """The function from an example's number to its image, decoded and resized, (h, w, 3) uint8."""
    images, decode = decoding.elements(examples.images), decoding.decoder(examples.images)
    return lambda index: resize(decode(images[index]))


def _kept(
    examples: Examples, read: Callable[[tf.Tensor], tf.Tensor], size: tuple[int, int], budget: int | None
) -> tf.Tensor | None:
    """All images in one list of tensors, or nothing if they do not fit in the budget.

    A list of tensors is a value, to any function of tf.data. With a variable or a table in its stead, tf.data would
    compute one image at a time wherever operations are to be deterministic.
    """
    budget = _free_memory() // 4 if budget is None else budget
    if not _fits(len(examples), size, budget):
        return None
    with tf.device("CPU:0"):
        order = tf.data.Dataset.range(len(examples))
        images = iter(finished(order.map(as_written(read), num_parallel_calls=tf.data.AUTOTUNE)))

        @tf.function(input_signature=[tf.TensorSpec((), tf.int32)])
        def following(count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            found = tf.TensorArray(tf.uint8, size=count, element_shape=(None, None, 3), infer_shape=False)
            taken = tf.constant(0, tf.int64)
            for place in tf.range(count):
                image = next(images)
                found, taken = found.write(place, image), taken + tf.size(image, tf.int64)
            return found.flow, taken

        whole, left = None, budget
        for first in range(0, len(examples), _AT_ONCE):
            more, taken = following(min(_AT_ONCE, len(examples) - first))
            left -= int(taken)
            if left < 0:  # they are longer than was to be expected
                return None
            whole = (
                more
                if whole is None
                else tf.raw_ops.TensorListConcatLists(input_a=whole, input_b=more, element_dtype=tf.uint8)
            )
        return whole


def _of(images: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """One of the images that are kept, (h, w, 3) uint8."""
    return tf.raw_ops.TensorListGetItem(
        input_handle=images, index=tf.cast(index, tf.int32), element_shape=[-1, -1, 3], element_dtype=tf.uint8
    )


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
