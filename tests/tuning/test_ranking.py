"""The best trial, and the front of those that none is better than."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from pipelines.recipes import from_scratch
from pipelines.run import Images, Run
from tuning import ranking
from tuning.plan import Objective, Plan
from tuning.space import Choice, Space
from tuning.trial import Result, Trial


def plan(*objectives: str) -> Plan:
    run = Run("lenet5", Images("digits"), from_scratch(), Path("out"))
    return Plan(run, Space({"batch": Choice(16, 32)}), tuple(map(Objective.of, objectives)), oracle="random")


def trial(number: int, status: str = "completed", **scores: float) -> Trial:
    return Trial(f"{number:04d}", {}, Result(status, scores=scores))


def ids(trials: list[Trial]) -> list[str]:
    return [each.id for each in trials]


def test_the_best_is_in_the_direction_of_the_first_objective():
    trials = [trial(1, val_loss=0.5, val_accuracy=0.8), trial(2, val_loss=0.9, val_accuracy=0.9)]
    assert ranking.best(trials, plan("val_accuracy")).id == "0002"
    assert ranking.best(trials, plan("val_loss")).id == "0001"
    assert ranking.best(trials, plan("val_accuracy:min")).id == "0001"


def test_what_has_no_score_is_not_ranked():
    unscored = [
        Trial("0001", {}),
        trial(2, "failed", val_loss=0.0),
        trial(3, val_loss=math.nan),
        trial(4, val_loss=-math.inf),
        trial(5, loss=0.1),
    ]
    assert ranking.best(unscored, plan("val_loss")) is None
    assert ranking.front(unscored, plan("val_loss")) == []
    assert ids(ranking.ranked([*unscored, trial(6, val_loss=9.0)], plan("val_loss"))) == ["0006"]


def test_of_equals_the_next_objective_decides_and_then_the_earlier():
    trials = [trial(i, val_accuracy=0.9, size=size) for i, size in ((1, 30), (2, 10), (3, 10))]
    assert ids(ranking.ranked(trials, plan("val_accuracy", "size"))) == ["0002", "0003", "0001"]


@pytest.mark.parametrize("order", [1, -1])
def test_the_front_holds_what_nothing_is_better_than(order):
    trials = [
        trial(1, val_accuracy=0.90, size=100),
        trial(2, val_accuracy=0.80, size=10),
        trial(3, val_accuracy=0.79, size=10),  # as small as 2, and worse
        trial(4, val_accuracy=0.95, size=300),
        trial(5, val_accuracy=0.85, size=150),  # 1 is better in both
        trial(6, val_accuracy=0.80, size=10),  # equals 2: neither is better
    ][::order]
    assert set(ids(ranking.front(trials, plan("val_accuracy", "size")))) == {"0004", "0001", "0002", "0006"}
    assert ids(ranking.front(trials, plan("val_accuracy", "size")))[:2] == ["0004", "0001"]


def test_the_front_of_one_objective_is_the_best():
    trials = [trial(1, val_loss=0.5), trial(2, val_loss=0.4)]
    assert ids(ranking.front(trials, plan("val_loss"))) == ["0002"]
