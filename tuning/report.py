"""A search as one page that needs no network, as a table in the terminal, and as trials.csv; read from its folder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from pipelines.files import write_text
from tuning import pictures, standing, terminal
from tuning.axes import short_names, text
from tuning.importance import Importance, drawn, importance
from tuning.plan import MEASURED
from tuning.rows import rows, score, write_table
from tuning.standing import Standing
from tuning.terms import shown

NAME = "report.html"
_TEMPLATE = "report.html.jinja"


@dataclass(frozen=True)
class Picture:
    """A picture under a title, with what is to be seen in it."""

    title: str
    svg: str
    about: str


def write(folder: str | Path, *, alive: bool | None = None) -> Path:
    """report.html and trials.csv in the folder of a search that runs, was stopped or has ended; the path of the first.

    The page is one file, and needs nothing from elsewhere. `alive` is whether the search goes on, which it knows of
    itself; who else asks finds out whether a process has the journal.

    Raises:
        FileNotFoundError: there is no search.
        ValueError: its plan cannot be read.
        JournalError: its journal is damaged.
    """
    found = standing.read(folder, alive=alive)
    write_table(found)
    path = found.folder / NAME
    write_text(path, page(found))
    return path


def table(folder: str | Path) -> Path:
    """trials.csv in the folder of a search: a line for each trial. Raises as `write`."""
    return write_table(standing.read(folder))


def show(folder: str | Path, *, console: Console | None = None) -> None:
    """Print how far a search is, its best trials and what matters in it. Raises as `write`."""
    found = standing.read(folder)
    console = console or Console(highlight=False)
    terminal.show(found, importances(found), commands(found), console=console)


def page(found: Standing) -> str:
    """The page as HTML text."""
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    names = short_names([axis.name for axis in found.varied])
    return environment.get_template(_TEMPLATE).render(
        found=found,
        title=_title(found),
        facts=_facts(found),
        best=_best(found),
        commands=commands(found),
        headline=_headline(found),
        rows=rows(found),
        names=[names[axis.name] for axis in found.varied],
        pictures=_pictures(found),
        importances=importances(found),
        levels=range(pictures.LEVELS),
        spent=shown(found.seconds),
    )


def importances(found: Standing) -> list[Importance]:
    """What matters for each objective."""
    try:
        points: list[Mapping[str, Any]] = [*drawn(found.plan.space)]
    except ValueError:  # a model that is no longer there; the trials have been over the space too
        points = [trial.values for trial in found.trials]
    return [importance(found.trials, found.axes, points, each) for each in found.plan.objectives]


def commands(found: Standing) -> list[tuple[str, str]]:
    """What can be done next on the command line, and what it does."""
    folder = shlex.quote(str(found.folder))
    if found.state == "running":
        return [(f"zoo tune --show {folder}", "how far it is")]
    resume = (f"zoo tune --resume {folder}", "goes on where it stopped")
    if not found.concluded:
        return [resume]
    best = shlex.quote(str(found.folder / "best"))
    again = shlex.quote(str(found.folder / "best.json"))
    return [resume] * (found.state == "stopped") + [
        (f"zoo evaluate {best}", "its scores"),
        (f"zoo export {best} --tflite int8", "a file for phones, compared with the model"),
        (f"zoo fit --run {again} --out runs/again", "trains the same run again"),
    ]


def _headline(found: Standing) -> list[str]:
    """What the best trial scored in each objective."""
    best = found.best
    return [score(found.score(best, each), each).shown for each in found.plan.objectives] if best else []


def _title(found: Standing) -> str:
    run = found.plan.run
    model = "several models" if any(axis.name == "model" for axis in found.varied) else run.model
    return f"{model} on {_source(found)}"


def _source(found: Standing) -> str:
    data = found.plan.run.data
    return str(getattr(data, "source", "") or getattr(data, "train", "") or type(data).__name__.lower())


def _facts(found: Standing) -> list[tuple[str, str]]:
    plan, run = found.plan, found.plan.run
    searched = any(axis.name == "model" for axis in found.axes)
    objectives = ", ".join(f"{each.name} ({'higher' if each.direction == 'max' else 'lower'} is better)"
                           for each in plan.objectives)  # fmt: skip
    facts = {
        "Data": f"{type(run.data).__name__}: {_source(found)}",
        "Task": run.task or str(getattr(run.data, "asks_for", "")),
        "Model": "" if searched else f"{run.model}{f', weights {run.weights}' if run.weights else ''}",
        "Better is": objectives,
        "Measured file": f"TFLite, quantize {plan.quantize}" if plan.measured else "",
        "Oracle": plan.oracle
        + (f", up to {plan.most_epochs} epochs, factor {plan.factor}" * (plan.oracle == "hyperband")),
        "Trials": f"at most {plan.trials}",
        "Seeds": f"{plan.seed} of the search, {run.seed} of each run and its splits",
        "Budget": f"{shown(found.budget)}, {shown(found.spent)} used" if found.budget else "",
        "Trials took": f"{shown(found.seconds)} together",
    }
    return [(name, str(value)) for name, value in facts.items() if value]


def _best(found: Standing) -> list[tuple[str, str]]:
    """The values of the best trial."""
    if found.best is None:
        return []
    return [(axis.name, text(found.best.values[axis.name])) for axis in found.axes if axis.name in found.best.values]


def _pictures(found: Standing) -> list[Picture]:
    names = {trial.id: number for number, trial in enumerate(found.trials)}
    drawn = []
    if len(found.plan.objectives) > 1:
        about = "Diamonds are the trials that no other is better than in all objectives."
        drawn.append(Picture("Trade-off", pictures.fronts(found, names), about))
    if found.trials and found.varied:
        about = "A line is a trial, from what it was given to its score. Dashed: it failed."
        drawn.append(Picture("What was tried", pictures.parallel(found, names), about))
    trained = [each.name for each in found.plan.objectives if each.name not in MEASURED] or ["val_loss"]
    for name in trained:
        about = "Dashed: it failed. Dotted: it is not done yet."
        drawn.append(Picture(f"Learning curves: {name}", pictures.curves(found, names, name), about))
    return [each for each in drawn if each.svg]
