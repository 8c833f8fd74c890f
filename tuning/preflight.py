"""What is looked at before the first trial, so that a user's mistake is told at once, and not by each trial anew."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.run import Run
from tuning import aside
from tuning.forks import ForkServer
from tuning.plan import AUTO, MEASURED, Objective, Plan
from zoo.core.naming import nearest

_DECIDE_MODEL = ("model", "weights", "overrides", "data")  # names of ranges that make another model of it


@dataclass(frozen=True)
class Known:
    """What is known of a run without training it."""

    task: str
    examples: Mapping[str, int]  # of each part
    metrics: tuple[str, ...]  # as the history names them


def examine(run: Run, server: ForkServer, *, model: bool = False) -> Known:
    """What there is to know of a run's data, and with `model` whether its model can be made; in a child process.

    Raises:
        FileNotFoundError: there are no such data.
        ValueError: they are not what the run asks for, or have no validation part, by which trials are compared, or
            the model has no score on it.
    """
    with tempfile.TemporaryDirectory() as made:
        told = aside.call(server, _examine, run.to_json(), model, log=Path(made) / "log.txt")
    return Known(told["task"], told["examples"], tuple(told["metrics"]))


def settled(plan: Plan, known: Known) -> Plan:
    """The plan with an objective of these data in the place of AUTO.

    Raises:
        ValueError: no trial could have one of its objectives; the message lists those that there are.
    """
    names = [*known.metrics, *MEASURED]
    usual = Objective.of("val_accuracy" if "val_accuracy" in names else "val_loss")
    objectives = tuple(usual if each == AUTO else each for each in plan.objectives)
    for each in objectives:
        if each.name not in names:
            raise ValueError(
                f"No trial will have a {each.name!r} to be compared by.{nearest(each.name, names)} "
                f"On these data there are: {', '.join(names)}."
            )
    return dataclasses.replace(plan, objectives=objectives)


def shares_model(plan: Plan) -> bool:
    """Whether all trials make the same model, so that one that cannot be made is no matter of a trial."""
    return not any(name.partition(".")[0] in _DECIDE_MODEL for name in plan.space.ranges)


def _examine(text: str, model: bool) -> dict[str, Any]:
    """In the child."""
    from pipelines import datasets, objectives, outcome
    from pipelines.creation import create

    run = Run.from_json(text)
    outcome.check_machines(run)
    data = datasets.load(run)
    outcome.check_scored(run, data)
    objective = objectives.of_run(run, data)
    if not objective.validates:
        raise ValueError(
            f"Trials of {run.model!r} cannot be compared: nothing that it learns by tells how good its images are. "
            "Train some with zoo fit, and compare them with zoo evaluate --judge."
        )
    names = ["loss", *(metric.name for metric in objective.metrics())]
    if model:
        create(run, data)
    examples = {name: len(part) for name, part in data.parts.items()}
    metrics = [*names, *(f"val_{name}" for name in names)]
    return {"task": run.task or data.task, "examples": examples, "metrics": metrics}
