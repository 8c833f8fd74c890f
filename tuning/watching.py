"""What a search shows while it goes on: a live table in a terminal, elsewhere a line for each trial that ends."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tuning import carrier, ranking
from tuning.plan import Objective, Plan
from tuning.space import OF_HYPERBAND, Choice, Space
from tuning.terms import Clock, shown
from tuning.trial import Trial

_ROWS = 12  # trials in the live table


class Board:
    """Is told how a search goes, and shows it on standard error."""

    def __init__(self, plan: Plan, folder: Path, clock: Clock, *, progress: bool = True):
        self._plan, self._folder, self._clock = plan, folder, clock
        self._console = Console(stderr=True, highlight=False, quiet=not progress)
        self._trials: dict[str, Trial] = {}
        self._begun: dict[str, float] = {}  # of those that run: when, by time.monotonic
        self._epochs: dict[str, int | None] = {}
        self._live: Live | None = None
        if progress and sys.stderr.isatty():
            self._live = Live(console=self._console, auto_refresh=False)

    def __enter__(self) -> Board:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def know(self, trials: Sequence[Trial]) -> None:
        """These were there before."""
        self._trials.update((trial.id, trial) for trial in trials)

    def say(self, text: str) -> None:
        """Show a line that stays."""
        self._console.print(escape(text), soft_wrap=True)

    def begin(self, trial: Trial) -> None:
        """A trial runs from here on."""
        self._trials[trial.id] = trial
        self._begun[trial.id] = time.monotonic()
        self._epochs[trial.id] = carrier.epochs(self._plan, self._folder, trial)
        self.tick()

    def end(self, trial: Trial) -> None:
        """A trial has come to its end, or, without a result, has stopped."""
        self._trials[trial.id] = trial
        self._begun.pop(trial.id, None)
        if trial.result is not None and self._live is None:
            best = ranking.best(list(self._trials.values()), self._plan)
            self._console.print(self._line(trial, best=best is not None and best.id == trial.id), soft_wrap=True)
        self.tick()

    def tick(self) -> None:
        """Show it as it is now."""
        if self._live:
            self._live.update(self._table(), refresh=True)

    def _line(self, trial: Trial, *, best: bool) -> Text:
        result = trial.result
        assert result is not None
        values = f"  {values_of(trial, self._plan.space)}"
        if result.status == "failed":
            return Text.assemble((f"trial {trial.id} failed", "red"), f": {result.reason}", (values, "dim"))
        text = f"trial {trial.id}  {scores_of(trial, self._plan.objectives)}  {result.epochs} epochs"
        mark = ("  best so far", "bold green") if best else ""
        return Text.assemble(f"{text}, {shown(result.seconds)}", mark, (values, "dim"))

    def _table(self) -> RenderableType:
        trials = list(self._trials.values())
        best = ranking.best(trials, self._plan)
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        for title in ("trial", "", *(each.name for each in self._plan.objectives), "epochs", "time"):
            table.add_column(title, no_wrap=True)
        table.add_column("values", overflow="ellipsis", no_wrap=True, ratio=1)
        for trial in self._shown(trials, best):
            style = "bold green" if best is not None and trial.id == best.id else ""
            table.add_row(*self._cells(trial), values_of(trial, self._plan.space), style=style)
        return Group(table, Text(self._summary(trials, best), style="bold"))

    def _shown(self, trials: Sequence[Trial], best: Trial | None) -> list[Trial]:
        """The last ones, with the best and those that run."""
        last = {trial.id for trial in trials[-_ROWS:]} | set(self._begun) | ({best.id} if best else set())
        return [trial for trial in trials if trial.id in last]

    def _cells(self, trial: Trial) -> list[str]:
        objectives = self._plan.objectives
        if trial.result is not None:
            scores = [_number(trial.result.scores.get(each.name)) for each in objectives]
            return [trial.id, trial.status, *scores, str(trial.result.epochs), shown(trial.result.seconds)]
        if trial.id not in self._begun:
            return [trial.id, "waits", *("" for _ in objectives), "", ""]
        done, metrics = _history(trial.folder(self._folder))
        total = self._epochs.get(trial.id)
        scores = [_number(metrics.get(each.name)) for each in objectives]
        since = shown(time.monotonic() - self._begun[trial.id])
        return [trial.id, "runs", *scores, f"{done}/{total}" if total else str(done), since]

    def _summary(self, trials: Sequence[Trial], best: Trial | None) -> str:
        ended = [trial for trial in trials if trial.result is not None]
        failed = sum(trial.status == "failed" for trial in ended)
        budget = self._clock.terms.budget
        parts = [
            f"{len(ended)} of {self._plan.trials} trials" + (f", {failed} failed" if failed else ""),
            f"best {best.id}: {scores_of(best, self._plan.objectives)}" if best else "no score yet",
            shown(self._clock.spent) + (f" of {shown(budget)}" if budget else ""),
        ]
        return "  ".join(parts)


def scores_of(trial: Trial, objectives: Sequence[Objective]) -> str:
    """A trial's scores: "val_accuracy 0.9512  size 1,234,567"."""
    scores: Mapping[str, float] = trial.result.scores if trial.result else {}
    return "  ".join(f"{each.name} {_number(scores.get(each.name))}" for each in objectives)


def values_of(trial: Trial, space: Space) -> str:
    """A trial's values in a line, each by the last part of its name; without those that all trials have."""
    fixed = {name for name, given in space.ranges.items() if isinstance(given, Choice) and len(given.values) == 1}
    found = {name: v for name, v in trial.values.items() if name not in fixed and not name.startswith(OF_HYPERBAND)}
    short = {name: name.rpartition(".")[2] for name in found}
    names = {name: last if list(short.values()).count(last) == 1 else name for name, last in short.items()}
    return "  ".join(f"{names[name]} {_value(value)}" for name, value in found.items())


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value).replace(" ", "")


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return ""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4f}"


def _history(folder: Path) -> tuple[int, Mapping[str, float]]:
    """How many epochs a running trial has done, and the metrics of the one that is best so far."""
    try:
        values = json.loads((folder / "history.json").read_text(encoding="utf-8"))
        done = values["epochs"]
        best = values["best"]
        return len(done), {} if best is None else done[best]["metrics"]
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return 0, {}
