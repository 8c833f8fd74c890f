"""Regression: numbers for each example, by squared, absolute or Huber's error in units of their spread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from pipelines.data import ValueLoss
from pipelines.datasets import Part, ValueDataset
from pipelines.objectives.losses import Deviation
from pipelines.objectives.objective import Objective, WeightedMetric
from pipelines.objectives.pictures import figure
from pipelines.objectives.scores import Scores, number

_SHOWN = 500  # examples kept for the picture


@dataclass(frozen=True)
class TargetScore:
    """Errors of one target in its own unit. `r2` is None where all true values are the same.

    `shown` holds (true, predicted) of up to 500 examples.
    """

    name: str
    mae: float
    rmse: float
    r2: float | None
    shown: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class RegressionScores(Scores):
    """Scores of each number that is predicted."""

    kind = "regression"
    picture = "predictions.png"
    caption = "Predicted against true values"

    targets: tuple[TargetScore, ...]

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        return cls(**{**values, "targets": tuple(TargetScore(**target) for target in values["targets"])})

    def summary(self, unit: str) -> str:
        parts = [f"`{t.name}` by **{number(t.mae)}** (R2 {number(t.r2)})" for t in self.targets]
        return f"On {self.examples:,} {unit} never trained on, predictions miss {', '.join(parts)} on average."

    def rows(self, unit: str) -> list[tuple[str, ...]]:
        header = ("target", "MAE", "RMSE", "R2")
        return [header, *((t.name, number(t.mae), number(t.rmse), number(t.r2)) for t in self.targets)]

    def draw(self, folder: Path, unit: str) -> None:
        with figure(folder / "predictions.png", panels=len(self.targets)) as panels:
            for axes, target in zip(panels, self.targets, strict=True):
                true, predicted = np.transpose(target.shown)
                ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
                axes.plot(ends, ends, color="gray", linewidth=1)
                axes.scatter(true, predicted, s=10, alpha=0.6)
                axes.set_xlabel("true")
                axes.set_ylabel("predicted")
                axes.set_title(f"{target.name}: mean error {number(target.mae)}")


def regress(data: ValueDataset, loss: ValueLoss) -> Objective:
    """Values (B, K) and predictions (B, K)."""

    def evaluate(model: keras.Model, batches: tf.data.Dataset, part: Part) -> RegressionScores:
        true, predicted = values(model, batches)
        return score(predicted, true, data.targets)

    return Objective(loss=lambda: Deviation(loss, data.scale), metrics=mean_error, score=evaluate)


def mean_error() -> list[keras.metrics.Metric]:
    """The mean absolute error over all targets, each in its own unit."""

    def error(true, predicted):
        return ops.abs(ops.reshape(true, ops.shape(predicted)) - predicted)

    return [WeightedMetric(error, "mae")]


def values(model: keras.Model, batches: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """True and predicted values of all batches, in float64."""
    true = np.concatenate([np.asarray(batch[1], "float64") for batch in batches])
    predicted = np.asarray(model.predict(batches.map(lambda inputs, *_: inputs), verbose=0), "float64")
    return true.reshape(predicted.shape), predicted


def score(predicted: np.ndarray, true: np.ndarray, names: tuple[str, ...]) -> RegressionScores:
    """Scores from values (N, K)."""
    chosen = np.linspace(0, len(true) - 1, min(_SHOWN, len(true))).astype(int)
    pairs = np.stack([true[chosen], predicted[chosen]], axis=-1)
    targets = tuple(
        TargetScore(name, *errors(predicted[:, k], true[:, k]), tuple(map(tuple, pairs[:, k].tolist())))
        for k, name in enumerate(names)
    )
    return RegressionScores(examples=len(true), targets=targets)


def errors(predicted: np.ndarray, true: np.ndarray) -> tuple[float, float, float | None]:
    """Mean absolute error, root mean squared error and R2 (None where the true values do not vary)."""
    difference = predicted - true
    spread = float(np.square(true - true.mean()).sum())
    r2 = 1 - float(np.square(difference).sum()) / spread if spread > 0 else None
    return float(np.abs(difference).mean()), float(np.sqrt(np.square(difference).mean())), r2
