"""The Gaussian process: it learns, of completed trials alone, and finds a front."""

from __future__ import annotations

import math

import pytest

from tests.tuning.proposals import plan, search
from tuning import journal, oracles, ranking
from tuning.space import Float, Space
from tuning.trial import Result, Trial


def bowl(values) -> Result:
    place = [math.log10(values["recipe.learning_rate"]) / 4, values["label_smoothing"], values["recipe.layer_decay"]]
    loss = sum((at - goal) ** 2 for at, goal in zip(place, (-0.6, 0.22, 0.83), strict=True))
    return Result("completed", scores={"val_loss": loss, "size": (place[1] - 0.9) ** 2})


BOWL = Space(
    {
        "recipe": "fine_tuning",
        "recipe.learning_rate": Float(1e-4, 1, sampling="log", default=1e-4),
        "label_smoothing": Float(0, 0.9, default=0.9),
        "recipe.layer_decay": Float(0.1, 1, default=0.1),
    }
)


def test_the_gaussian_process_learns_from_the_trials():
    best = {
        oracle: [
            min(
                event.result.scores["val_loss"]
                for event in search(oracles.make(plan(oracle, BOWL, trials=20, seed=seed)), score=bowl)[1::2]
            )
            for seed in (0,)
        ]
        for oracle in ("random", "bayesian")
    }
    assert max(best["bayesian"]) < 0.5 * min(best["random"])


def test_a_failed_trial_teaches_nothing():
    oracle = oracles.make(plan("bayesian", BOWL, trials=12))
    events = search(
        oracle, score=lambda values: Result("failed", "x") if values["label_smoothing"] > 0.5 else bowl(values)
    )
    failed = sum(event.result.status == "failed" for event in events[1::2])
    assert failed > 1
    assert len(oracle.gpr.X_train_) <= 12 - failed
    assert all(trial.message == "x" for trial in oracle.trials.values() if trial.status == "FAILED")


def test_the_front_of_several_objectives_is_found_from_end_to_end():
    made = plan("pareto", BOWL, trials=24)
    events = search(oracles.make(made), score=bowl)
    front = ranking.front(journal.trials(events), made)
    assert len(front) >= 5
    assert front[0].result.scores["val_loss"] < 0.02
    assert front[-1].result.scores["size"] < 0.02


def test_a_running_trial_counts_as_what_is_expected_of_it():
    oracle = oracles.make(plan("bayesian", BOWL, trials=12))
    trials = [oracles.propose(oracle, f"hand{hand}") for hand in range(5)]
    assert oracles.propose(oracle, "hand2") == trials[2]
    for trial in trials[:4]:
        oracles.end(oracle, trial.id, bowl(trial.values), oracle.plan)
    assert isinstance(oracles.propose(oracle, "hand0"), Trial)
    assert len(oracle.gpr.X_train_) == 5
    assert -0.5 < oracle.gpr.y_train_.min() - 1 < 0.5 or oracle.gpr.y_train_.std() == pytest.approx(1)
