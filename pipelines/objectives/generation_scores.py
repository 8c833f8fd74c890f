"""How far images that are made are from real ones: the Frechet distance, and what a classifier sees in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from pipelines import frechet
from pipelines.frechet import Moments
from pipelines.latents import BATCH, drawn, latent_size, made, takes_labels
from pipelines.objectives.scores import Scores, number

SIDE = 8  # pixels of the thumbnails that are compared where there is no classifier
THUMBNAILS = f"thumbnails of {SIDE} x {SIDE} pixels"
_SEED = 20_170_626  # of the latents that are scored

Features = Callable[[np.ndarray], np.ndarray]  # images (N, H, W, C) in 0..255 -> vectors (N, D)


@dataclass(frozen=True)
class GenerationScores(Scores):
    """The Frechet distance of as many made images as there are real ones, on `features`; 0 is the best.

    `accuracy` is the share of made images in which a classifier sees the class they were asked for, `real_accuracy`
    that of the real ones; None where there is no classifier, or no class. `real_distance` is that of as many training
    images from the test images: less is not to be had without copying.
    """

    kind = "generation"

    frechet_distance: float
    features: str
    accuracy: float | None = None
    real_accuracy: float | None = None
    real_distance: float | None = None

    def summary(self, unit: str) -> str:
        told = (
            f"Fréchet distance **{number(self.frechet_distance)}** between {self.examples:,} test {unit} and as many "
            f"made ones, on {self.features}."
        )
        if self.real_distance is not None:
            told += f" That of real training images is {number(self.real_distance)}."
        if self.accuracy is not None:
            told += f" The classifier sees the class that was asked for in {self.accuracy:.2%} of the made ones"
            real = self.real_accuracy
            told += f", and the right one in {real:.2%} of the real ones." if real is not None else "."
        return told


def thumbnails(images: np.ndarray) -> np.ndarray:
    """Images (N, H, W, C) in 0..255 as vectors of 8 x 8 means, in 0..1."""
    small = tf.image.resize(images, (SIDE, SIDE), method="area").numpy() / 255
    return small.reshape(len(small), -1)


def score(model: keras.Model, batches: tf.data.Dataset, *, seed: int = _SEED) -> GenerationScores:
    """The scores of a generator on batches of real images, on their thumbnails; labels are those of the batches."""
    real: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for batch in batches:
        image, label = images_of(batch)
        real.append(thumbnails(image))
        labels.append(label)
    known = Moments.of(real)
    own = [thumbnails(images) for images, _ in made_of(model, np.concatenate(labels), seed=seed)]
    return GenerationScores(known.count, frechet.distance(known, Moments.of(own)), THUMBNAILS)


def images_of(batch: tuple) -> tuple[np.ndarray, np.ndarray]:
    """The images and labels of a batch of the loader or, completed, of a game."""
    inputs = batch[0]
    if not isinstance(inputs, dict):
        return np.asarray(inputs), np.asarray(batch[1])
    image = np.asarray(inputs["image"])
    return image, np.asarray(inputs.get("labels", np.zeros(len(image), np.int32)))


def made_of(model: keras.Model, labels: np.ndarray, *, seed: int = _SEED) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of images that a generator makes, one of each label (N,), and these."""
    latents = drawn(len(labels), latent_size(model), seed=seed)
    for start in range(0, len(labels), BATCH):
        part = labels[start : start + BATCH]
        yield made(model, latents[start : start + BATCH], part if takes_labels(model) else None), part
