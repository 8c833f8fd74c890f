"""Hyperband: who goes on, and who waits."""

from __future__ import annotations

import math

from tests.tuning.proposals import cost, free, plan, points, search
from tuning import oracles
from tuning.space import Choice, Float, Space
from tuning.trial import Result, Trial


def test_hyperband_goes_on_with_the_best_of_each_round():
    events = search(oracles.make(plan("hyperband", trials=100)), score=cost)
    ended = {event.trial: event.result for event in events[1::2]}
    values = {event.trial: event.values for event in events[::2]}
    went_on = {trial: given for trial, given in values.items() if given["tuner/initial_epoch"]}
    assert {given["tuner/epochs"] for given in values.values()} == {1, 3, 9}
    assert len(went_on) > 3
    for given in went_on.values():
        earlier = given["tuner/trial_id"]
        assert ended[earlier].status == "completed" and not math.isnan(ended[earlier].scores["val_loss"])
        assert values[earlier]["tuner/epochs"] == given["tuner/initial_epoch"] < given["tuner/epochs"]
        assert all(values[earlier][name] == value for name, value in given.items() if not name.startswith("tuner/"))
    first = [trial for trial, given in values.items() if (given["tuner/bracket"], given["tuner/round"]) == (2, 0)]
    scores = {trial: cost(values[trial]).scores.get("val_loss", math.nan) for trial in first}
    best = min((trial for trial in first if scores[trial] >= 0), key=scores.__getitem__)
    assert any(given["tuner/trial_id"] == best for given in went_on.values())


def test_hyperband_goes_on_with_those_that_did_not_fail():
    def mostly(values):
        return free(values) if values["patience"] == 2 else Result("failed", "x")

    space = Space({"patience": Choice(2, 3, 4), "label_smoothing": Float(0, 0.5)})
    values = points(search(oracles.make(plan("hyperband", space, trials=100)), score=mostly))
    rounds = [(each["tuner/bracket"], each["tuner/round"]) for each in values]
    completed = sum(each["patience"] == 2 and at == (2, 0) for each, at in zip(values, rounds, strict=True))
    assert 1 <= completed < 7  # of 9 trials; keras-tuner waits for 7
    assert rounds.count((2, 1)) == min(completed, 3) and rounds.count((2, 2)) == 1
    assert all(each["patience"] == 2 for each, at in zip(values, rounds, strict=True) if at[1])


def test_hyperband_goes_on_where_the_space_has_no_more():
    values = points(search(oracles.make(plan("hyperband", Space({"patience": [2, 3, 4]}), trials=100)), score=free))
    assert [each["tuner/round"] for each in values].count(0) == 3
    assert max(each["tuner/epochs"] for each in values) == 9


def test_hyperband_waits_for_trials_that_decide():
    oracle = oracles.make(plan("hyperband", trials=100, max_epochs=3))
    hands = 0
    while isinstance(oracles.propose(oracle, f"hand{hands}"), Trial):
        hands += 1
    assert oracles.propose(oracle, "another") == "idle"
    for trial in list(oracle.trials):
        oracles.end(oracle, trial, Result("completed", scores={"val_loss": 1.0}), oracle.plan)
    assert isinstance(oracles.propose(oracle, "another"), Trial)
