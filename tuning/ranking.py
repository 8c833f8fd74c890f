"""Which trials are better than others: the best one, and with several objectives those that none is better than."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tuning.plan import Objective, Plan
from tuning.trial import Trial


def values(trial: Trial, objectives: Sequence[Objective]) -> tuple[float, ...] | None:
    """What a trial scored in each objective; None of a trial that is not completed, or lacks a finite number of one."""
    if trial.result is None or trial.result.status != "completed":
        return None
    found = tuple(trial.result.scores.get(each.name, math.nan) for each in objectives)
    return found if all(map(math.isfinite, found)) else None


def ranked(trials: Sequence[Trial], plan: Plan) -> list[Trial]:
    """The trials with a score from the best to the worst by the first objective; the next ones decide among equals.

    Of trials that are equal in all, the earlier is first.
    """
    costs = _costs(trials, plan.objectives)
    return sorted((each for each in trials if each.id in costs), key=lambda each: costs[each.id])


def best(trials: Sequence[Trial], plan: Plan) -> Trial | None:
    """The best trial by the first objective, one of the front; None if none has a score."""
    return next(iter(ranked(trials, plan)), None)


def front(trials: Sequence[Trial], plan: Plan) -> list[Trial]:
    """The trials that no other is as good as in all objectives and better in one; as `ranked` orders them."""
    costs = _costs(trials, plan.objectives)

    def beaten(trial: Trial) -> bool:
        own = costs[trial.id]
        return any(
            other != own and all(theirs <= ours for theirs, ours in zip(other, own, strict=True))
            for other in costs.values()
        )

    return [trial for trial in ranked(trials, plan) if not beaten(trial)]


def _costs(trials: Sequence[Trial], objectives: Sequence[Objective]) -> dict[str, tuple[float, ...]]:
    """The scores by trial, less is better."""
    signs = [-1.0 if each.direction == "max" else 1.0 for each in objectives]
    scored = {trial.id: found for trial in trials if (found := values(trial, objectives)) is not None}
    return {
        trial: tuple(sign * value for sign, value in zip(signs, found, strict=True)) for trial, found in scored.items()
    }
