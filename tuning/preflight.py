"""What is looked at before the first trial, so that a user's mistake is told at once, and not by each trial anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.run import Run
from tuning import aside
from tuning.plan import MEASURED, Objective, Plan
from zoo.core.naming import nearest

_DECIDE_MODEL = ("model", "weights", "overrides", "data")  # names of ranges that make another model of it


@dataclass(frozen=True)
class Known:
    """What is known of a run without training it."""

    task: str
    examples: Mapping[str, int]  # of each part
    metrics: tuple[str, ...]  # as the history names them


def examine(run: Run, *, model: bool = False, log: Path, check: Callable[[], None] = lambda: None) -> Known:
    """What there is to know of a run's data, and with `model` whether its model can be made; in a child process.

    Raises:
        FileNotFoundError: there are no such data.
        ValueError: they are not what the run asks for, or have no validation part, by which trials are compared.
    """
    return aside.call(_examine, run.to_json(), model, log=log, check=check)


def usual_objective(known: Known) -> Objective:
    """What makes a trial better unless the user says so: the accuracy where there is one, else the loss."""
    found = next((name for name in known.metrics if name == "val_accuracy"), "val_loss")
    return Objective.of(found)


def check_plan(plan: Plan, known: Known) -> None:
    """Refuse objectives that no trial could have.

    Raises:
        ValueError: there is one; the message lists those that there are.
    """
    names = [*known.metrics, *MEASURED]
    for each in plan.objectives:
        if each.name not in names:
            raise ValueError(
                f"No trial will have a {each.name!r} to be compared by.{nearest(each.name, names)} "
                f"On these data there are: {', '.join(names)}."
            )


def shares_model(plan: Plan) -> bool:
    """Whether all trials make the same model, so that one that cannot be made is no matter of a trial."""
    return not any(name.partition(".")[0] in _DECIDE_MODEL for name in plan.space.ranges)


def _examine(text: str, model: bool) -> Known:
    """In the child."""
    from pipelines import datasets, objectives, outcome
    from pipelines.creation import create

    run = Run.from_json(text)
    outcome.check_machines(run)
    data = datasets.load(run)
    examples = {name: len(part) for name, part in data.parts.items()}
    if not examples["validation"]:
        raise ValueError(
            f"'{run.data.source}' leaves no validation examples, by which trials are compared: {examples}. "
            "Give validation data, or a split with a share for them."
        )
    objective = objectives.of_run(run, data)
    names = ["loss", *(metric.name for metric in objective.metrics())]
    if model:
        create(run, data)
    return Known(run.task or data.task, examples, (*names, *(f"val_{name}" for name in names)))
