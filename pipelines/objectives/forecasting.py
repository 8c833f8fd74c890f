"""Forecasting: the next steps of a series, compared with the forecast that all stays as it was last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from pipelines.data import ValueLoss
from pipelines.datasets import Part, SeriesDataset
from pipelines.objectives.losses import Deviation
from pipelines.objectives.objective import Objective
from pipelines.objectives.pictures import figure
from pipelines.objectives.regression import errors, mean_error, values
from pipelines.objectives.scores import Scores, number

_LINES = 24  # time steps in a table


@dataclass(frozen=True)
class StepScore:
    """Errors of one time step ahead, and of the last known value in its place, in the target's own unit."""

    step: int
    mae: float
    rmse: float
    naive_mae: float
    naive_rmse: float


@dataclass(frozen=True)
class ForecastTarget:
    """Errors of one target over all steps, and of each; and its last window, with what followed and what was said."""

    name: str
    mae: float
    rmse: float
    r2: float | None
    naive_mae: float
    steps: tuple[StepScore, ...]
    past: tuple[float, ...]
    truth: tuple[float, ...]
    forecast: tuple[float, ...]


@dataclass(frozen=True)
class ForecastScores(Scores):
    """Scores of each series that is predicted."""

    kind = "forecast"
    picture = "forecast.png"
    caption = "Forecast of the last test window"

    targets: tuple[ForecastTarget, ...]

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        targets = tuple(
            ForecastTarget(**{**target, "steps": tuple(StepScore(**step) for step in target["steps"])})
            for target in values["targets"]
        )
        return cls(**{**values, "targets": targets})

    def summary(self, unit: str) -> str:
        parts = [
            f"`{t.name}` by **{number(t.mae)}** (R2 {number(t.r2)}), where the last known value misses it by "
            f"{number(t.naive_mae)}"
            for t in self.targets
        ]
        return f"On {self.examples:,} {unit} never trained on, forecasts miss {'; '.join(parts)}, on average."

    def rows(self, unit: str) -> list[tuple[str, ...]]:
        header = (
            "target",
            "step",
            "mean absolute error",
            "root mean squared error",
            "of the last value",
            "of it, root",
        )
        lines = [
            (t.name, str(s.step), number(s.mae), number(s.rmse), number(s.naive_mae), number(s.naive_rmse))
            for t in self.targets
            for s in (t.steps[i] for i in _spread(len(t.steps), _LINES))
        ]
        return [header, *lines]

    def draw(self, folder: Path, unit: str) -> None:
        with figure(folder / "forecast.png", panels=len(self.targets), panel=(6.0, 3.5)) as panels:
            for axes, target in zip(panels, self.targets, strict=True):
                ahead = np.arange(1, len(target.truth) + 1)
                axes.plot(np.arange(1 - len(target.past), 1), target.past, color="gray", label="seen")
                axes.plot(ahead, target.truth, "o-", markersize=3, color="black", label="true")
                axes.plot(ahead, target.forecast, "o-", markersize=3, color="tab:orange", label="forecast")
                axes.axvline(0.5, color="lightgray", linewidth=1)
                axes.set_xlabel("time steps from the last one seen")
                axes.set_title(f"{target.name}: the last test window")
                axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3)


def forecast(data: SeriesDataset, loss: ValueLoss) -> Objective:
    """Values (B, horizon, K) and predictions (B, horizon, K)."""

    def evaluate(model: keras.Model, batches: tf.data.Dataset, part: Part) -> ForecastScores:
        true, predicted = values(model, batches)
        return score(predicted, true, np.asarray(data.past(part), "float64"), data.targets)

    return Objective(loss=lambda: Deviation(loss, data.scale), metrics=mean_error, score=evaluate)


def score(predicted: np.ndarray, true: np.ndarray, past: np.ndarray, names: tuple[str, ...]) -> ForecastScores:
    """Scores from values (N, horizon, K) and what was seen before them (N, window, K)."""
    naive = np.broadcast_to(past[:, -1:], true.shape)
    targets = []
    for k, name in enumerate(names):
        steps = []
        for step in range(true.shape[1]):
            mae, rmse, _ = errors(predicted[:, step, k], true[:, step, k])
            naive_mae, naive_rmse, _ = errors(naive[:, step, k], true[:, step, k])
            steps.append(StepScore(step + 1, mae, rmse, naive_mae, naive_rmse))
        last = (tuple(map(float, series[-1, :, k])) for series in (past, true, predicted))
        naive_mae, _, _ = errors(naive[..., k], true[..., k])
        targets.append(ForecastTarget(name, *errors(predicted[..., k], true[..., k]), naive_mae, tuple(steps), *last))
    return ForecastScores(examples=len(true), targets=tuple(targets))


def _spread(count: int, most: int) -> list[int]:
    """The numbers below `count`, or `most` of them evenly spread from the first to the last."""
    return sorted({round(float(i)) for i in np.linspace(0, count - 1, min(count, most))})
