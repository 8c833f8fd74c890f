"""What a search says at its end, in a terminal, however it ends."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

from rich import box
from rich.markup import escape
from rich.table import Table

from pipelines.commands.terminal import fail, out
from pipelines.interruption import Interrupted
from tuning import conclusion, report
from tuning.plan import NAME, Plan, load
from tuning.search import Found
from tuning.terms import shown
from tuning.watching import scores_of, values_of


def finish(carry_out: Callable[[], Found], folder: Path) -> None:
    """Carry out a search, and print what has come of it; the process ends if it was interrupted."""
    try:
        found = carry_out()
    except KeyboardInterrupt as error:
        began = (folder / NAME).is_file()
        code = 128 + (error.signal if isinstance(error, Interrupted) else signal.SIGINT)
        again = f" What is done is saved. Go on with: zoo tune --resume {folder}" if began else ""
        fail(f"Interrupted.{again}", code)
    _print(found, load(folder))


def _print(found: Found, plan: Plan) -> None:
    failed = sum(trial.status == "failed" for trial in found.trials)
    ended = sum(trial.result is not None for trial in found.trials)
    out.print(f"{ended} trials{f', {failed} of them failed' if failed else ''}, in {shown(found.seconds)}.")
    if len(found.front) > 1:
        _print_front(found, plan)
    best = f"Best: trial {found.best.id}, [bold]{scores_of(found.best, plan.objectives)}[/]"
    out.print(f"{best}  {escape(values_of(found.best, plan.space))}", soft_wrap=True)
    pairs = (f"{name} {again:.6g} (logged {logged:.6g})" for name, (logged, again) in found.proof.scores.items())
    out.print(f"Read again from its file: {', '.join(pairs)}.", soft_wrap=True)
    if found.proof.test:
        out.print(f"On the test split, looked at once: {escape(found.proof.test)}".replace("**", ""), soft_wrap=True)
    folder, bundle = found.folder, found.proof.bundle
    out.print(
        f"The model is in [bold]{bundle}[/], its run in {folder / conclusion.RUN}, the report in "
        f"{folder / report.NAME}. Next: zoo export {bundle}",
        soft_wrap=True,
    )
    if found.left:
        out.print(
            f"The time was over with {found.left} trials left. Go on: zoo tune --resume {folder} --budget 30m",
            soft_wrap=True,
        )


def _print_front(found: Found, plan: Plan) -> None:
    """The trials that none is better than."""
    out.print(f"None is better in all than these {len(found.front)}:")
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("trial", "scores", "values"):
        table.add_column(title, overflow="fold")
    for trial in found.front:
        table.add_row(trial.id, scores_of(trial, plan.objectives), escape(values_of(trial, plan.space)))
    out.print(table)
