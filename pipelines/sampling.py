"""A few examples of a data set as arrays, whatever is in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipelines.agreement import VALUES
from pipelines.interface import input_tensors
from zoo.core.family import Task

READ = 20_000  # examples of a part that are looked at; the chosen ones are among them


@dataclass(frozen=True)
class Drawn:
    """Inputs (N, ...) by name, texts padded to the longest, and their right answers; below 0 these do not count."""

    inputs: dict[str, np.ndarray]
    labels: np.ndarray | None

    def first(self, count: int) -> Drawn:
        """The first of them."""
        labels = None if self.labels is None else self.labels[:count]
        return Drawn({name: values[:count] for name, values in self.inputs.items()}, labels)


def draw(
    batches: tf.data.Dataset, model: keras.Model, *, task: Task, available: int, count: int, seed: int
) -> Drawn | None:
    """`count` examples at random of `available` ones, fewer if there are fewer; None if there are none.

    `batches` are (inputs, targets[, weights]) as the task's objective gives them.
    """
    among = min(available, READ)
    chosen = set(np.random.default_rng(seed).permutation(among)[:count].tolist())
    found: list[tuple[dict[str, np.ndarray], np.ndarray | None]] = []
    place = 0
    for batch in batches.as_numpy_iterator():
        if place >= among:
            break
        inputs, targets, weights = (*batch, None, None)[:3] if isinstance(batch, tuple) else (batch, None, None)
        named = inputs if isinstance(inputs, Mapping) else dict.fromkeys(input_tensors(model), inputs)
        labels = _labels(targets, weights, task)
        size = len(next(iter(named.values())))
        for row in sorted(chosen.intersection(range(place, place + size))):
            index = row - place
            inputs_of_row = {name: np.asarray(values[index]) for name, values in named.items()}
            found.append((inputs_of_row, None if labels is None else labels[index]))
        place += size
    if not found:
        return None
    inputs = {name: _stacked([one[name] for one, _ in found], fill=0) for name in input_tensors(model)}
    answers = [answer for _, answer in found if answer is not None]
    return Drawn(inputs, _stacked(answers, fill=-1) if answers else None)


def _labels(targets: Any, weights: Any, task: Task) -> np.ndarray | None:
    """Targets as class numbers; -1 where they do not count."""
    if targets is None or task in VALUES:
        return None
    targets = np.asarray(targets)
    if task == "answer":  # (B, T, 2): 1 at the first and at the last token of the answer
        return np.where((targets == 1).any(axis=1), (targets == 1).argmax(axis=1), -1)
    return targets if weights is None or task == "classify" else np.where(np.asarray(weights) > 0, targets, -1)


def _stacked(rows: Sequence[np.ndarray], *, fill: int) -> np.ndarray:
    """Rows whose first axes differ in length, as one array."""
    rows = [np.asarray(row) for row in rows]
    if not rows[0].ndim:
        return np.stack(rows)
    length = max(len(row) for row in rows)
    padding = [(0, 0)] * (rows[0].ndim - 1)
    return np.stack([np.pad(row, [(0, length - len(row)), *padding], constant_values=fill) for row in rows])
