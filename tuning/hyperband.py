"""Hyperband: many trials for few epochs, the best of them for more. https://arxiv.org/abs/1603.06560.

keras-tuner's oracle, with two differences. There, a round out of which some trials failed waits for them for ever, and
nothing of it goes on; here the best of those that are left do. And there, a space that has no more points ends the
search, though trials could go on; here they do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_tuner import oracles as kinds

from tuning.plan import Plan
from tuning.seeded import Seeded

Bracket = Mapping[str, Any]


class Hyperband(Seeded, kinds.HyperbandOracle):
    """Brackets of rounds: each round goes on with the best trials of the one before, for `factor` times the epochs."""

    def __init__(self, plan: Plan):
        super().__init__(plan, max_epochs=plan.most_epochs, factor=plan.factor)

    def proposed(self, trial_id: str) -> dict[str, Any]:
        """A trial that goes on, or a new one of a bracket that lacks one, or the first of the next bracket."""
        while True:
            for bracket in self._brackets:
                values = self._new(bracket, trial_id) or self._going_on(bracket, trial_id)
                if values:
                    return {"status": "RUNNING", "values": values}
            if self._current_bracket == 0:
                return {"status": "IDLE" if self.ongoing_trials else "STOPPED", "values": None}
            self._increment_bracket_num()
            self._start_new_bracket()

    def _new(self, bracket: Bracket, trial_id: str) -> dict[str, Any] | None:
        """The values of a new trial of a bracket's first round; None if it is full, or the space has no more."""
        number, first = bracket["bracket_num"], bracket["rounds"][0]
        values = self._random_values() if len(first) < self._get_size(number, 0) else None
        if values is None:
            return None
        first.append({"past_id": None, "id": trial_id})
        return {**values, **self._said(number, 0), "tuner/initial_epoch": 0}

    def _going_on(self, bracket: Bracket, trial_id: str) -> dict[str, Any] | None:
        """The values of a trial of the round before that is surely among its best; None if none is yet."""
        number, rounds = bracket["bracket_num"], bracket["rounds"]
        room = len(rounds[0])
        for level in range(1, len(rounds)):
            size = self._get_size(number, level)
            before = [self.trials[each["id"]] for each in rounds[level - 1]]
            gone = [each["past_id"] for each in rounds[level]]
            ended = [trial for trial in before if trial.status != "RUNNING" and trial.trial_id not in gone]
            able = [trial for trial in ended if trial.status == "COMPLETED"]
            if len(gone) < size and able and len(ended) > room - size:
                sign = -1 if self.objective.direction == "max" else 1
                best = min(able, key=lambda trial: sign * trial.score)
                rounds[level].append({"past_id": best.trial_id, "id": trial_id})
                return {
                    **best.hyperparameters.values,
                    **self._said(number, level),
                    "tuner/initial_epoch": self._get_epochs(number, level - 1),
                    "tuner/trial_id": best.trial_id,
                }
            # As many as can come into this round: those that failed in the one before cannot.
            room = min(size, room - sum(trial.status == "FAILED" for trial in before))
        return None

    def _said(self, number: int, level: int) -> dict[str, int]:
        return {"tuner/epochs": self._get_epochs(number, level), "tuner/bracket": number, "tuner/round": level}
