"""How much each of the things that are tried matters for the score, as far as the trials tell.

A random forest learns the ranks of the scores from the values; the shares of its variance over the whole space, not
over where the search looked most, are those of functional ANOVA (https://proceedings.mlr.press/v32/hutter14.html).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuning.axes import Axis
from tuning.plan import Objective
from tuning.space import OF_HYPERBAND, Space
from tuning.trial import Trial

FEWEST = 8  # completed trials with a score, under which nothing is told
EPOCHS = "epochs given"  # those of Hyperband: a trial that had more is better for it
_DRAWN = 300  # points of the space
_BACKGROUND = 64  # of them, over which a mean effect is taken
_GRID = 13  # values of an axis
_TREES = 120
_EPOCHS = f"{OF_HYPERBAND}epochs"


@dataclass(frozen=True)
class Share:
    """Of the variance of the ranks: what a value decides by itself, and what it decides together with others too."""

    name: str
    alone: float
    total: float
    trials: int  # in which it was active


@dataclass(frozen=True)
class Importance:
    """The shares from the largest on. `explained` is R2 on the ranks of trials that a tree had not seen."""

    objective: Objective
    shares: tuple[Share, ...]
    explained: float
    trials: int
    silent: str = ""  # why nothing is told

    @property
    def reliable(self) -> bool:
        """Whether the forest knows more of a trial than how good trials are on the average."""
        return not self.silent and self.explained > 0.1

    @property
    def told(self) -> bool:
        """Whether there is anything to show."""
        return not self.silent and self.explained > 0

    @property
    def caution(self) -> str:
        """What to think of it, in a line."""
        if self.silent:
            return self.silent
        if not self.told:
            return f"{self.trials} trials do not tell what matters: what some of them teach is not so of the others."
        share = f"{self.explained:.0%} of the differences between trials that are left out"
        if self.reliable:
            return f"Of {self.trials} trials. The forest behind it explains {share}."
        return f"Of {self.trials} trials, too few to rely on: the forest behind it explains only {share}."


def importance(
    trials: Sequence[Trial], axes: Sequence[Axis], points: Sequence[Mapping[str, Any]], objective: Objective
) -> Importance:
    """How much each axis matters for an objective; `points` are drawn from the whole space."""
    scored = [(trial.values, score) for trial in trials if (score := _score(trial, objective)) is not None]
    scores = np.array([score for _, score in scored])
    tried, points = [values for values, _ in scored], _with_epochs(points, [values for values, _ in scored])
    axes = [axis for axis in (*axes, _epochs_given(tried)) if axis.varies]
    if silent := _silent(scores, axes):
        return Importance(objective, (), 0.0, len(scored), silent)
    from sklearn.ensemble import RandomForestRegressor

    places, active = _places(tried, axes)
    whole, asked = _places(points, axes)
    forest = RandomForestRegressor(_TREES, oob_score=True, random_state=0, max_features=max(1, len(axes) * 2 // 3))
    forest.fit(_filled(places, active), _ranks(scores))
    whole = _filled(whole, asked)
    effects = _effects(forest, whole, asked)
    tried_in = active.sum(axis=0)
    shares = [Share(axis.name, *effects[place], int(tried_in[place])) for place, axis in enumerate(axes)]
    shares.sort(key=lambda share: -share.total)
    return Importance(objective, tuple(shares), float(forest.oob_score_), len(scored))


def drawn(space: Space) -> list[dict[str, Any]]:
    """Points of a whole space.

    Raises:
        ValueError: a model or a recipe of the space is no longer there.
    """
    generator = random.Random(0)
    return [space.draw(generator) for _ in range(_DRAWN)]


def _silent(scores: np.ndarray, axes: Sequence[Axis]) -> str:
    if len(scores) < FEWEST:
        return f"Too few to tell what matters: {len(scores)} completed trials of at least {FEWEST}."
    if not axes:
        return "The space has nothing to choose from."
    return "All trials scored the same." if np.ptp(scores) == 0 else ""


def _score(trial: Trial, objective: Objective) -> float | None:
    if trial.result is None or trial.result.status != "completed":
        return None
    score = trial.result.scores.get(objective.name)
    return score if score is not None and np.isfinite(score) else None


def _epochs_given(tried: Sequence[Mapping[str, Any]]) -> Axis:
    return Axis(EPOCHS, tuple(sorted({values[_EPOCHS] for values in tried if _EPOCHS in values})))


def _with_epochs(points: Sequence[Mapping[str, Any]], tried: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The points, with the epochs that Hyperband gave to one trial or another."""
    if not any(_EPOCHS in values for values in tried):
        return list(points)
    given = [tried[number % len(tried)].get(_EPOCHS) for number in range(len(points))]
    return [{**point, _EPOCHS: each} if each is not None else point for point, each in zip(points, given, strict=True)]


def _places(found: Sequence[Mapping[str, Any]], axes: Sequence[Axis]) -> tuple[np.ndarray, np.ndarray]:
    """Where the values of each point lie (points, axes), and whether they are there at all."""
    names = [_EPOCHS if axis.name == EPOCHS else axis.name for axis in axes]
    active = np.array([[name in values for name in names] for values in found])
    places = [
        [axis.place(values[name]) if name in values else 0.0 for name, axis in zip(names, axes, strict=True)]
        for values in found
    ]
    return np.array(places), active


def _filled(places: np.ndarray, active: np.ndarray) -> np.ndarray:
    """The places, any that others have where there is none: that a value is missing tells the forest nothing.

    It would tell of the model, or the recipe, that has no such value, and take their importance.
    """
    generator, filled = np.random.default_rng(0), places.copy()
    for index, own in enumerate(active.T):
        known = places[own, index] if own.any() else np.array([0.5])
        filled[~own, index] = generator.choice(known, size=int((~own).sum()))
    return filled


def _ranks(scores: np.ndarray) -> np.ndarray:
    """Ranks (N,) from 0 to 1: a loss of a million counts no more than the next worst one. Equals share theirs."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts + 1) / 2
    return middle[place] / max(1, len(scores) - 1)


def _effects(forest: Any, drawn: np.ndarray, asked: np.ndarray) -> list[tuple[float, float]]:
    """Of each axis, as shares of the variance: that of its mean effect, and Jansen's estimate of its total effect.

    Both are over the points where it is asked. https://doi.org/10.1016/S0010-4655(98)00154-4
    """
    changed = [_changed(drawn[own], place) for place, own in enumerate(asked.T)]
    parts = [drawn, *(part for each in changed for part in (each.other, each.grid))]
    ends = np.cumsum([len(part) for part in parts])[:-1]
    before, *after = np.split(forest.predict(np.concatenate(parts)), ends)  # at once: each call costs what many rows do
    variance = max(before.var(), 1e-12)
    found = []
    for own, each, other, grid in zip(asked.T, changed, after[::2], after[1::2], strict=True):
        if not own.any():
            found.append((0.0, 0.0))
            continue
        total = ((before[own] - other) ** 2).mean() / 2
        effect = grid.reshape(len(each.weights), -1).mean(axis=1)
        alone = each.weights @ (effect - each.weights @ effect) ** 2
        shares = np.array([alone, max(total, alone)]) * own.mean() / variance
        found.append((float(min(shares[0], 1)), float(min(shares[1], 1))))
    return found


@dataclass(frozen=True)
class _Changed:
    """Points with other values of one axis: each of another point, and each of a few values at all of some points."""

    other: np.ndarray
    grid: np.ndarray  # (values x points, axes)
    weights: np.ndarray  # of the values


def _changed(rows: np.ndarray, place: int) -> _Changed:
    other = rows.copy()
    if not len(rows):
        return _Changed(other, other, np.ones(0))
    other[:, place] = np.random.default_rng(place).permutation(rows[:, place])
    values = np.unique(np.quantile(rows[:, place], np.linspace(0, 1, _GRID), method="nearest"))
    weights = np.bincount(np.abs(values - rows[:, place, None]).argmin(axis=1), minlength=len(values)) / len(rows)
    grid = np.repeat(rows[None, :_BACKGROUND], len(values), axis=0)
    grid[:, :, place] = values[:, None]
    return _Changed(other, grid.reshape(-1, rows.shape[1]), weights)
