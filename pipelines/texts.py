"""Texts as a Dataset: tokenized once, in batches of like length, with the tokenizer that belongs to the model."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence, Sized
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipelines import text_batches, text_encoding, text_sources, tokenizer_training, tokenizers
from pipelines.data import Texts
from pipelines.datasets import Part, Vocabulary
from pipelines.feed import Feed
from pipelines.text_checkpoint import USUAL_LENGTH, Described, describe, limit_of, vocabulary_of
from pipelines.text_encoding import Examples
from pipelines.text_sources import TextParts
from pipelines.tokenizers import Tokenizer
from zoo.core.family import Task

logger = logging.getLogger("zoo")
_TRAINED = ("wordpiece", "bpe", "unigram")


def load(texts: Texts, *, task: Task | None, model: str, weights: str | None, seed: int) -> TextData:
    """The data set that `texts` describes, for a model with these weights; everything about it is checked.

    Without a task it is the model's first for texts with labels, or without: classify, masked_lm, causal_lm.

    Raises:
        FileNotFoundError: the texts, the weights or the tokenizer are not there.
        ValueError: a row is bad, the rows cannot be split, or the tokenizer is not the model's.
    """
    try:
        described = describe(model, weights)
    except FileNotFoundError:
        if texts.tokenizer is None:
            raise
        described = Described(model)  # with a tokenizer of its own, nothing else of the weights is needed here
    task = described.task(task, labelled=texts.label_column is not None)
    if texts.length and described.folder and described.limit and texts.length > described.limit:
        raise ValueError(f"Texts(length={texts.length}): {model!r} with these weights takes {described.limit} tokens.")
    parts = text_sources.load(texts, task=task, seed=seed)
    tokenizer = tokenizer_for(texts, described, parts, task)
    tokenizers.check_specials(tokenizer, task)
    if described.folder is not None:
        tokenizers.check_fit(tokenizer, described.vocabulary, model=model, published=True)
    if parts.skipped:
        logger.warning("%s: %d texts are in two parts and were left out.", texts.source, len(parts.skipped))
    return TextData(texts, task, described, parts, tokenizer)


class TextData:
    """A `pipelines.datasets.TextDataset`."""

    def __init__(self, texts: Texts, task: Task, model: Described, parts: TextParts, tokenizer: Tokenizer):
        self.task, self.classes, self.skipped, self.tokenizer = task, parts.classes, parts.skipped, tokenizer
        self._texts, self._model, self._rows = texts, model, parts.rows
        self._examples: dict[str, tuple[int, Examples]] = {}
        self._length = texts.length or min(USUAL_LENGTH, model.limit or USUAL_LENGTH)
        for part in parts.rows:
            self._encoded(part)
        if not len(self._encoded("train").kept):
            raise ValueError(f"{texts.source!r}: every answer to train on lies beyond {self._length} tokens.")

    @property
    def parts(self) -> Mapping[Part, Sized]:
        """The examples of each part: texts, or blocks of them for language models; of train those to learn from."""
        found = {part: self._encoded(part) for part in text_sources.PARTS}
        return {part: examples.kept if part == "train" else examples for part, examples in found.items()}  # type: ignore[misc]

    def labels(self, part: Part) -> np.ndarray | None:
        """The numbers of the classes (N,), where the task has one for each text."""
        found = self._encoded(part)
        if found.labels is None:
            return None
        return found.labels[found.kept] if part == "train" else found.labels

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens."""
        return self.tokenizer.vocabulary

    def options(self) -> dict[str, Any]:
        """Without weights the vocabulary, and the length where the model's own is too short."""
        if self._model.folder is not None:
            return {}
        longer = self._model.limit is not None and self._length > self._model.limit
        return {"vocabulary": self.vocabulary.size} | ({"length": self._length} if longer else {})

    def training_set(self, model: keras.Model, *, batch: int, seed: int) -> Feed:
        """Shuffled batches of texts of like length, as pipelines.datasets tells of the task.

        Raises:
            ValueError: the model takes fewer tokens than asked for, or has not the tokenizer's vocabulary.
        """
        length = self._fit(model)
        return text_batches.training_batches(
            self._encoded("train"),
            self.task,
            set(model.input),
            batch=batch,
            seed=seed,
            padding=self.vocabulary.padding,
            length=length,
        )

    def evaluation_set(self, model: keras.Model, part: Part, *, batch: int, cached: bool = False) -> tf.data.Dataset:
        """Batches in order; tokens are in memory anyhow, so that `cached` changes nothing."""
        length = self._fit(model)
        return text_batches.evaluation_batches(
            self._encoded(part),
            self.task,
            set(model.input),
            batch=batch,
            padding=self.vocabulary.padding,
            length=length,
        )

    def files(self) -> Mapping[str, str]:
        """The tokenizer."""
        return {tokenizers.FILE: self.tokenizer.to_json()}

    def references(self, part: Part) -> Sequence[Sequence[str]]:
        """For task="answer": the answers that count as right, of each example."""
        return list(self._rows[part].labels or ())

    def spans(self, part: Part, spans: np.ndarray) -> Sequence[str]:
        """For task="answer": the text from the first to the last token of (N, 2) spans, one for each example."""
        encoded = self._encoded(part).encoded
        return [text_encoding.between(encoded, index, *span) for index, span in enumerate(spans)]

    def _fit(self, model: keras.Model) -> int:
        """The length for a model: as asked for, else the model's own."""
        if not isinstance(model.input, dict) or "token_ids" not in model.input:
            raise ValueError(f"The model {model.name!r} takes no texts.")
        tokenizers.check_fit(self.tokenizer, vocabulary_of(model), model=model.name, published=False)
        limit = limit_of(model)
        if self._texts.length and limit and self._texts.length > limit:
            raise ValueError(f"Texts(length={self._texts.length}): {model.name!r} takes at most {limit} tokens.")
        self._length = self._texts.length or min(USUAL_LENGTH, limit or USUAL_LENGTH)
        return self._length

    def _encoded(self, part: str) -> Examples:
        """The examples of a part, tokenized once for a length."""
        length, found = self._examples.get(part, (0, None))
        if found is None or length != self._length:
            found = text_encoding.examples(
                self.tokenizer, self._rows[part], classes=self.classes, length=self._length, task=self.task
            )
            self._examples[part] = self._length, found
            self._report(part, found)
        return found

    def _report(self, part: str, found: Examples) -> None:
        """What was cut off, once."""
        cut, count = int(found.encoded.cut.sum()), len(found)
        if cut:
            logger.warning("%s: %d of %d texts are longer than %d tokens and were cut.", part, cut, count, self._length)
        if found.shortened:
            message = "%s: %d of %d texts to write are longer than %d tokens, their end included, and were cut."
            logger.warning(message, part, found.shortened, count, self._length)
        if len(found.kept) < count:
            logger.warning("%s: %d answers were cut off; those are not trained on.", part, count - len(found.kept))


def tokenizer_for(texts: Texts, described: Described, parts: TextParts, task: Task) -> Tokenizer:
    """The one that is asked for, the one beside the weights, or one that is trained on the training split."""
    if texts.tokenizer is not None and texts.tokenizer not in _TRAINED:
        return tokenizers.open_tokenizer(texts.tokenizer)
    if described.folder is None:
        return _train(texts, parts, task)
    if texts.tokenizer is not None:
        raise ValueError(
            f"tokenizer={texts.tokenizer!r}: weights go with the tokenizer they were trained with. "
            "Leave it out, or train without weights."
        )
    found = tokenizers.in_folder(described.folder)
    if found is None:
        raise FileNotFoundError(
            f"There is no tokenizer beside the weights in '{described.folder}': no {tokenizers.FILE}, vocab.txt, or "
            "vocab.json with merges.txt. Give the one published with them: Texts(tokenizer=...)."
        )
    return found


def _train(texts: Texts, parts: TextParts, task: Task) -> Tokenizer:
    """Trained on all texts of the training split; where text is to be written, one that gives back what it reads."""
    rows = parts.rows["train"]
    written = list(rows.labels or ()) if task == "seq2seq" else []
    kind = texts.tokenizer or ("bpe" if task in ("causal_lm", "seq2seq") else "wordpiece")
    return tokenizer_training.train(
        [*rows.texts, *(rows.seconds or ()), *written],
        kind=kind,
        vocabulary=texts.vocabulary,
        lowercase=texts.lowercase,
    )
