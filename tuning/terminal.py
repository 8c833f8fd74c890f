"""A search in the terminal: how far it is, its best trials, what matters, why trials failed, what to do next."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tuning.axes import short_names, text
from tuning.importance import Importance
from tuning.rows import Row, rows, score
from tuning.standing import Standing
from tuning.terms import shown

_ROWS = 20  # of trials with a score, and as many of those that failed
_STYLES = {"completed": "", "failed": "red", "running": "cyan", "stopped": "yellow"}
_COLORS = {"running": "cyan", "finished": "green", "stopped": "yellow"}
_BAR = 24  # characters


def show(
    standing: Standing, importances: Sequence[Importance], commands: Sequence[tuple[str, str]], *, console: Console
) -> None:
    """Print it; names that users gave are no markup."""
    console.print(f"[{_COLORS[standing.state]}]{standing.state}[/]: {standing.progress}, {_time(standing)}")
    if standing.state == "running":
        ended = len(standing.trials) - len(standing.open)
        done = min(round(2 * _BAR * ended / standing.plan.trials), 2 * _BAR)
        console.print(f"[cyan]{'━' * done}[/][dim]{'╌' * (2 * _BAR - done)}[/]")
    _show_best(standing, console)
    if standing.trials:
        console.print()
        console.print(trials_table(standing, width=console.width))
    for each in importances:
        _show_importance(each, console)
    if standing.failed:
        console.print("\nWhy trials failed")
        for reason, count in standing.reasons:
            console.print(f"  {count} x {escape(reason)}", soft_wrap=True)
    console.print()
    for command, what in commands:
        console.print(f"{escape(command)}  [dim]# {what}[/]", soft_wrap=True)


def _time(standing: Standing) -> str:
    spent = f"{shown(standing.seconds)} of trials"
    if standing.budget:
        spent += f", {shown(standing.spent)} of {shown(standing.budget)} used"
    return spent


def _show_best(standing: Standing, console: Console) -> None:
    best = standing.best
    if best is None:
        return
    scores = [f"{each.name} {score(standing.score(best, each), each).shown}" for each in standing.plan.objectives]
    console.print(f"best: trial {best.id}, [bold green]{escape(', '.join(scores))}[/]")
    values = [f"{axis.name} {text(best.values[axis.name])}" for axis in standing.axes if axis.name in best.values]
    console.print(f"  {escape(', '.join(values))}", soft_wrap=True)


def trials_table(standing: Standing, *, width: int) -> Table:
    """The best trials, those that run and those that failed; a column for each range where there is room for them."""
    found = rows(standing)
    kept = [row for row in found if row.status == "completed"][:_ROWS]
    kept += [row for row in found if row.status in ("running", "stopped")]
    failed = [row for row in found if row.status == "failed"]
    kept += failed[:_ROWS]
    names = list(short_names([axis.name for axis in standing.varied]).values())
    wide = _needed(standing, kept, names) <= width
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("trial", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for each in standing.plan.objectives:
        table.add_column(escape(each.name), justify="right", overflow="fold")
    noted = wide and any(row.note for row in kept)
    for name in [*names, *["note"] * noted] if wide else ["values"]:
        table.add_column(escape(name), overflow="fold")
    table.add_column("epochs", justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    for row in kept:
        table.add_row(
            *_cells(row, names, wide=wide, noted=noted), style=_STYLES[row.status] if row.status != "completed" else ""
        )
    left = len(found) - len(kept)
    table.caption = f"and {left} more" if left else None
    return table


def _cells(row: Row, names: Sequence[str], *, wide: bool, noted: bool) -> list[str]:
    mark = " ★" if row.best else " ◆" if row.front else ""
    values = [*(cell.shown for cell in row.values), *[row.note] * noted]
    if not wide:
        given = ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True) if value)
        values = ["\n".join(filter(None, (given, row.note)))]
    scores = (cell.shown for cell in row.scores)
    return [escape(each) for each in (row.id + mark, row.status, *scores, *values, row.epochs.shown, row.time.shown)]


def _needed(standing: Standing, found: Sequence[Row], names: Sequence[str]) -> int:
    """The width of a table with a column for each range."""
    titles = [*(each.name for each in standing.plan.objectives), *names, ""]
    cells = [[*(cell.shown for cell in (*row.scores, *row.values)), row.note] for row in found]
    widths = [max([len(title), *(len(row[place]) for row in cells)]) for place, title in enumerate(titles)]
    return sum(widths) + len(widths) + len("0000 ★ completed  epochs 10 min 00 s ")


def _show_importance(found: Importance, console: Console) -> None:
    console.print(f"\nWhat matters for {escape(found.objective.name)}")
    if found.told:
        width = max((len(share.name) for share in found.shares), default=0)
        for share in found.shares:
            bar = "█" * round(share.total * _BAR)
            bar = bar or "▏"
            console.print(f"  {escape(share.name.ljust(width))}  [cyan]{bar.ljust(_BAR)}[/] {share.total:4.0%}")
    console.print(f"  [dim]{escape(found.caution)}[/]", soft_wrap=True)
