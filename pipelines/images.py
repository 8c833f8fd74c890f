"""tf.data sets of images: read, decode, resize, keep, augment, batch, prefetch; in training by shuffled numbers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipelines import augment as policies
from pipelines import batches, decoding, image_memory, mixing, sources
from pipelines.batches import finished
from pipelines.data import Augmentation, Images
from pipelines.datasets import Part
from pipelines.feed import VIEWS, Feed, as_written, key, planned
from pipelines.sources import Examples, ImageData
from zoo.core.family import Pixels, Task
from zoo.layers.pixels import pixels_of


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Labelled images as a pipelines.datasets.Dataset: batches (B, h, w, 3) float32 in 0..255 and (B,) int32.

    A model of one channel gets grey images, (B, h, w, 1).

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
            views=asked.views,
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
    views: int = 0,
    cache_budget: int | None = None,
) -> Feed:
    """Shuffled, augmented batches: (B, h, w, channels) float32 in 0..255 and labels (B, ...), B always the same.

    A batch hangs on its number and the seed alone, bit for bit, on any number of threads; every epoch has another
    order and other crops, with `views` those of so many epochs in turn: `view_set` gives them in order.
    With `balance` each class is drawn equally often, else each example at most once an epoch.
    `cache_budget` is in bytes: resized images that fit (by default in a quarter of the free memory) are read once and
    kept, others are read again each epoch.

    Raises:
        ValueError: there are no examples, or no policy of that name.
    """
    policy = policies.policy(augment, pixels, flip=flip)
    plain = augment == "none"  # what evaluation sees: nothing is left to do with what is kept
    resize, size = (_cropped, pixels.shape) if plain else (decoding.scaled, decoding.training_size(pixels))
    read = _reader(examples, lambda image: resize(image, pixels))
    kept = functools.cache(lambda: image_memory.keep(len(examples), read, size, cache_budget))  # once for all starts
    labels = tf.constant(examples.labels)
    together, shape = batches.batch_size(len(examples), batch), (*pixels.shape, 3)
    finish = functools.partial(_as_float, pixels=pixels)
    numbers = _numbers(examples, together, balance=balance, seed=seed)
    if views:
        numbers = _in_views(numbers, views, seed=seed)

    def start(number: int, images: tf.Tensor | None) -> tf.data.Dataset:
        @as_written
        def make(index: tf.Tensor, draw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            image = read(index) if images is None else image_memory.take(images, index)
            return finish(tf.ensure_shape(image, shape) if plain else policy(image, draw), labels[index])

        single = numbers.start(number).unbatch().map(make, num_parallel_calls=tf.data.AUTOTUNE)
        return finished(single.batch(together, drop_remainder=True))

    return Feed(
        numbers.steps,
        lambda number: start(number, kept()),
        lambda number: numbers.start(number).map(as_written(lambda rows, draws: rows)),
        lambda: start(0, None),
    )


def view_set(
    examples: Examples, pixels: Pixels, *, batch: int, seed: int, augment: Augmentation, flip: bool, views: int
) -> tf.data.Dataset:
    """The images as `training_set` shows them in its views: all in order in the first one, then in the next."""
    policy = policies.policy(augment, pixels, flip=flip)
    read, labels = _reader(examples, lambda image: decoding.scaled(image, pixels)), tf.constant(examples.labels)
    finish = functools.partial(_as_float, pixels=pixels)

    @as_written
    def make(view: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        draws = _draws_of_view(view, index[tf.newaxis], seed=seed)[0]
        return finish(policy(read(index), draws), labels[index])

    both = tf.data.Dataset.range(views * len(examples)).map(lambda at: (at // len(examples), at % len(examples)))
    return finished(both.map(make, num_parallel_calls=tf.data.AUTOTUNE).batch(batch))


def color(pixels: Pixels) -> Pixels:
    """The pixels, if they are those of color or grey images, which these sets hold.

    Raises:
        ValueError: the model takes another number of channels.
    """
    if pixels.channels not in (1, 3):
        raise ValueError(
            f"The model takes images of {pixels.channels} channels, and image files are read as RGB or grey. "
            "Train it on a tf.data set of your own: pipelines.train.fit(model, phases, train)."
        )
    return pixels


def evaluation_set(examples: Examples, pixels: Pixels, *, batch: int, cache_budget: int | None = 0) -> tf.data.Dataset:
    """Batches in order, resized and center-cropped; the last one may be smaller.

    Give a set that is read every epoch a `cache_budget`, as in `training_set`.
    """
    read, labels = _reader(examples, lambda image: _cropped(image, pixels)), tf.constant(examples.labels)
    finish = functools.partial(_as_float, pixels=pixels)
    order = tf.data.Dataset.range(len(examples))
    images = order.map(as_written(lambda index: (read(index), labels[index])), num_parallel_calls=tf.data.AUTOTUNE)
    if image_memory.fits(len(examples), pixels.shape, cache_budget):
        images = images.cache()
    return finished(images.map(as_written(finish), num_parallel_calls=tf.data.AUTOTUNE).batch(batch))


def sample(examples: Examples, count: int, *, pixels: Pixels, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` examples at random, classes in turn: (count, h, w, channels) float32 and (count,) int32.

    Fewer if there are fewer. They look as in `evaluation_set`. Those with other labels than classes are in no turn.
    """
    shuffled = np.random.default_rng(seed).permutation(len(examples))
    labels = examples.labels[shuffled] if examples.labels.ndim == 1 else np.arange(len(examples))
    turn = np.zeros(len(labels), int)  # how many of its class come before it
    for label in np.unique(labels):
        turn[labels == label] = np.arange(np.count_nonzero(labels == label))
    chosen = examples.take(shuffled[np.argsort(turn, kind="stable")[:count]])
    batches = list(evaluation_set(chosen, pixels, batch=max(len(chosen), 1)).as_numpy_iterator())
    return batches[0] if batches else (np.zeros((0, *pixels.shape, pixels.channels), np.float32), examples.labels[:0])


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


def _in_views(numbers: Feed, views: int, *, seed: int) -> Feed:
    """The same numbers, and draws that hang on the example and the view of the epoch."""

    def with_draws(found: tuple[tf.Tensor, tf.Tensor], number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rows, _ = found
        return rows, _draws_of_view(number // numbers.steps % views, rows, seed=seed)

    return numbers.map(with_draws)


def _draws_of_view(view: tf.Tensor, rows: tf.Tensor, *, seed: int) -> tf.Tensor:
    """What decides the augmentation of some examples (B,) in a view: (B, 2) int32."""
    base = tf.random.stateless_uniform((), key(seed, VIEWS, view), minval=None, maxval=None, dtype=tf.int32)
    return tf.stack([tf.broadcast_to(base, tf.shape(rows)), tf.cast(rows, tf.int32)], axis=1)


def _reader(examples: Examples, resize: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
    """The function from an example's number to its image, decoded and resized, (h, w, 3) uint8."""
    images, decode = decoding.elements(examples.images), decoding.decoder(examples.images)
    return lambda index: resize(decode(images[index]))


def _cropped(image: tf.Tensor, pixels: Pixels) -> tf.Tensor:
    """`resize_and_crop` as uint8, a quarter of the memory; exact, as it gives whole numbers."""
    return tf.cast(decoding.resize_and_crop(image, pixels), tf.uint8)


def _as_float(image: tf.Tensor, label: tf.Tensor, *, pixels: Pixels) -> tuple[tf.Tensor, tf.Tensor]:
    return decoding.in_channels(image, pixels), label
