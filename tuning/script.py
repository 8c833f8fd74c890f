"""What the search scripts share: their options, and a mistake of the user's as one line."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from pipelines.commands.terminal import fail
from tuning import terms, told
from tuning.plan import Plan
from tuning.search import Found, search


def options(text: str, source: str, help: str, **more: str) -> argparse.Namespace:
    """The options of a script: --`source`, which has to be given, `more` with their helps, and those of any search."""
    parser = argparse.ArgumentParser(description=text.partition("\n")[0])
    parser.add_argument(f"--{source}", required=True, help=help)
    for name, text in more.items():
        parser.add_argument(f"--{name}", required=True, help=text)
    parser.add_argument("--out", type=Path, default=Path(f"runs/search_{source}"), help="the folder for the search")
    parser.add_argument("--trials", type=int, default=12, help="at most so many")
    parser.add_argument("--budget", type=terms.seconds, help="time for all trials: 30m")
    parser.add_argument("--parallel", type=int, default=1, help="trials at a time")
    parser.add_argument("--memory", type=terms.size, help="what a trial may take: 2G")
    parser.add_argument("--trial-time", type=terms.seconds, help="how long a trial may take: 10m")
    parser.add_argument("--epochs", type=int, help="of each phase of a trial; what the space says if not given")
    parser.add_argument("--seed", type=int, default=0, help="decides the trials, the splits and the random weights")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier search in --out")
    return parser.parse_args()


def carry_out(plan: Plan, asked: argparse.Namespace) -> None:
    """Search with a live table, and print what has come of it; Ctrl-C saves what is done."""

    def work() -> Found:
        return search(
            plan,
            folder=asked.out,
            parallel=asked.parallel,
            budget=asked.budget,
            memory=asked.memory,
            trial_seconds=asked.trial_time,
            overwrite=asked.overwrite,
        )

    told.finish(work, asked.out)


def run(main: Callable[[], None]) -> None:
    """Run a script; a user's mistake is one line on standard error, not a traceback."""
    try:
        main()
    except KeyboardInterrupt:
        fail("Interrupted.", 130)
    except (ValueError, ArithmeticError, OSError) as error:
        if os.environ.get("ZOO_TRACEBACK"):
            raise
        fail(f"{error}", 1)
