"""Captioning: each token of an image's caption after those before it, by cross-entropy; pictures with what is written.

As BLIP learns it (https://arxiv.org/abs/2201.12086): after a start token of its own, a prompt is given and not learned.
"""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from pipelines.bleu import bleu
from pipelines.datasets import Part
from pipelines.objectives.language import Completed, LanguageScores, score, shift
from pipelines.objectives.losses import CrossEntropy
from pipelines.objectives.objective import Objective, accuracy
from pipelines.objectives.pictures import figure
from pipelines.vision_language import caption as write

if TYPE_CHECKING:
    from pipelines.pairs import PairData

WRITTEN = 500  # images whose captions are written for BLEU
SHOWN = 6  # images with what is written of them, each epoch


@dataclass(frozen=True)
class CaptionScores(LanguageScores):
    """Scores of captions a token, given the true ones before it, and of whole ones that were written.

    `bleu` is BLEU-4 (0..1) of greedy captions of `images` images against all that people wrote of each.
    """

    kind = "caption"

    images: int = 0
    bleu: float = 0.0

    def summary(self, unit: str) -> str:
        return f"{super().summary(unit)} BLEU-4 of the captions written of {self.images:,} images: {self.bleu:.4f}."


def caption(data: PairData) -> Objective:
    """Write the caption of an image: logits (B, T, vocabulary).

    Raises:
        ValueError: the tokenizer puts no token before a text, or none after it.
    """
    around = data.tokenizer.library.encode("").ids
    if len(around) != 2 or data.marks.end is None:
        raise ValueError(
            f"The tokenizer '{data.tokenizer.source}' puts {len(around)} tokens around a text, and a caption needs one "
            "to begin with and one to end with. Take another, or have one trained: --tokenizer wordpiece."
        )

    def evaluate(model: keras.Model, batches: tf.data.Dataset, part: Part) -> CaptionScores:
        texts, references = _written(model, batches, data, part)
        found = dataclasses.asdict(score(model, batches, writes=True))
        return CaptionScores(**found, images=len(texts), bleu=bleu(texts, references))

    def target(batch: Any, draw: tf.Tensor) -> Completed:
        return begun(batch, start=data.marks.start, given=len(data.prompt_ids))

    return Objective(loss=CrossEntropy, metrics=accuracy, score=evaluate, target=target, draw=_drawing(data))


def begun(batch: dict[str, tf.Tensor], *, start: int, given: int = 0) -> Completed:
    """Captions after `start` in place of the tokenizer's own first token; the first `given` tokens are not learned."""
    tokens = batch["token_ids"]
    shown = {
        "image": batch["image"],
        "token_ids": tf.concat([tf.fill(tf.shape(tokens[:, :1]), tf.cast(start, tokens.dtype)), tokens[:, 1:]], axis=1),
        "padding_mask": batch["padding_mask"],
    }
    inputs, targets, weights = shift(shown)
    learned = tf.range(tf.shape(tokens)[1]) >= given
    return inputs, targets, weights * tf.cast(learned, weights.dtype)


def _written(
    model: keras.Model, batches: tf.data.Dataset, data: PairData, part: Part
) -> tuple[list[str], list[tuple[str, ...]]]:
    """Greedy captions of the first images of a part, and what people wrote of each."""
    rows, references = data.captions[part], data.references(part)
    texts: list[str] = []
    wanted: list[tuple[str, ...]] = []
    seen: set[int] = set()
    place = 0
    for inputs, *_ in batches:
        numbers = rows.numbers[place : place + len(inputs["image"])].tolist()
        new = [index for index, number in enumerate(numbers) if number not in seen and not seen.add(number)]  # type: ignore[func-returns-value]
        texts += _captions(model, np.asarray(inputs["image"])[new], data)
        wanted += [tuple(references[place + index]) for index in new]
        place += len(numbers)
        if len(texts) >= WRITTEN:
            break
    return texts[:WRITTEN], wanted[:WRITTEN]


def _captions(model: keras.Model, images: np.ndarray, data: PairData) -> list[str]:
    """Greedy captions as long as those to learn from, without their prompt."""
    options = {"prompt": data.prompt, "length": data.longest, "marks": data.marks}
    with ThreadPoolExecutor(1) as outside:  # of the strategy's scope, in which caches would be on all devices
        found = outside.submit(write, model, images, data.tokenizer, **options).result()
    before = len(data.tokenizer.decode(data.prompt_ids))
    return [text[before:].strip() for text in found]


def _drawing(data: PairData) -> Callable[[keras.Model, Path, str], None]:
    """What draws the same few images in every epoch with what the model writes of them."""
    part: Part = next(name for name in ("test", "validation", "train") if len(data.captions[name]))
    kept: list[np.ndarray] = []

    def draw(model: keras.Model, folder: Path, name: str) -> None:
        if not kept:
            batch = next(iter(data.evaluation_set(model, part, batch=SHOWN)))
            kept.append(np.asarray(batch["image"]))
        texts = _captions(model, kept[0], data)
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        with figure(folder / "pictures" / f"{name}.png", panels=len(texts), panel=(3.0, 3.4)) as axes:
            for place, (text, image, axis) in enumerate(zip(texts, kept[0], axes, strict=True)):
                axis.imshow(image.round().astype("uint8"))
                axis.set_title(textwrap.fill(text or "(nothing)", 34), fontsize=9)
                axis.set_xlabel(textwrap.fill(data.captions[part].texts[place], 40), fontsize=7, color="gray")
                axis.set_xticks([])
                axis.set_yticks([])

    return draw
