"""Answering: where in a text the answer to a question begins and ends, by cross-entropy over the text's tokens."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from pipelines.datasets import Part, TextDataset
from pipelines.objectives.losses import SpanCrossEntropy, within
from pipelines.objectives.objective import Objective, WeightedMetric, answers
from pipelines.objectives.scores import Scores

LONGEST = 30  # tokens in an answer, as is usual for SQuAD


@dataclass(frozen=True)
class AnswerScores(Scores):
    """Shares (0..1) of answers that are exactly right, and of words in common (F1), as SQuAD counts them.

    Case, punctuation and articles do not count; of several right answers the nearest does.
    """

    kind = "answer"

    exact: float
    f1: float

    def summary(self, unit: str) -> str:
        return f"Exactly right **{self.exact:.2%}**, F1 {self.f1:.2%} on {self.examples:,} {unit} never trained on."


def answer(data: TextDataset) -> Objective:
    """Marks (B, T, 2), -1 where no answer can be, and logits (B, T, 2)."""

    def evaluate(model: keras.Model, batches: tf.data.Dataset, part: Part) -> AnswerScores:
        spans = np.concatenate([best_spans(logits, marks) for logits, marks in answers(model, batches)])
        return score(data.spans(part, spans), data.references(part))

    return Objective(loss=SpanCrossEntropy, metrics=lambda: [WeightedMetric(_both_right, "accuracy")], score=evaluate)


def best_spans(logits: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """The likeliest start and end (B, 2) within the text, the end not before the start: (B, T, 2) each."""
    logits = np.asarray(within(marks, logits), "float64")
    starts, ends = logits[..., 0], logits[..., 1]
    best = np.full(len(logits), -np.inf)
    spans = np.zeros((len(logits), 2), int)
    for longer in range(min(LONGEST, logits.shape[1])):
        together = starts[:, : logits.shape[1] - longer] + ends[:, longer:]
        place = together.argmax(axis=1)
        value = together[np.arange(len(place)), place]
        better = value > best
        best = np.where(better, value, best)
        spans = np.where(better[:, None], np.stack([place, place + longer], axis=-1), spans)
    return spans


def score(said: Sequence[str], right: Sequence[Sequence[str]]) -> AnswerScores:
    """Scores from the texts that were said, and those that count as right."""
    exact = [max(words(text) == words(one) for one in ones or ("",)) for text, ones in zip(said, right, strict=True)]
    f1 = [max(_f1(words(text), words(one)) for one in ones or ("",)) for text, ones in zip(said, right, strict=True)]
    return AnswerScores(examples=len(said), exact=float(np.mean(exact)), f1=float(np.mean(f1)))


def words(text: str) -> list[str]:
    """The words that count: in lower case, without punctuation and articles."""
    plain = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def _f1(said: list[str], right: list[str]) -> float:
    if not said or not right:
        return float(said == right)
    common = (Counter(said) & Counter(right)).total()
    return 2 * common / (len(said) + len(right))


def _both_right(marks, logits):
    """Whether the likeliest start and end are those of the answer: (B,). An answer that was cut off is never met."""
    chosen, wanted = ops.argmax(within(marks, logits), axis=1), ops.argmax(marks, axis=1)
    return ops.all(ops.equal(chosen, wanted) & (ops.max(marks, axis=1) > 0), axis=-1)
