"""Where a search stands, as its folder tells: plan, trials, their epochs, and whether anyone goes on with it."""

from __future__ import annotations

import contextlib
import fcntl
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from pipelines.commands.terminal import import_tensorflow
from pipelines.monitor import History
from tuning import journal, plan, ranking, terms
from tuning.axes import Axis, axes
from tuning.plan import Objective, Plan
from tuning.space import OF_HYPERBAND
from tuning.terms import Terms
from tuning.trial import Trial

State = Literal["running", "finished", "stopped"]


@dataclass(frozen=True, eq=False)
class Standing:
    """A search at one moment. `histories` are of the trials that have one, by their ids."""

    folder: Path
    plan: Plan
    trials: tuple[Trial, ...]
    histories: Mapping[str, History]
    alive: bool  # a process has its journal
    concluded: bool  # its best run is there as a bundle
    budget: float | None = None  # seconds
    spent: float = 0.0  # of them

    @cached_property
    def ranked(self) -> list[Trial]:
        """The trials with a score, from the best on."""
        return ranking.ranked(self.trials, self.plan)

    @cached_property
    def front(self) -> list[Trial]:
        """Those that no other is better than; none where there is one objective."""
        return ranking.front(self.trials, self.plan) if len(self.plan.objectives) > 1 else []

    @property
    def best(self) -> Trial | None:
        """The best by the first objective; None as long as no trial has a score."""
        return self.ranked[0] if self.ranked else None

    @property
    def failed(self) -> list[Trial]:
        """The trials without a result, in order."""
        return [trial for trial in self.trials if trial.status == "failed"]

    @property
    def open(self) -> list[Trial]:
        """The trials that run, or, where nobody goes on with the search, would."""
        return [trial for trial in self.trials if trial.result is None]

    @property
    def state(self) -> State:
        """Whether it goes on, has come to its end, or was stopped."""
        if self.concluded and not self.open:
            return "finished"
        return "running" if self.alive else "stopped"

    @property
    def progress(self) -> str:
        """How far it is, in a line."""
        ended = len(self.trials) - len(self.open)
        parts = [f"{ended} of {self.plan.trials} trials"]
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        if self.open:
            parts.append(f"{len(self.open)} {'at work' if self.alive else 'waiting to go on'}")
        return ", ".join(parts)

    @property
    def seconds(self) -> float:
        """What the trials that ended took together."""
        return sum(trial.result.seconds for trial in self.trials if trial.result)

    @cached_property
    def axes(self) -> list[Axis]:
        """What is tried, in the order of the space."""
        return axes(self.plan.space, [trial.values for trial in self.trials])

    @property
    def varied(self) -> list[Axis]:
        """Those of which there is more than one value."""
        return [axis for axis in self.axes if axis.varies]

    @property
    def reasons(self) -> list[tuple[str, int]]:
        """Why trials failed, and how many did, from the commonest on."""
        return Counter(trial.result.reason for trial in self.failed if trial.result).most_common()

    def score(self, trial: Trial, objective: Objective) -> float | None:
        """What a trial scored; None where it did not."""
        return trial.result.scores.get(objective.name) if trial.result else None

    def doing(self, trial: Trial) -> str:
        """What became of a trial, in words: why it failed, how far it is, what it goes on from."""
        if trial.result is not None:
            return trial.result.reason
        history = self.histories.get(trial.id)
        epochs = len(history.epochs) if history else 0
        done = f"{epochs} {'epoch' if epochs == 1 else 'epochs'} done"
        return done if self.alive else f"{done}, goes on with the search"


def earlier(trial: Trial) -> str:
    """The trial whose weights a trial of Hyperband goes on from; empty where it began anew."""
    return str(trial.values.get(f"{OF_HYPERBAND}trial_id") or "")


def read(folder: str | Path, *, alive: bool | None = None) -> Standing:
    """Where the search in a folder stands; `alive` says whether it goes on, where that is known. Nothing is changed.

    Raises:
        FileNotFoundError: there is none.
        ValueError: its plan cannot be read.
        JournalError: its journal is damaged.
    """
    folder = Path(folder)
    if (folder / plan.NAME).is_file() and '"overrides.' in (folder / plan.NAME).read_text(encoding="utf-8"):
        import_tensorflow()  # quietly: which model has which field is known to its file, which imports Keras
    asked = plan.load(folder)
    begun = (folder / journal.NAME).is_file()
    trials = journal.trials(journal.read(folder)) if begun else []
    found = {trial.id: _history(trial.folder(folder) / "history.json") for trial in trials}
    granted = _granted(folder)
    return Standing(
        folder=folder,
        plan=asked,
        trials=tuple(trials),
        histories={name: history for name, history in found.items() if history is not None and history.epochs},
        alive=begun and _is_held(folder / journal.NAME) if alive is None else alive,
        concluded=(folder / "best" / "bundle.json").is_file(),
        budget=granted.budget,
        spent=granted.spent,
    )


def _history(path: Path) -> History | None:
    """The epochs of a trial so far; None where there are none, or the file is damaged: a report is no place to fail."""
    with contextlib.suppress(OSError, ValueError):
        return History.from_json(path.read_text(encoding="utf-8"))
    return None


def _granted(folder: Path) -> Terms:
    with contextlib.suppress(OSError, ValueError):
        return terms.load(folder)
    return Terms()


def _is_held(path: Path) -> bool:
    """Whether a living process has a journal. Asking takes the lock for no longer than it takes to ask."""
    try:
        with path.open() as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
