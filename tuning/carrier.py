"""One trial carried out: its values become a run, the run a job, the job a process, and what comes of it a result.

It needs neither an oracle nor a journal: who has a trial's number and its values can carry it out, on any machine that
sees the search's folder.
"""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from pathlib import Path

from pipelines.run import Run
from tuning.job import Job, Limits
from tuning.plan import Plan
from tuning.processes import Processes, Running
from tuning.space import OF_HYPERBAND
from tuning.trial import Result, Trial

CACHE = "cache"  # of a search's folder: features that trials share
_FROM, _EPOCHS = f"{OF_HYPERBAND}trial_id", f"{OF_HYPERBAND}epochs"


@dataclass(frozen=True)
class Done:
    """A trial that is no longer carried out; without a result it was stopped, and can go on from its checkpoint."""

    trial: str
    result: Result | None


class Carrier:
    """Carries trials out in child processes, several at a time."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        processes: Processes,
        *,
        parallel: int = 1,
        memory: int | None = None,
        trial_seconds: float | None = None,
    ):
        self._plan, self._folder, self._processes, self._parallel = plan, folder, processes, parallel
        self._limits = Limits(memory=memory, seconds=trial_seconds)
        self._running: dict[str, Running] = {}
        self._refused: list[Done] = []

    @property
    def running(self) -> tuple[str, ...]:
        """The trials that are carried out."""
        return tuple(self._running)

    def start(self, trial: Trial, *, place: int = 0) -> None:
        """Begin a trial, or go on with it from its newest checkpoint; `place` is which of those at a time it is.

        Values that make no run fail it, as everything does that goes wrong in its process.
        """
        threads = max(1, len(os.sched_getaffinity(0)) // self._parallel) if self._parallel > 1 else None
        device = place if self._parallel > 1 else None
        try:
            found = job(self._plan, self._folder, trial, threads=threads, device=device)
        except ValueError as error:
            self._refused.append(Done(trial.id, Result("failed", f"These values make no run: {error}")))
            return
        self._running[trial.id] = self._processes.start(found, self._limits)

    def wait(self, seconds: float) -> list[Done]:
        """Those that have come to their end; waits for one for so long at the most."""
        refused, self._refused = self._refused, []
        ended = self._processes.wait(0 if refused else seconds)
        names = {id(running): name for name, running in self._running.items()}
        for running in ended:
            name = names[id(running)]
            del self._running[name]
            refused.append(Done(name, checked(running.result, self._plan)))
        return refused

    def stop(self, trial: str) -> None:
        """Have a trial save its state and end; `wait` tells when it has, and what had come of it by then."""
        self._processes.stop(self._running[trial])


def job(plan: Plan, folder: Path, trial: Trial, *, threads: int | None = None, device: int | None = None) -> Job:
    """What a trial's process is to do.

    Raises:
        ValueError: its values make no run.
    """
    before = trial.values.get(_FROM)  # the trial that Hyperband goes on from
    return Job(
        folder=trial.folder(folder),
        run=run(plan, folder, trial),
        epochs=trial.values.get(_EPOCHS),
        start=Trial(before, {}).folder(folder) if before is not None else None,
        measure=plan.measured,
        quantize=plan.quantize,
        cache=folder / CACHE,
        threads=threads,
        device=device,
    )


def run(plan: Plan, folder: Path, trial: Trial) -> Run:
    """The run of a trial, in its own folder.

    Raises:
        ValueError: its values make none.
    """
    return dataclasses.replace(plan.space.run(plan.run, trial.values), out=trial.folder(folder))


def epochs(plan: Plan, folder: Path, trial: Trial) -> int | None:
    """The epochs that a trial trains at the most; None where its values make no run."""
    try:
        whole = sum(phase.epochs for phase in run(plan, folder, trial).phases)
    except ValueError:
        return None
    return min(whole, trial.values.get(_EPOCHS, whole))


def checked(result: Result | None, plan: Plan) -> Result | None:
    """A result that can be compared and written down: one without a finite number for each objective is a failure."""
    if result is None:
        return None
    scores = {name: value for name, value in result.scores.items() if math.isfinite(value)}
    result = dataclasses.replace(result, scores=scores)
    if result.status == "failed":
        return result
    missing = [each.name for each in plan.objectives if each.name not in scores]
    if not missing:
        return result
    known = f"it has {', '.join(scores)}" if scores else "none of its scores is one"
    return dataclasses.replace(result, status="failed", reason=f"{missing[0]} is no finite number; {known}.")
