"""Searches without training: plans, made-up scores, and the trials that an oracle proposes."""

from __future__ import annotations

import math
import typing
from pathlib import Path

from pipelines import recipes
from pipelines.run import Images, Run
from tuning import journal, oracles
from tuning.journal import Created, Ended
from tuning.plan import Objective, OracleName, Plan
from tuning.space import Cases, Choice, Float, Int, Space
from tuning.trial import Result, Trial

ORACLES = typing.get_args(OracleName)
MIXED = Space(
    {
        "recipe": ["fine_tuning", "lora"],
        "recipe.learning_rate": Cases(
            Float(1e-5, 1e-2, sampling="log", when={"recipe": "fine_tuning"}),
            Float(1e-3, 1e-1, sampling="log", when={"recipe": "lora"}),
        ),
        "recipe.rank": Int(2, 16, sampling="log"),
        "overrides.widths": Choice((8, 4), (4,)),
        "weights": ["bundled", None],
        "label_smoothing": Float(0, 0.3, step=0.1),
        "patience": Int(2, 9, when={"recipe.rank": (4, 5, 6, 7, 8)}),
    }
)


def plan(oracle: str = "random", space: Space = MIXED, **options) -> Plan:
    run = Run("cnn", Images("digits"), recipes.fine_tuning(), Path("out"))
    names = ("val_loss", "size") if oracle == "pareto" else ("val_loss",)
    return Plan(
        run, space, tuple(map(Objective.of, names)), oracle=oracle, **{"trials": 14, "max_epochs": 9, **options}
    )


def cost(values) -> Result:
    """Made up: what a rate near 1e-3 and little smoothing cost; every fifth or so fails, in one way or the other."""
    loss = abs(math.log10(values["recipe.learning_rate"]) + 3) + values["label_smoothing"]
    if int(loss * 1000) % 5 == 0:
        return Result("failed", "made up")
    if int(loss * 1000) % 7 == 0:
        return Result("completed", scores={"val_loss": math.nan, "size": 1.0})
    return Result("completed", scores={"val_loss": loss, "size": float(values.get("recipe.rank", 9)), "loss": 0.0})


def search(oracle, *, score=cost, events=None) -> list[journal.Event]:
    """All events of a serial search, those of before included."""
    events = [] if events is None else events
    while isinstance(trial := oracles.propose(oracle, "hand0"), Trial):
        if not any(isinstance(event, Created) and event.trial == trial.id for event in events):
            events.append(Created(trial.id, "hand0", trial.values))
        events.append(Ended(trial.id, score(trial.values)))
        oracles.end(oracle, trial.id, events[-1].result, oracle.plan)
    assert trial == "stopped"
    return events


def points(events: list[journal.Event]) -> list[dict]:
    return [dict(event.values) for event in events if isinstance(event, Created)]


def proposed(oracle: str, seed: int) -> list[dict]:
    return points(search(oracles.make(plan(oracle, seed=seed))))


def free(values) -> Result:
    return Result("completed", scores={"val_loss": 1.0, "size": 2.0})
