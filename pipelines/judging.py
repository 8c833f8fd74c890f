"""What a trained classifier makes of a generator's images: the distance of its features, and the classes it sees."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from pipelines import bundle, datasets, decoding, frechet, images
from pipelines.bundle import Bundle
from pipelines.data import Images
from pipelines.frechet import Moments
from pipelines.images import ImageDataset
from pipelines.latents import takes_labels
from pipelines.objectives.generation_scores import GenerationScores, made_of
from pipelines.sources import Examples
from zoo.layers.pixels import pixels_of

BATCH = 64

Judge = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # images -> features (N, D), classes (N,)
Row = tuple[np.ndarray, ...]  # features, classes that are seen, and labels of a batch


def judged(made_by: Bundle | str | Path, judge: Bundle | str | Path, *, seed: int | None = None) -> GenerationScores:
    """Scores of a generator's bundle by a classifier's: as many made images as its test part has real ones.

    Features are what goes into the classifier's last layer. Real and made images go to it the same way, in the
    generator's size first. `seed` is that of the latents; the usual one if not given.

    Raises:
        FileNotFoundError: a bundle is not there, or the data have moved.
        ValueError: one is no generator, or no classifier; or they know other classes.
    """
    generator, classifier = (bundle.load(each) if isinstance(each, str | Path) else each for each in (made_by, judge))
    _check(generator, classifier)
    data = datasets.load(dataclasses.replace(generator.run, task=generator.task), folder=generator.path)
    assert isinstance(data, ImageDataset)
    model, look = generator.load_model(), _judge(classifier.load_model())
    test = data.parts["test"]
    if len(test) < 2:
        raise ValueError(f"'{generator.path}' was trained without test images, so there is nothing to compare with.")
    real = list(_seen(test, model, look))
    other = list(_seen(_some(data.parts["train"], len(test), seed=generator.run.seed), model, look))
    given = {} if seed is None else {"seed": seed}
    made = [(*look(shown), labels) for shown, labels in made_of(model, test.labels, **given)]
    known = takes_labels(model)
    return GenerationScores(
        examples=len(test),
        frechet_distance=frechet.distance(_moments(made), _moments(real)),
        features=f"features of a {classifier.run.model} that tells {len(classifier.classes)} classes apart",
        accuracy=_right(made) if known else None,
        real_accuracy=_right(real) if known else None,
        real_distance=frechet.distance(_moments(other), _moments(real)),
    )


def _check(generator: Bundle, classifier: Bundle) -> None:
    if generator.task != "generate":
        raise ValueError(f"'{generator.path}' is for task={generator.task!r}; a judge is for models that make images.")
    if classifier.task != "classify" or not isinstance(classifier.run.data, Images):
        raise ValueError(f"'{classifier.path}' is no classifier of images, but a model for task={classifier.task!r}.")
    if generator.classes and generator.classes != classifier.classes:
        raise ValueError(
            f"The judge '{classifier.path}' tells {', '.join(classifier.classes)} apart, and '{generator.path}' makes "
            f"{', '.join(generator.classes)}. Train it on the same classes."
        )


def _judge(model: keras.Model) -> Judge:
    """What a classifier says of images (N, H, W, C) in 0..255, of any size, grey or in color."""
    last = model.get_layer("head_logits")
    both = keras.Model(model.input, (last.input, model.output))
    pixels = pixels_of(model)

    @tf.function(reduce_retracing=True)
    def answer(shown: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        shown = tf.image.grayscale_to_rgb(shown) if shown.shape[-1] == 1 else shown
        resized = tf.image.resize(shown, pixels.shape, antialias=True)
        features, logits = both(decoding.in_channels(resized, pixels), training=False)
        return tf.reshape(tf.cast(features, tf.float32), (tf.shape(shown)[0], -1)), tf.argmax(logits, axis=-1)

    def look(shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        features, classes = answer(tf.constant(shown))
        return features.numpy(), classes.numpy()

    return look


def _seen(examples: Examples, generator: keras.Model, look: Judge) -> Iterator[Row]:
    """What is seen in real images, batch by batch."""
    for shown, labels in images.evaluation_set(examples, pixels_of(generator), batch=BATCH).as_numpy_iterator():
        yield *look(shown), labels


def _some(examples: Examples, count: int, *, seed: int) -> Examples:
    """At most so many of them, at random."""
    return examples.take(np.sort(np.random.default_rng(seed).permutation(len(examples))[:count]))


def _moments(rows: Sequence[Row]) -> Moments:
    return Moments.of([features for features, *_ in rows])


def _right(rows: Sequence[Row]) -> float:
    """The share of images in which the class is seen that they are of."""
    return float(np.mean(np.concatenate([seen == labels for _, seen, labels in rows])))
