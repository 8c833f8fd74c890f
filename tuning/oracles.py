"""What proposes the trials of a search: oracles of keras-tuner, with their seeds honoured, nothing of them on disk.

What an oracle proposes hangs on the plan and on the events so far alone: the random numbers of a trial come from the
plan's seed and the trial's number. An oracle that is fed a journal's events goes on as the one before would have.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from keras_tuner import oracles as kinds

from tuning import hyperparameters, ranking
from tuning.bayesian import Bayesian, Pareto
from tuning.hyperband import Hyperband
from tuning.journal import Created, Ended, Event
from tuning.plan import Plan
from tuning.seeded import Seeded
from tuning.trial import Result, Trial

__all__ = ["Oracle", "end", "make", "propose", "replay"]


class SpaceChanged(ValueError):
    """A journal's trials are none of its plan's space, or not those that its oracle makes."""


class _Random(Seeded, kinds.RandomSearchOracle):
    pass


class _Grid(Seeded, kinds.GridSearchOracle):
    def proposed(self, trial_id: str) -> dict[str, Any]:
        found = super().proposed(trial_id)
        if found["status"] == "RUNNING":
            # keras-tuner finds the next point when this trial ends, for it may declare new ranges; ours do not.
            self._populate_next.append(trial_id)
        return found


Oracle = Seeded
_KINDS = {"random": _Random, "grid": _Grid, "bayesian": Bayesian, "hyperband": Hyperband, "pareto": Pareto}


def make(plan: Plan) -> Oracle:
    """The oracle of a plan, before its first trial. The same plan makes the same proposals, seed 0 too.

    Raises:
        ValueError: the plan's space cannot be.
    """
    return _KINDS[plan.oracle](plan)


def propose(oracle: Oracle, hand: str) -> Trial | Literal["idle", "stopped"]:
    """The next trial for a hand, or the one that it has; "idle" until another one ends; "stopped" if there is no more.

    A trial of Hyperband says in its values on which one it goes on ("tuner/trial_id"), from how many epochs
    ("tuner/initial_epoch") to how many ("tuner/epochs").
    """
    trial = oracle.create_trial(hand)
    if trial.status == "RUNNING":
        return Trial(trial.trial_id, hyperparameters.decoded(oracle.plan.space, trial.hyperparameters.values))
    return "idle" if trial.status == "IDLE" else "stopped"


def end(oracle: Oracle, trial_id: str, result: Result, plan: Plan) -> None:
    """Tell the oracle what became of a trial. One without a finite number for each objective has failed."""
    trial = oracle.trials[trial_id]
    scores = ranking.values(Trial(trial_id, {}, result), plan.objectives)
    if scores is None:
        trial.status = "FAILED"
        trial.message = result.reason
    else:
        names = [each.name for each in plan.objectives]
        oracle.update_trial(trial_id, dict(zip(names, scores, strict=True)), step=result.epochs)
        trial.status = "COMPLETED"
    oracle.end_trial(trial)


def replay(oracle: Oracle, events: Iterable[Event]) -> None:
    """Bring an oracle that was just made to where a journal ends. Trials without an end stay their hands'.

    Raises:
        SpaceChanged: the journal's trials are not of this plan.
    """
    for event in events:
        if isinstance(event, Ended):
            end(oracle, event.trial, event.result, oracle.plan)
        else:
            _create(oracle, event)


def _create(oracle: Oracle, event: Created) -> None:
    space = oracle.plan.space
    try:
        oracle.told = hyperparameters.encoded(space, event.values)
        found = propose(oracle, event.hand)
    except ValueError as error:
        raise SpaceChanged(_changed(event, str(error))) from None
    finally:
        oracle.told = None
    expected = hyperparameters.decoded(space, hyperparameters.encoded(space, event.values))
    if not isinstance(found, Trial) or (found.id, found.values) != (event.trial, expected):
        raise SpaceChanged(_changed(event, f"now there comes {found}"))


def _changed(event: Created, why: str) -> str:
    return (
        f"The journal's trial {event.trial} with {dict(event.values)} is not what this search makes: {why}. Its space, "
        "its oracle or keras-tuner was changed since. Begin a new search, or go on with what it was begun with."
    )
