"""What the Keras model answers to samples of any kind, and how other answers are held against it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipelines.agreement import IN_UNITS, VALUES, Agreement, Limit, accuracy, compare, same_best, same_labels, worst
from pipelines.objectives.labelling import jaccard
from zoo.core.family import Task

_RULED_OUT = -1e4  # a logit below it is of what cannot be: -1e9, or -65504 where constants are of half precision


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The outputs (N, ...) of Keras by name, and what of them counts.

    `unit` is what a sample is called, such as "images". `mask` (N, T), 1 = token: in the outputs named in `of_tokens`,
    which have a vector for every token, padding does not count. `labels` are the right answers: (N,) class numbers,
    (N, T) for each token, or (N, 2) first and last token; below 0 they do not count. Of several labels they are
    (N, classes) of 0 and 1, and the accuracy is the mean share of right ones in those that are said or true.
    """

    outputs: Mapping[str, np.ndarray]
    task: Task
    unit: str = "samples"
    mask: np.ndarray | None = None
    of_tokens: frozenset[str] = frozenset()
    labels: np.ndarray | None = None

    def compare(self, answers: Mapping[str, np.ndarray], limit: Limit) -> Agreement:
        """How far other answers are; with several outputs the worst of each number.

        Raises:
            ValueError: an output is missing, or has another shape.
        """
        if set(answers) != set(self.outputs):
            raise ValueError(f"The outputs {', '.join(answers)} are not Keras' {', '.join(self.outputs)}.")
        return worst(
            self._compare(name, answers[name], limit) for name in sorted(self.outputs, key=self._is_answer)[::-1]
        )

    @property
    def accuracy(self) -> float | None:
        """That of Keras; None without labels, and for values."""
        return self._accuracy("logits", self.outputs["logits"]) if "logits" in self.outputs else None

    def finite(self) -> bool:
        """Whether all numbers are."""
        return all(np.isfinite(output).all() for output in self.outputs.values())

    def _compare(self, name: str, answers: np.ndarray, limit: Limit) -> Agreement:
        expected, mask = self.outputs[name], self._mask(name)
        if answers.shape != expected.shape:
            raise ValueError(f"Answers of shape {answers.shape} do not compare with Keras' of shape {expected.shape}.")
        rows, keras_rows = _possible(_rows(answers, mask), _rows(expected, mask))
        scale = _units(keras_rows) if self.task in IN_UNITS else np.float32(1)
        found = compare(rows / scale, keras_rows / scale, labels=None, limit=limit)
        found = dataclasses.replace(found, unit=self.unit if mask is None else "tokens")
        if not self._is_answer(name):
            largest = float((np.abs(rows.astype(np.float64) - keras_rows)).max())
            return dataclasses.replace(found, logit_difference=largest, agreement=None, number="value")
        if self.task == "answer":
            margin = (limit.difference or 0.0) * (float(keras_rows.std()) or 1.0)
            same = same_best(_places(answers, mask), _places(expected, mask), margin)
            found = dataclasses.replace(found, count=2 * len(expected), agreement=same, unit="starts and ends")
        if self.task == "multi_label":
            margin = (limit.difference or 0.0) * (float(keras_rows.std()) or 1.0)
            found = dataclasses.replace(found, agreement=same_labels(rows, keras_rows, margin), several=True)
        accuracies = self._accuracy(name, answers), self._accuracy(name, expected)
        return dataclasses.replace(found, accuracy=accuracies[0], keras_accuracy=accuracies[1])

    def _is_answer(self, name: str) -> bool:
        """Whether the largest number of an output is what the model answers, or only one value of many."""
        return name == "logits" and self.task not in VALUES

    def _accuracy(self, name: str, output: np.ndarray) -> float | None:
        if self.labels is None or not self._is_answer(name):
            return None
        mask = self._mask(name)
        if self.task == "multi_label":
            return jaccard(output > 0, self.labels > 0.5)
        if self.task == "answer":
            return accuracy(_places(output, mask), self.labels.reshape(-1))
        return accuracy(_rows(output, mask), _rows(self.labels[..., np.newaxis], mask)[:, 0])

    def _mask(self, name: str) -> np.ndarray | None:
        return self.mask if name in self.of_tokens else None


def _places(logits: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Logits of start and end for each place, padding out of the question: (N, T, 2) -> (2 N, T)."""
    places = logits if mask is None else np.where(mask[..., np.newaxis].astype(bool), logits, -np.inf)
    return places.transpose(0, 2, 1).reshape(-1, logits.shape[1])


def _rows(values: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """The vectors of an output, those of padding left out: (N, ..., C) -> (rows, C)."""
    return values.reshape(-1, values.shape[-1]) if mask is None else values[mask.astype(bool)]


def _possible(rows: np.ndarray, keras_rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both without what both rule out, such as codes where a text goes on: beside -1e9 nothing else would count."""
    impossible = keras_rows < _RULED_OUT
    if not impossible.any():
        return rows, keras_rows
    least = keras_rows[~impossible].min()
    return np.where(impossible & (rows < _RULED_OUT), least, rows), np.where(impossible, least, keras_rows)


def _units(values: np.ndarray) -> np.ndarray:
    """How much each column varies, or how large it is if it does not: (rows, C) -> (C,)."""
    largest, spread = np.abs(values).max(0), values.std(0)
    return np.where(spread > 1e-6 * largest, spread, np.where(largest > 0, largest, 1.0)).astype(np.float32)
