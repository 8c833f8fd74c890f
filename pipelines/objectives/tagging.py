"""Tagging: a class for each word of a text, by cross-entropy over the tokens that carry one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from pipelines.datasets import Dataset, Part
from pipelines.objectives.classification import ClassScore, class_scores, draw_confusion
from pipelines.objectives.losses import CrossEntropy
from pipelines.objectives.objective import Objective, accuracy, answers
from pipelines.objectives.scores import Scores

_BIO = re.compile(r"([BI])-(.+)")

Entity = tuple[int, int, str]  # the first word, the one after the last, the kind


@dataclass(frozen=True)
class TaggingScores(Scores):
    """Scores of each tag, and of whole entities where the tags are B-..., I-... and O.

    An entity is right if its kind, its first and its last word are. `confusion` is of tags.
    """

    kind = "tagging"
    picture = "confusion.png"
    caption = "Confusion matrix of tags"

    tokens: int  # that carry a tag
    accuracy: float
    tags: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    entities: tuple[ClassScore, ...]  # the last is of all kinds together; empty where the tags are not BIO

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        rows = {name: tuple(ClassScore(**row) for row in values[name]) for name in ("tags", "entities")}
        return cls(**{**values, **rows})

    def summary(self, unit: str) -> str:
        entities = f"; F1 of whole entities **{self.entities[-1].f1:.2%}**" if self.entities else ""
        return (
            f"Accuracy **{self.accuracy:.2%}** on the {self.tokens:,} tagged tokens of {self.examples:,} {unit} "
            f"never trained on{entities}."
        )

    def rows(self, unit: str) -> list[tuple[str, ...]]:
        header = ("tag", "precision", "recall", "F1", "tokens")
        entities = [(f"entity: {name}", *rest) for name, *rest in (e.row() for e in self.entities)]
        return [header, *(t.row() for t in self.tags), *entities]

    def draw(self, folder: Path, unit: str) -> None:
        title = f"{self.tokens:,} test tokens, accuracy {self.accuracy:.1%}"
        draw_confusion(self.confusion, [t.name for t in self.tags], folder / "confusion.png", title=title)


def tag(data: Dataset) -> Objective:
    """Labels (B, T) with weights (B, T), 1 where a token carries a tag, and logits (B, T, classes)."""

    def evaluate(model: keras.Model, batches: tf.data.Dataset, part: Part) -> TaggingScores:
        true, predicted = [], []
        for logits, labels, weights in answers(model, batches):
            for row, said, counts in zip(labels, logits.argmax(axis=-1), weights > 0, strict=True):
                true.append(row[counts])
                predicted.append(said[counts])
        return score(predicted, true, data.classes)

    return Objective(loss=CrossEntropy, metrics=accuracy, score=evaluate)


def score(predicted: Sequence[np.ndarray], true: Sequence[np.ndarray], tags: tuple[str, ...]) -> TaggingScores:
    """Scores from the numbers of the tags of each text's words."""
    all_true, all_predicted = np.concatenate(true), np.concatenate(predicted)
    scores, confusion = class_scores(all_true, all_predicted, tags)
    bio = all(name == "O" or _BIO.fullmatch(name) for name in tags) and any(name != "O" for name in tags)
    return TaggingScores(
        examples=len(true),
        tokens=len(all_true),
        accuracy=float((all_true == all_predicted).mean()) if len(all_true) else 0.0,
        tags=scores,
        confusion=confusion,
        entities=_entity_scores(predicted, true, tags) if bio else (),
    )


def _entity_scores(
    predicted: Sequence[np.ndarray], true: Sequence[np.ndarray], tags: tuple[str, ...]
) -> tuple[ClassScore, ...]:
    def found(texts: Sequence[np.ndarray]) -> set[tuple[int, Entity]]:
        return {(text, entity) for text, row in enumerate(texts) for entity in entities([tags[i] for i in row])}

    def one(name: str, said: set, wanted: set) -> ClassScore:
        right = len(said & wanted)
        precision, recall = right / max(len(said), 1), right / max(len(wanted), 1)
        return ClassScore(name, precision, recall, 2 * right / max(len(said) + len(wanted), 1), len(wanted))

    said, wanted = found(predicted), found(true)
    kinds = sorted({match[2] for match in map(_BIO.fullmatch, tags) if match})
    parts = [({e for e in said if e[1][2] == kind}, {e for e in wanted if e[1][2] == kind}) for kind in kinds]
    return (*(one(kind, *part) for kind, part in zip(kinds, parts, strict=True)), one("all", said, wanted))


def entities(tags: Sequence[str]) -> Iterator[Entity]:
    """The entities in the tags of a text; an I-... without its like before it begins one, as in CoNLL's own count."""
    start, kind = 0, None
    for place, name in enumerate((*tags, "O")):
        match = _BIO.fullmatch(name)
        goes_on = match is not None and match[1] == "I" and match[2] == kind
        if kind is not None and not goes_on:
            yield start, place, kind
        if match is None:
            kind = None
        elif not goes_on:
            start, kind = place, match[2]
