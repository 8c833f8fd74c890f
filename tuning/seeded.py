"""What all oracles of a search share: seeds that are honoured, the defaults first, nothing on disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras_tuner
import numpy as np

from tuning import hyperparameters
from tuning.plan import Plan

_ENDLESS = 10**9  # how many trials may fail in a row: the search has its own rule
_DIGITS = 9_999  # keras-tuner writes a trial's number with as many digits as this has


class Seeded(keras_tuner.Oracle):
    """Comes before one of keras-tuner's oracles among the bases.

    The first trial has the space's defaults, so that a search does not end below them. A trial's random numbers come
    from the plan's seed and the trial's number, and from nothing before.
    """

    def __init__(self, plan: Plan, **options: Any):
        self.plan = plan
        found = plan.space.hyperparameters(plan.run)
        self._first = dict(found.values)
        self.told: Mapping[str, Any] | None = None  # the values of the next trial, where a journal says them
        first = plan.objectives[0]
        super().__init__(
            objective=keras_tuner.Objective(first.name, first.direction),
            hyperparameters=found,
            allow_new_entries=False,
            tune_new_entries=False,
            max_retries_per_trial=0,
            max_consecutive_failed_trials=_ENDLESS,
            seed=plan.seed,
            **options,
        )
        self.seed = plan.seed  # keras-tuner takes 0 for none
        self.max_trials = max(plan.trials, _DIGITS)
        self.verbose = 0

    def save(self) -> None:
        """Nothing: the journal is what is kept."""

    def reload(self) -> None:
        """Nothing, as `save`."""

    def _save_trial(self, trial: Any) -> None:
        pass

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """What keras-tuner proposes, at most as many trials as the plan has, none of it out of its range."""
        if len(self.trials) >= self.plan.trials:
            return {"status": "STOPPED", "values": None}
        self._seed_state, state = map(int, np.random.SeedSequence((self.seed, len(self.trials))).generate_state(2))
        self._random_state = np.random.RandomState(state)
        found = self.proposed(trial_id)
        if found["status"] == "RUNNING":
            found["values"] = hyperparameters.bounded(self.plan.space, found["values"])
        return found

    def proposed(self, trial_id: str) -> dict[str, Any]:
        """What keras-tuner proposes."""
        return super().populate_space(trial_id)

    def _random_values(self) -> dict[str, Any] | None:
        if self.told is not None:
            return dict(self.told)
        return super()._random_values() if self.trials else dict(self._first)

    def update_trial(self, trial_id: str, metrics: dict[str, float], step: int = 0) -> Any:
        """The scores of a trial; only those that the plan names are kept."""
        known = self.trials[trial_id].metrics
        for each in self.plan.objectives:
            if each.name in metrics and not known.exists(each.name):
                known.register(each.name, direction=each.direction)
        names = [each.name for each in self.plan.objectives]
        return super().update_trial(trial_id, {name: metrics[name] for name in names}, step)
