"""The proposals of a Gaussian process: for one objective, and for several at once (ParEGO).

keras-tuner's oracle, with three differences. It proposes no point twice: there, in a space of choices, the best point
is proposed again and again. Trials that still run count as what the process expects of them; there, as what it
expected before it knew the others. And the acquisition is looked at in many points at once and then near the best of
them, in place of 50 descents with one point after the other, which take many times as long.
"""

from __future__ import annotations

import warnings
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner import oracles as kinds
from sklearn.exceptions import ConvergenceWarning

from tuning.plan import Plan
from tuning.seeded import Seeded

_CANDIDATES = 600  # points where the acquisition is looked at, and as many near the best ones of each round
_SCALES = (0.1, 0.03, 0.01)  # of steps from these, round by round; 1 is a whole range
_CENTERS = 5
_RESTARTS = 2  # of the search for the process's own parameters
_RHO = 0.05  # share of the plain sum in ParEGO's cost


class Bayesian(Seeded, kinds.BayesianOptimizationOracle):
    """Proposes where the lower confidence bound of a Gaussian process over the trials so far is lowest."""

    def __init__(self, plan: Plan):
        dimensions = len(plan.space.asked())
        # keras-tuner's 3 times the dimensions would be all of a small search.
        points = min(3 * dimensions, max(3, plan.trials // 3))
        super().__init__(plan, num_initial_points=points)

    def proposed(self, trial_id: str) -> dict[str, Any]:
        completed = [trial for trial in self.trials.values() if trial.status == "COMPLETED"]
        if self.told is not None or len(completed) < self.num_initial_points or not self._nonfixed_space():
            return self._random_populate_space()
        points = np.array([self._vector(trial.hyperparameters) for trial in completed])
        costs = self.costs(completed)
        self.gpr = self._make_gpr().set_params(n_restarts_optimizer=_RESTARTS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.gpr.fit(points, costs)
            running = [self._vector(trial.hyperparameters) for trial in self.ongoing_trials.values()]
            if running:
                expected = self.gpr.predict(np.array(running))
                self.gpr.fit(np.vstack([points, running]), np.concatenate([costs, expected]))
        best = points[np.argmin(costs)]
        for point in self._candidates(best):
            values = self._vector_to_values(point)
            if not self._duplicate(values):
                return {"status": "RUNNING", "values": values}
        return self._random_populate_space()

    def costs(self, trials: list[Any]) -> np.ndarray:
        """What completed trials cost, (N,): less is better."""
        return self._oriented(trials)[:, 0]

    def _oriented(self, trials: list[Any]) -> np.ndarray:
        """The objectives of completed trials, (N, objectives): less is better."""
        objectives = self.plan.objectives
        signs = np.array([-1.0 if each.direction == "max" else 1.0 for each in objectives])
        return signs * [[trial.metrics.get_best_value(each.name) for each in objectives] for trial in trials]

    def _candidates(self, best: np.ndarray) -> np.ndarray:
        """Points (N, dimensions) in 0..1 from the most promising on: anywhere, near the best trial, and nearer yet."""
        points = self._random_state.uniform(size=(_CANDIDATES, len(best)))
        centers = best[None]
        for scale in _SCALES:
            steps = self._random_state.normal(scale=scale, size=(_CANDIDATES // len(centers), len(centers), len(best)))
            near = np.clip(centers + steps, 0, 1).reshape(-1, len(best))
            points = np.vstack([points, near])
            points = points[np.argsort(self._bound(points), kind="stable")]
            centers = points[:_CENTERS]
        return points

    def _bound(self, points: np.ndarray) -> np.ndarray:
        mean, deviation = self.gpr.predict(points, return_std=True)
        return mean - self.beta * deviation

    def _vector(self, given: keras_tuner.HyperParameters) -> list[float]:
        """Where the values of a trial lie, 0..1 in each dimension; those that are not asked at their defaults."""
        return [
            hp.value_to_prob(given.values[hp.name] if given.is_active(hp) else hp.default)
            for hp in self._nonfixed_space()
        ]


class Pareto(Bayesian):
    """ParEGO: each trial is proposed for another weighing of the objectives. https://doi.org/10.1109/TEVC.2005.851274.

    Differs from the paper: the weights are any, not of a grid, and the bound is as in `Bayesian`.
    """

    def costs(self, trials: list[Any]) -> np.ndarray:
        """The augmented Tchebycheff norm of the objectives, each over its range so far, in weights drawn anew."""
        found = self._oriented(trials)
        low, high = found.min(axis=0), found.max(axis=0)
        shares = (found - low) / np.where(high > low, high - low, 1.0)
        weighed = shares * self._random_state.dirichlet(np.ones(found.shape[1]))
        return weighed.max(axis=1) + _RHO * weighed.sum(axis=1)
