"""The trials of a search as rows: for the page, for the terminal and for trials.csv."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.commands.terminal import megabytes
from pipelines.files import write_text
from tuning.axes import text
from tuning.plan import Objective
from tuning.space import OF_HYPERBAND
from tuning.standing import Standing, earlier
from tuning.terms import shown
from tuning.trial import Trial

TABLE = "trials.csv"
_FIXED = ("trial", "status", "epochs", "seconds", "memory", "reason")
_SCORES = ("loss", "accuracy")  # names that scores have, whether or not a trial has scored yet


@dataclass(frozen=True)
class Cell:
    """What is shown, and by what a column is sorted: a number or a text; nothing is last."""

    shown: str
    key: float | str | None = None


@dataclass(frozen=True)
class Row:
    """A trial as it is shown. `status` is completed, failed, running, or stopped where nobody goes on with it."""

    number: int  # of the trial, from 0 on, in the order in which they began
    id: str
    status: str
    best: bool
    front: bool
    scores: tuple[Cell, ...]  # of the objectives
    values: tuple[Cell, ...]  # by the standing's varied axes; empty where it is not active
    epochs: Cell
    time: Cell
    memory: Cell
    note: str


def rows(standing: Standing) -> list[Row]:
    """The trials from the best on, then those that run, then those that failed."""
    numbers = {trial.id: number for number, trial in enumerate(standing.trials)}
    scored = {trial.id for trial in standing.ranked}
    ended = [trial for trial in standing.trials if trial.result is not None and trial.id not in scored]
    return [_row(standing, trial, numbers[trial.id]) for trial in (*standing.ranked, *standing.open, *ended)]


def _row(standing: Standing, trial: Trial, number: int) -> Row:
    result, history = trial.result, standing.histories.get(trial.id)
    epochs = result.epochs if result else len(history.epochs) if history else 0
    note = standing.doing(trial)
    if came := earlier(trial):
        note = f"{note}; " * bool(note) + f"went on from {came}"
    return Row(
        number=number,
        id=trial.id,
        status="stopped" if trial.status == "running" and not standing.alive else trial.status,
        best=trial is standing.best,
        front=trial in standing.front,
        scores=tuple(score(standing.score(trial, each), each) for each in standing.plan.objectives),
        values=tuple(_value(trial.values, axis.name) for axis in standing.varied),
        epochs=Cell(str(epochs), epochs) if epochs else Cell(""),
        time=Cell(shown(result.seconds), result.seconds) if result else Cell(""),
        memory=Cell(megabytes(result.memory), result.memory) if result and result.memory else Cell(""),
        note=note,
    )


def _value(values: Any, name: str) -> Cell:
    if name not in values:
        return Cell("")
    value = values[name]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(text(value), value if number else text(value))


def score(value: float | None, objective: Objective) -> Cell:
    """A score as it is shown: that of the size in bytes, of the latency in milliseconds."""
    if value is None or not math.isfinite(value):
        return Cell("" if value is None else "nan")
    if objective.name == "size":
        return Cell(megabytes(int(value)), value)
    if objective.name == "latency":
        return Cell(f"{value:.3g} ms", value)
    return Cell(f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.4g}", value)


def write_table(standing: Standing) -> Path:
    """trials.csv in the search's folder: a line for each trial in the order in which they began, with all digits.

    A value is called as in the space, with "run." before it where a score has the same name.
    """
    path = standing.folder / TABLE
    write_text(path, table_text(standing))
    return path


def table_text(standing: Standing) -> str:
    """The lines of trials.csv."""
    results = [trial.result for trial in standing.trials if trial.result]
    objectives = [each.name for each in standing.plan.objectives]
    scores = list(dict.fromkeys([*objectives, *(name for result in results for name in result.scores)]))
    searched = [axis.name for axis in standing.axes]
    searched += sorted({name for trial in standing.trials for name in trial.values if name.startswith(OF_HYPERBAND)})
    titles = [f"run.{name}" if name in (*_FIXED, *_SCORES, *scores) else name for name in searched]
    lines = io.StringIO()
    table = csv.writer(lines, lineterminator="\n")
    table.writerow(["trial", "status", *scores, *titles, "epochs", "seconds", "memory", "reason"])
    for trial in standing.trials:
        table.writerow(_line(trial, scores, searched))
    return lines.getvalue()


def _line(trial: Trial, scores: Sequence[str], searched: Sequence[str]) -> list[Any]:
    result = trial.result
    values = [_exact(trial.values[name]) if name in trial.values else "" for name in searched]
    if result is None:
        return [trial.id, trial.status, *[""] * len(scores), *values, "", "", "", ""]
    found = [result.scores.get(name, "") for name in scores]
    how = [result.epochs, f"{result.seconds:.2f}", result.memory or "", result.reason]
    return [trial.id, trial.status, *found, *values, *how]


def _exact(value: Any) -> Any:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else text(value)
