"""What the search scripts share: their options, and how they carry out a search."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from pipelines.commands.terminal import import_tensorflow
from tuning import terms, told
from tuning.plan import Plan
from tuning.search import Found, search

_OF_KIND: Mapping[str, Mapping[str, tuple[type, str]]] = {
    "images": {"size": (int, "image size in pixels; the model's own if not given")},
    "texts": {"model": (str, "a checkpoint to fine-tune: a directory in the Hub's layout, or hf://org/repo")},
    "tables": {"target": (str, "the column to predict; target if not given")},
    "series": {"target": (str, "the column to predict")},
}


def options(text: str | None, source: str, help: str, *, needs_target: bool = False) -> argparse.Namespace:
    """The options of a script for data of a kind, whose docstring is `text`: --`source`, and those of any search."""
    parser = argparse.ArgumentParser(description=(text or "").partition("\n")[0])
    parser.add_argument(f"--{source}", required=True, help=help)
    for name, (kind, said) in _OF_KIND[source].items():
        parser.add_argument(f"--{name}", type=kind, required=needs_target and name == "target", help=said)
    parser.add_argument("--out", type=Path, default=Path(f"runs/search_{source}"), help="the folder for the search")
    parser.add_argument("--trials", type=int, default=12, help="at most so many")
    parser.add_argument("--budget", type=_seconds, help="time for all trials: 30m")
    parser.add_argument("--parallel", type=int, default=1, help="trials at a time")
    parser.add_argument("--memory", type=_size, help="what a trial may take: 2G")
    parser.add_argument("--trial-time", type=_seconds, help="how long a trial may take: 10m")
    parser.add_argument("--epochs", type=int, help="of each phase of a trial; what the space says if not given")
    parser.add_argument("--seed", type=int, default=0, help="decides the trials, the splits and the random weights")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier search in --out")
    asked = parser.parse_args()
    import_tensorflow()  # which spaces do too, with all that it says
    return asked


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


def _seconds(text: str) -> float:
    """A length of time; argparse tells a mistake in its own way."""
    try:
        return terms.seconds(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no length of time: 90s, 30m, 2h or 1h30m") from None


def _size(text: str) -> int:
    """An amount of memory, as `_seconds`."""
    try:
        return terms.size(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount of memory: 512M, 2G or 1.5G") from None
