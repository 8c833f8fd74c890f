"""How well a model finds the captions of an image among all, and the images of a caption: recall and median rank."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from pipelines.objectives.scores import Scores

AMONG = (1, 5, 10)
_BLOCK = 1024  # queries that are compared at a time


@dataclass(frozen=True)
class RetrievalScores(Scores):
    """Shares (0..1) of images whose caption is among the first k of all captions, and the other way round.

    Each image and each caption is there once: equal captions of several images are one, and all of these images are
    right. Ranks count from 1; of candidates that are equally near the right one comes last.
    """

    kind = "retrieval"

    images: int
    captions: int
    caption_recall: tuple[float, ...]  # of an image's captions, among the first 1, 5 and 10
    caption_rank: float  # median rank of an image's first caption
    image_recall: tuple[float, ...]
    image_rank: float

    def summary(self, unit: str) -> str:
        return (
            f"The first caption is right for **{self.caption_recall[0]:.2%}** of {self.images:,} images, the first "
            f"image for {self.image_recall[0]:.2%} of {self.captions:,} captions, of {self.examples:,} {unit} never "
            "trained on."
        )

    def rows(self, unit: str) -> list[tuple[str, ...]]:
        def line(name: str, recall: tuple[float, ...], rank: float) -> tuple[str, ...]:
            return name, *(f"{share:.2%}" for share in recall), f"{rank:g}"

        return [
            ("sought", *(f"recall@{k}" for k in AMONG), "median rank"),
            line("captions of an image", self.caption_recall, self.caption_rank),
            line("images of a caption", self.image_recall, self.image_rank),
        ]


def score(model: keras.Model, batches: tf.data.Dataset) -> RetrievalScores:
    """The scores of a model of task="contrast" on batches of (inputs, numbers of image and caption)."""
    images, texts, numbers = [], [], []
    embed = keras.Model(model.input, {"image": model.output["image_embedding"], "text": model.output["text_embedding"]})
    for found, known in _answers(embed, batches):
        images.append(found["image"])
        texts.append(found["text"])
        numbers.append(known)
    return retrieval(np.concatenate(images), np.concatenate(texts), np.concatenate(numbers))


def _answers(model: keras.Model, batches: tf.data.Dataset) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    call = tf.function(lambda inputs: model(inputs, training=False), input_signature=batches.element_spec[:1])
    for inputs, known in batches:
        yield {name: np.asarray(values) for name, values in call(inputs).items()}, known.numpy()


def retrieval(images: np.ndarray, texts: np.ndarray, numbers: np.ndarray) -> RetrievalScores:
    """The scores of the embeddings of pairs, (N, D) each, with the numbers (N, 2) of their images and captions."""
    _, first_images, image = np.unique(numbers[:, 0], return_index=True, return_inverse=True)
    _, first_texts, text = np.unique(numbers[:, 1], return_index=True, return_inverse=True)
    right = np.zeros((len(first_images), len(first_texts)), bool)
    right[image, text] = True
    ours, theirs = images[first_images], texts[first_texts]
    to_text, to_image = ranks(ours, theirs, right), ranks(theirs, ours, right.T)
    return RetrievalScores(
        examples=len(numbers),
        images=len(ours),
        captions=len(theirs),
        caption_recall=_recall(to_text),
        caption_rank=float(np.median(to_text)),
        image_recall=_recall(to_image),
        image_rank=float(np.median(to_image)),
    )


def ranks(queries: np.ndarray, candidates: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The rank of the nearest right candidate of each query, (N,), from 1: (N, D), (M, D), (N, M) -> (N,)."""
    found = []
    for start in range(0, len(queries), _BLOCK):
        alike = queries[start : start + _BLOCK] @ candidates.T
        fits = right[start : start + _BLOCK]
        best = np.where(fits, alike, -np.inf).max(axis=1, keepdims=True)
        found.append(1 + ((alike >= best) & ~fits).sum(axis=1))
    return np.concatenate(found)


def _recall(found: np.ndarray) -> tuple[float, ...]:
    return tuple(float(np.mean(found <= k)) for k in AMONG)
