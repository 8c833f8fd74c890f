"""Drawing after texts: the cross-entropy of a text's tokens and of the codes of its image, the first counting little.

Paper: https://arxiv.org/abs/2102.12092.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from pipelines import text_to_image as captioned
from pipelines.card import PICTURES
from pipelines.codebook import Codebook, open_codebook
from pipelines.datasets import Dataset, Part
from pipelines.drawer import drawer
from pipelines.drawing import Drawing
from pipelines.objectives.losses import cross_entropies
from pipelines.objectives.objective import Objective, WeightedMetric
from pipelines.objectives.pictures import figure
from pipelines.objectives.scores import Scores, number
from pipelines.pairs import PairData
from pipelines.strategies import Sample
from zoo.dalle import layout_of

SHOWN = 9  # images of an epoch
GUIDANCE = 3.0  # of these


@dataclass(frozen=True)
class DrawingScores(Scores):
    """The mean cross-entropy, in nats, of the codes of images and of the tokens of their captions.

    Padding counts as tokens, which a model soon knows; each is given those before it. `loss` is what training
    minimizes: both, the first with the weight `image_weight`.
    """

    kind = "drawing"

    image_loss: float
    text_loss: float
    loss: float
    codes: int  # of the codebook
    image_weight: float

    def summary(self, unit: str) -> str:
        return (
            f"A code of an image costs **{number(self.image_loss)}** nats, perplexity "
            f"{number(math.exp(min(self.image_loss, 700)))} of {self.codes:,} codes, a token of a caption "
            f"{number(self.text_loss)} (loss {self.loss:.4f}), on {self.examples:,} {unit} never trained on."
        )


@keras.saving.register_keras_serializable("zoo")
class TextAndImage(keras.losses.Loss):
    """The loss of each example: tokens (B, 1 + T), logits of all but the first (B, T, vocabulary) -> (B,) nats.

    The last `codes` tokens are the image's: the mean over them has the weight `image_weight`, that over the others,
    which are the text's, the rest.
    """

    def __init__(self, codes: int, image_weight: float):
        super().__init__("text_and_image", reduction="sum_over_batch_size")
        self._codes, self._image_weight = codes, image_weight

    def get_config(self):
        return {"codes": self._codes, "image_weight": self._image_weight}

    def call(self, y_true, y_pred):
        losses = token_losses(y_true, y_pred, self._codes)
        return (1.0 - self._image_weight) * losses["text_loss"] + self._image_weight * losses["image_loss"]


def token_losses(tokens: Any, logits: Any, codes: int) -> dict[str, tf.Tensor]:
    """The mean cross-entropy over each text and over each image, which is the last `codes` tokens: (B,) nats each."""
    losses = cross_entropies(tokens[:, 1:], logits)
    return {"text_loss": ops.mean(losses[:, :-codes], axis=1), "image_loss": ops.mean(losses[:, -codes:], axis=1)}


def metrics(codes: int) -> list[keras.metrics.Metric]:
    """Both parts of the loss, in nats for each token."""

    def one(name: str) -> WeightedMetric:
        def part(tokens, logits):
            as_of_loss = ops.cast(tokens, "float32")  # what Keras gives to the loss, so that the graph computes it once
            return token_losses(as_of_loss, logits, codes)[name]

        return WeightedMetric(part, name)

    return [one("text_loss"), one("image_loss")]


def complete(batch: Mapping[str, tf.Tensor], draw: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """What a Drawer takes of a batch of pairs, a number of each example that says whether its caption is left out too.

    `draw` holds the two numbers that decide it. The targets are the captions' ids; the codes are made of the images.
    """
    chance = tf.random.stateless_uniform(tf.shape(batch["token_ids"])[:1], draw)
    taken = {name: batch[name] for name in ("image", "token_ids", "padding_mask")}
    return {**taken, "chance": chance}, batch["token_ids"]


def text_to_image(data: Dataset, asked: Drawing | None) -> Objective:
    """Images (B, H, W, C) with captions (B, T): the codes of an autoencoder are written after a caption's tokens.

    Raises:
        FileNotFoundError: there is no autoencoder.
        ValueError: nothing is said of it, it is none, or the data are no pairs.
    """
    if asked is None:
        raise ValueError(
            "task='text_to_image' learns to write the codes of a discrete autoencoder, so it needs one: "
            "--codes-from FOLDER (Run(drawing=Drawing(FOLDER))), a run of zoo fit dalle_tiny --task reconstruct."
        )
    if not isinstance(data, PairData):
        raise ValueError(f"task='text_to_image' needs images with captions (--pairs), not data for {data.task!r}.")
    book = open_codebook(asked.codes_from)
    codes = math.prod(book.grid)

    def evaluate(model: keras.Model, batches: tf.data.Dataset, part: Part) -> DrawingScores:
        return score(model, batches, image_weight=asked.image_weight)

    return Objective(
        loss=lambda: TextAndImage(codes, asked.image_weight),
        metrics=lambda: metrics(codes),
        score=evaluate,
        target=complete,
        learner=lambda model: drawer(model, book, dropout=asked.caption_dropout),
        reader=lambda model: drawer(model, book),
        draw=lambda model, folder, name: draw(model, book, data, folder / PICTURES / f"{name}.png"),
        keep=book.save,
        options={"codes": book.codes, "size": book.pixels.size},
    )


def score(model: keras.Model, batches: tf.data.Dataset, *, image_weight: float) -> DrawingScores:
    """Scores of a Drawer over all batches."""
    layout = layout_of(model)
    codes = layout.rows * layout.columns

    @tf.function(input_signature=batches.element_spec, autograph=False)
    def sums(inputs, targets):
        found = model(inputs, training=False)
        losses = token_losses(found["tokens"], found["logits"], codes)
        return tf.reduce_sum(tf.stack([losses["image_loss"], losses["text_loss"]]), axis=1), tf.shape(targets)[0]

    totals, examples = np.zeros(2), 0
    for batch in batches:
        found, rows = sums(*batch)
        totals, examples = totals + np.asarray(found, "float64"), examples + int(rows)
    image, text = (float(total) / max(examples, 1) for total in totals)
    loss = image_weight * image + (1 - image_weight) * text
    return DrawingScores(examples, image, text, loss, layout.codes, image_weight)


def draw(model: keras.Model, book: Codebook, data: PairData, path: Path) -> None:
    """Images of some captions of the data, the same ones each time, with the captions above them."""
    captions = shown(data)
    ids = captioned.text_ids(data.tokenizer, captions, layout_of(model))
    codes = captioned.draw(model, ids, strategy=Sample(seed=0), guidance=GUIDANCE)
    images = np.asarray(book.decoder(codes), "float32")
    path.parent.mkdir(parents=True, exist_ok=True)
    with figure(path, panels=len(captions), panel=(2.2, 2.4)) as panels:
        for axes, image, caption in zip(panels, images, captions, strict=True):
            axes.imshow(np.clip(np.round(image), 0, 255).astype("uint8"), cmap="gray")
            axes.set_title("\n".join(textwrap.wrap(caption, 30)[:3]), fontsize=7)
            axes.set_axis_off()


def shown(data: PairData) -> list[str]:
    """Captions that differ, from all over the first part that has any of those that are not trained on."""
    parts: tuple[Part, ...] = ("test", "validation", "train")
    texts = list(dict.fromkeys(next(data.captions[part].texts for part in parts if len(data.parts[part]))))
    chosen = np.linspace(0, len(texts) - 1, min(SHOWN, len(texts))).astype(int)
    return [texts[index] for index in chosen]
